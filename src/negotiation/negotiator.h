// The negotiated front of one member in one view: turns named tensors, submitted in any order, into one sequence of
// operations that is the same on every member. Sans-IO; whoever holds the engine's token calls it.
//
// A name that is new in this view, or comes with a request unlike the one last executed, is announced to the
// coordinator (the lowest rank) by message. All else is the fast path: with a Board a submission is one store and a
// group is read from the log, without a message and without an allocation.
//
// The holder's loop: poll(); while the negotiated channel is idle, start what next_execution() gives; when it ended
// (done or mismatch), finish_execution() first and only then release the callers, since they may submit the same name
// again. After every call but those three on the fast path, and after poll(): take_actions() when has_actions().
// Dropped at a view change, after conclude(); what has not ended is then submitted again, in any order, to the
// negotiator of the new view. From the report of a member on, on_message() is not called any more: what becomes of a
// name is what the reports say.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "base/wire.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/board.h"
#include "negotiation/coordinator.h"
#include "negotiation/messages.h"
#include "negotiation/name_index.h"
#include "negotiation/request.h"

namespace hora::negotiation {

// Names one submission of this member until it ends. Dense from 0; every submission of one name has the same.
using EntryId = std::uint32_t;

struct NegotiatorOptions {
  Duration stall_warning = std::chrono::seconds(10);      // who has not submitted is named after this long
  Duration operation_timeout = std::chrono::minutes(30);  // a submission that waits longer for a rank fails everywhere
  std::uint32_t names_max = kTensorsMax;                  // at most kTensorsMax; the same on all members
};

// The operation at one position of the response log. All members execute the same ones in the same order.
struct Execution {
  std::uint64_t position = 0;    // 1, 2, 3, ... in this view
  Signature signature;           // count is the sum over the entries
  std::vector<EntryId> entries;  // in the order in which they are fused; several only for an allreduce
};

struct Send {
  MemberId to;
  wire::Bytes message;
};

// The submission ended without a result. Same code and text on every member.
struct Failure {
  EntryId entry = 0;
  Status status;
};

// The next submissions of a name, which were rejected before they were made: so many of them fail, in whatever view.
struct Rejection {
  std::string name;
  Round submissions = 0;
  Status status;
};

struct Actions {
  std::vector<Send> sends;
  std::vector<Failure> failures;
  std::vector<std::string> stalls;  // to be logged as warnings: who has submitted what, who has not, for how long
};

class Negotiator {
 public:
  // `board` may be null (everything then goes by message) and must outlive this. `self` is a member of `view`.
  Negotiator(const NegotiatorOptions& options, const View& view, MemberId self, Board* board);

  // invalid_argument where the request is malformed or the name is still in flight; resource where there are too many
  // names; timed_out or mismatch where this round of the name has already been rejected. An empty shape means {count}.
  Result<EntryId> submit(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape,
                         TimePoint now);
  // Garbage, and what belongs to another view, has no effect. See epoch_of() for messages of a view not yet installed.
  void on_message(MemberId from, std::span<const std::byte> message, TimePoint now);
  // Coordinator: appends what is ready. Nothing to do elsewhere.
  void poll();

  // The next operation to start, or null: none yet, or the last one given has not been finished. Valid until
  // finish_execution().
  const Execution* next_execution();
  // The operation given by next_execution() ended; its entries are no longer in flight.
  void finish_execution();

  // The last rejection of each name in this view: part of what a member reports at its end.
  [[nodiscard]] std::vector<Reject> rejections() const;
  // The view ends, and these rejections were reported by somebody. A rejection reaches everybody who goes on or nobody:
  // else the same name would be one submission apart in the new view. Its failures are in take_actions().
  std::vector<Rejection> conclude(std::span<const Reject> reported);

  [[nodiscard]] std::optional<TimePoint> next_deadline() const;
  void on_deadline(TimePoint now);

  [[nodiscard]] bool has_actions() const noexcept {
    return !actions_.sends.empty() || !actions_.failures.empty() || !actions_.stalls.empty();
  }
  Actions take_actions() { return std::exchange(actions_, {}); }

  // The name of an entry that was given out.
  [[nodiscard]] std::string_view name_of(EntryId entry) const { return tensors_[entry].name; }
  [[nodiscard]] std::size_t in_flight() const noexcept { return in_flight_; }

 private:
  enum class Progress : std::uint8_t { idle, pending, executing };

  // What this member knows of one name.
  struct Tensor {
    std::string name;
    std::optional<TensorId> id;
    Progress progress = Progress::idle;
    bool announced = false;  // the submission in flight is for `proposed`; else it repeats `request`
    bool told = false;       // the coordinator knows of the submission in flight by message
    Request request;         // executed last, so that the same again needs no announcement; at first none can equal it
    Request proposed;
    Round round = 0;             // submissions so far
    Round rejected_through = 0;  // rounds up to here that were not executed never will be ...
    Status rejection;            // ... for this reason
    TimePoint since;             // of the submission in flight
  };

  std::optional<EntryId> intern(std::string_view name);
  void announce(EntryId entry, TimePoint now);
  void repeat(EntryId entry, TimePoint now);
  void broadcast();
  void apply(const Message& message);
  void apply(const Define& define);
  void apply(const Append& append);
  void apply(const Reject& reject);
  bool read_log();
  void contradict(TensorId id);
  void end(Tensor& tensor);
  void tell_overdue(TimePoint now);
  void send(Rank to, const Message& message);

  NegotiatorOptions options_;
  View view_;
  Rank self_;
  Board* board_;
  std::optional<Coordinator> coordinator_;
  NameIndex entries_;
  std::vector<Tensor> tensors_;                  // by EntryId
  std::vector<std::optional<EntryId>> defined_;  // by TensorId
  std::uint64_t executed_ = 0;                   // last position finished
  std::deque<std::vector<TensorId>> log_;        // unread groups, where there is no board
  std::uint64_t appended_ = 0;                   // last position put into log_
  std::vector<TensorId> group_;                  // the group that was read last
  bool group_read_ = false;                      // ... and has not been executed
  bool executing_ = false;
  Execution execution_;
  std::size_t in_flight_ = 0;
  std::optional<TimePoint> check_;  // when submissions that have been ready for long are looked for
  Status broken_;                   // the log contradicts what was submitted here
  Actions actions_;
};

}  // namespace hora::negotiation
