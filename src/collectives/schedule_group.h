// A GroupTransport over any PairTransport: plays the schedules of this folder and recovers by forwarding retained
// results.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectives/schedule_messages.h"
#include "collectives/schedule_player.h"
#include "hora/view.hpp"
#include "interfaces/group_transport.h"
#include "interfaces/pair_transport.h"

namespace hora::collectives {

// The unit is the operation: results are built in library memory, so report() never says that an input may be
// overwritten, and no verdict is a resume.
//
// Survivors share no memory, so install() cannot finish a committed operation by itself. It leaves it active; members
// tell each other what they retain, and the lowest rank that has the outcome sends it. Operations of the new view wait
// until this rank has sent what it owes (settle()), and end only when all have arrived, which a rank does after it has
// caught up: no retained outcome is given up early. The next view may have newcomers; they take part in the exchange.
class ScheduleGroup final : public GroupTransport {
 public:
  // Enters `view`, of which `self` is a member, on `links`. For a founder.
  ScheduleGroup(std::unique_ptr<PairTransport> links, MemberId self, const View& view);
  // For a newcomer: enters the first view that it is a member of, at which all others have ended exactly the operations
  // up to `done` and install that view. It has no outcome of them and never forwards one.
  ScheduleGroup(std::unique_ptr<PairTransport> links, MemberId self, const View& view, const Positions& done);

  Step start(const Operation& operation) override;
  Step step(Channel channel) override;
  [[nodiscard]] int contributors(Channel channel) const override { return lane(channel).player.contributors(); }
  // Whoever has an outcome has seen all arrive at that operation, or knows somebody who has; all had then ended the one
  // before. That an operation is broken says nothing of the one before it: somebody may still wait for its outcome.
  [[nodiscard]] std::uint64_t stable(Channel channel) const override {
    if (view_.size() == 1) return lane(channel).done;
    return std::max<std::uint64_t>(lane(channel).player.last().sequence, 1) - 1;
  }
  [[nodiscard]] std::vector<Rank> missing(Channel channel) const override { return lane(channel).player.missing(); }
  [[nodiscard]] std::vector<Signature> signatures(Channel channel) const override {
    return lane(channel).player.retained_signatures();
  }

  void begin_sleep() override {
    moves_before_sleep_ = moves_;
    links_->begin_sleep();
  }
  // A step that moved something need not have come to the end of what was possible, and so need not have asked the
  // links for all that it waits for.
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override {
    if (moves_ == moves_before_sleep_) links_->sleep(wake_word, seen, timeout);
  }
  void end_sleep() override { links_->end_sleep(); }
  void wake() noexcept override { links_->wake(); }

  [[nodiscard]] ChannelReport report(Channel channel) const override;
  void install(const View& next, std::span<const ChannelVerdict> verdicts) override;
  bool settle() override;

 private:
  struct Lane {
    SchedulePlayer player;
    std::uint64_t done = 0;
    // Ended as broken by a verdict, perhaps while the operation before it still waited to be forwarded; 0: none.
    std::uint64_t broken = 0;
  };
  // What passes between this rank and another one on entering a view.
  struct Peer {
    bool told = false;                                    // of our last outcomes
    bool heard = false;                                   // of its own
    std::array<std::byte, kLastOutcomesBytes> message{};  // that says so, as it comes
    LastOutcomes last{};
    std::array<int, kChannelCount> messages_forwarded{};
  };

  Lane& lane(Channel channel) { return lanes_[static_cast<std::size_t>(channel)]; }
  [[nodiscard]] const Lane& lane(Channel channel) const { return lanes_[static_cast<std::size_t>(channel)]; }
  void count_moves();
  void begin_settling();
  void install_lane(Lane& lane, const View& next, const ChannelVerdict& verdict);
  bool exchange_outcomes();
  bool forward_lane(std::size_t channel);

  std::unique_ptr<PairTransport> links_;
  const MemberId self_;
  View view_;
  Rank rank_;
  std::array<Lane, kChannelCount> lanes_;
  std::vector<Peer> peers_;  // by rank, this one included
  bool settled_ = true;
  std::uint64_t moves_before_sleep_ = 0;
};

}  // namespace hora::collectives
