// Links that carry the founding view over one transport and every later view over another: MPI does not outlive a
// death, and newcomers are not in it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "interfaces/pair_transport.h"

namespace hora::engine {

class FoundingLinks final : public PairTransport {
 public:
  // `founding` is borrowed: whoever gave it also ends it, once it is not used any more.
  FoundingLinks(PairTransport& founding, std::unique_ptr<PairTransport> later)
      : founding_(founding), later_(std::move(later)) {}

  // The first view is the founding one. Both enter it, so that the other transport knows who leaves it.
  void enter(const View& view) override {
    if (current_ == nullptr) {
      founding_.enter(view);
      current_ = &founding_;
    } else {
      current_ = later_.get();
    }
    later_->enter(view);
  }
  bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) override {
    const std::uint64_t before = current_->moves();
    const bool sent = current_->try_send(to, tag, data);
    moves_ += current_->moves() - before;
    return sent;
  }
  Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) override {
    const std::uint64_t before = current_->moves();
    auto received = current_->try_receive(from, tag, data);
    moves_ += current_->moves() - before;
    return received;
  }
  void begin_sleep() override { current_->begin_sleep(); }
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override {
    current_->sleep(wake_word, seen, timeout);
  }
  void end_sleep() override { current_->end_sleep(); }
  // By any thread, which cannot know the view.
  void wake() noexcept override {
    founding_.wake();
    later_->wake();
  }

 private:
  PairTransport& founding_;
  const std::unique_ptr<PairTransport> later_;
  PairTransport* current_ = nullptr;  // the one of the view entered last
};

}  // namespace hora::engine
