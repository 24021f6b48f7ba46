// The part of the lowest rank in the negotiation: collects what every member has submitted, compares the requests, and
// decides what is executed, with what, and in which order. All it says is said to every member alike.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "hora/types.hpp"
#include "interfaces/board.h"
#include "negotiation/fusion.h"
#include "negotiation/messages.h"
#include "negotiation/name_index.h"
#include "negotiation/request.h"

namespace hora::negotiation {

struct CoordinatorOptions {
  int size = 1;
  Rank self;
  std::uint64_t fusion_bytes = 0;  // most bytes of one group of several; 0: no group of several
  Duration stall_warning{};
  Duration operation_timeout{};
  std::uint32_t names_max = kTensorsMax;
};

class Coordinator {
 public:
  // `board` may be null and must outlive this.
  Coordinator(const CoordinatorOptions& options, Board* board);

  // A member, this one included, has submitted a round. What contradicts what it said before has no effect.
  void on_announce(Rank from, const Announce& announce, TimePoint now);
  void on_ready(Rank from, const Ready::Item& item, TimePoint now);

  // Appends groups of what is ready everywhere, given that this member has executed the log up to `executed`: a group
  // that is not full waits until nothing is queued before it, so that what arrives meanwhile joins it.
  void poll(std::uint64_t executed);

  [[nodiscard]] std::optional<TimePoint> next_deadline() const { return check_; }
  void on_deadline(TimePoint now);

  // To be said to every member, this one included, in this order.
  [[nodiscard]] bool has_broadcasts() const noexcept { return !broadcasts_.empty(); }
  std::vector<Message> take_broadcasts() { return std::exchange(broadcasts_, {}); }

 private:
  struct Announcement {
    Rank from;
    Request request;
  };

  // One name. `round` is the one being collected; all before it were executed or rejected.
  struct Tensor {
    std::string name;
    bool defined = false;  // every member was told the id
    bool agreed = false;   // this round: all members have submitted the same
    bool waiting = false;  // this round: some member is known to have submitted
    Round round = 1;
    std::int32_t arrived = 0;                 // ranks below this are known to have submitted this round
    std::uint32_t reports = 0;                // stall reports of this round
    Request request;                          // the one executed last, which an unannounced submission repeats
    std::vector<Announcement> announcements;  // of this round
    TimePoint since;                          // when this round was first submitted, as far as known
  };

  std::optional<TensorId> intern(std::string_view name);
  void submitted(TensorId id, Rank from, TimePoint since);
  [[nodiscard]] bool has_submitted(TensorId id, Rank rank) const;
  bool ready(TensorId id);
  void resolve(TensorId id);
  void collect();
  bool append();
  void reject(TensorId id, StatusCode code, std::string text);
  void next_round(TensorId id);
  void drop_decided();
  void check_at(TimePoint time);
  [[nodiscard]] std::string describe(TensorId id, TimePoint now) const;

  CoordinatorOptions options_;
  Board* board_;
  NameIndex ids_;
  std::vector<Tensor> tensors_;    // by TensorId
  std::vector<Round> told_;        // [id * size + rank]: last round told by message, or by this member
  std::vector<TensorId> pending_;  // submitted here and not decided, in the order of submission
  Fusion fusion_;
  std::uint64_t appended_ = 0;
  std::optional<TimePoint> check_;  // when to look for stalls and timeouts
  std::vector<Message> broadcasts_;
};

}  // namespace hora::negotiation
