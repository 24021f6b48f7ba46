// One channel of a ScheduleGroup: the operation that is being played, and the outcome of the last one, retained.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/wire.h"
#include "collectives/schedule.h"
#include "interfaces/group_transport.h"
#include "interfaces/pair_transport.h"

namespace hora::collectives {

// Plays one operation at a time: first the arrival, in which every rank sends its signature to every other, then the
// moves of the schedule that the signature selects, then the copy of the result into the targets. The result is built
// in memory of the player, which keeps the last outcome until all ranks have arrived at the next operation: nobody is
// then behind it. So no operation overwrites an input before it is DONE, and survivors differ by at most one operation.
//
// A link that reports an error makes no progress; the failure of its peer is for membership to find out.
class SchedulePlayer {
 public:
  SchedulePlayer(PairTransport& links, Channel channel) : links_(links), channel_(channel) {}

  // The view in which operations are played from now on. An active operation needs redo() or await_forward() next.
  void enter(Epoch epoch, Rank rank, int size);

  // Begins an operation; play() follows until it does not return pending.
  void start(const Operation& operation);
  Step play();

  // Begins the active operation again in the view entered last, from its inputs, which are intact. The root is named by
  // its rank there.
  void redo(Rank root);
  // The active operation is done at a survivor: play() waits for its outcome, as soon as it is known from whom.
  void await_forward(Rank root);
  void set_forwarder(Rank from) { forwarder_ = from; }
  // Sends the retained outcome to a rank that awaits it. `messages_sent` makes it resumable; true when all are sent.
  bool forward(Rank to, int& messages_sent);
  // Ends the active operation without an outcome.
  void abandon() { active_ = false, forwarded_ = false; }

  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] bool awaits_forward() const { return active_ && forwarded_; }
  // Sequence of the operation whose outcome is retained; 0 before the first.
  [[nodiscard]] std::uint64_t retained() const { return retained_; }
  [[nodiscard]] const Signature& signature() const { return operation_.signature; }
  // Of the retained outcome: what each rank said, where it is a mismatch; and whose inputs it contains.
  [[nodiscard]] const std::vector<Signature>& retained_signatures() const { return retained_signatures_; }
  [[nodiscard]] int contributors() const { return contributors_; }
  // Ranks whose start of the active operation has not been seen.
  [[nodiscard]] std::vector<Rank> missing() const;

 private:
  void prepare();
  void meet();
  [[nodiscard]] bool has_met_all() const { return greeted_count_ == size_ && arrived_count_ == size_; }
  [[nodiscard]] bool signatures_agree() const;
  bool make(const Move& move);
  bool send(const Move& move);
  bool receive(const Move& move);
  void reduce(const Move& move);
  Step receive_forward();
  bool receive_header();
  Step finish(Step outcome);
  void copy_in();
  void copy_out() const;
  void resize_result();
  [[nodiscard]] Tag tag(std::uint64_t sequence, std::uint32_t step) const {
    return {epoch_, static_cast<std::uint8_t>(channel_), sequence, step};
  }
  [[nodiscard]] std::size_t element_bytes() const { return size_of(operation_.signature.dtype); }
  [[nodiscard]] std::span<const std::byte> bytes_of(const Region& region) const;
  [[nodiscard]] std::span<std::byte> writable(const Region& region);

  PairTransport& links_;
  const Channel channel_;
  Epoch epoch_;
  Rank rank_;
  int size_ = 0;

  // The active operation.
  bool active_ = false;
  Operation operation_;
  wire::Bytes greeting_;       // our signature
  std::vector<bool> greeted_;  // who has been sent it
  std::vector<bool> arrived_;  // whose signature has come
  int greeted_count_ = 0;
  int arrived_count_ = 0;
  std::vector<Signature> signatures_;  // of those
  Schedule schedule_;
  std::size_t next_move_ = 0;
  const std::byte* input_ = nullptr;  // the source of the only extent, or gathered_
  std::vector<std::byte> gathered_;   // several sources in one piece
  std::vector<std::byte> scratch_;
  bool forwarded_ = false;    // the outcome comes from a survivor
  Rank forwarder_;            // negative until it is known
  bool header_read_ = false;  // of the forwarded outcome
  Step forwarded_outcome_ = Step::done;
  int forwarded_contributors_ = 0;

  // The last outcome.
  std::uint64_t retained_ = 0;
  Step outcome_ = Step::done;
  int contributors_ = 0;
  std::vector<Signature> retained_signatures_;
  std::vector<std::byte> result_;
};

}  // namespace hora::collectives
