// The seam of the data plane: whole operations over a view, made fault tolerant by reports and verdicts.
//
// Not thread safe: whoever holds the engine's token calls it. Freezing (protocol law 3) is taking that token: from then
// on no unit can become DONE until install().
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/time.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/operation.h"

namespace hora {

enum class Step : std::uint8_t {
  pending,   // nothing more can be done before a peer moves, or, where moves() grew, before another call
  done,      // the operation ended: its result is in the targets and retained; the channel is idle
  mismatch,  // the operation ended: signatures differ, nothing was written; the channel is idle. Same on every rank
};

// What a frozen member says of one channel. Exact: `done` and `reduced` cannot grow until the next install.
struct ChannelReport {
  std::uint64_t done = 0;         // sequence of the last operation that is DONE here
  bool active = false;            // operation done + 1 was started here
  bool expired = false;           // ... and is older than the operation timeout here (filled in by the engine)
  Signature signature;            // ... of that operation
  bool overwrites_input = false;  // ... its output may overwrite its input unit by unit (in place and not fully staged)
  // For a chunked allreduce whose ranks have all arrived: entry r is how many units (slice r of chunks 0, 1, ...) are
  // known here to be reduced and stored by rank r of the frozen view. Empty otherwise.
  std::vector<std::uint64_t> reduced;
};

enum class Fate : std::uint8_t {
  redo,    // no survivor holds any of it: everybody does it again, whole, in the new view
  resume,  // the units in `reduced` are committed; the rest is done in the new view
  broken,  // it cannot be done: the same error on every member, also on those that have not called it yet
};

// What an INSTALL decides for one channel; the same on every member.
struct ChannelVerdict {
  std::uint64_t committed = 0;         // operations up to here are DONE at a survivor: who is behind finishes its copy
  Fate next = Fate::redo;              // of operation committed + 1
  std::vector<std::uint64_t> reduced;  // for resume: committed units of each rank of the old view
  std::string cause;                   // for broken
};

class GroupTransport {
 public:
  virtual ~GroupTransport() = default;

  // Starts `operation` and makes what progress it can. The extents must stay valid until it ends. Precondition: the
  // channel is idle and operation.sequence is the next one.
  virtual Step start(const Operation& operation) = 0;
  // Makes what progress is possible without waiting. Precondition: an operation is active on the channel.
  virtual Step step(Channel channel) = 0;

  // Members whose result the last ended operation contains: the divisor of an average. After a resume, of its last
  // unit.
  [[nodiscard]] virtual int contributors(Channel channel) const = 0;
  // Grows whenever start() or step() moved bytes: a driver that sees it grow need not back off yet.
  [[nodiscard]] std::uint64_t moves() const noexcept { return moves_; }
  // Operations up to here are known to be DONE at every member (STABLE); at most what is DONE here.
  [[nodiscard]] virtual std::uint64_t stable(Channel channel) const = 0;
  // Ranks whose start of the active operation has not been seen here.
  [[nodiscard]] virtual std::vector<Rank> missing(Channel channel) const = 0;
  // What each rank said of the operation that ended in a mismatch, in rank order.
  [[nodiscard]] virtual std::vector<Signature> signatures(Channel channel) const = 0;

  // Sleeping. begin_sleep() asks peers to wake this process; the caller then steps once more and, if still pending and
  // `wake_word` still reads `seen`, calls sleep(), which returns when a peer moved, the word changed or `timeout`
  // passed. Whoever changes the word calls FUTEX_WAKE_PRIVATE on it. end_sleep() ends the request.
  virtual void begin_sleep() = 0;
  virtual void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) = 0;
  virtual void end_sleep() = 0;
  // Ends a sleep() that does not wait on the wake word itself, because it waits for sockets. Thread safe.
  virtual void wake() noexcept {}

  [[nodiscard]] virtual ChannelReport report(Channel channel) const = 0;
  // Enters `next`, whose members are all members of the view before. First finishes what `verdicts` (one for each
  // channel) commits, from retained slots, without waiting for anybody; a broken operation just ends. An operation to
  // be redone or resumed stays active and goes on with step(). Operations of the new view move no byte before every
  // member of it has come this far, so no retained slot is overwritten early.
  // Where survivors share no memory, a committed operation that is one behind stays active until a survivor's result
  // has come: step() ends it, and settle() on the survivors sends it.
  virtual void install(const View& next, std::span<const ChannelVerdict> verdicts) = 0;
  // After install(), until true: sends what other members still need from here. start() and step() do it too, so only a
  // member with nothing else to do calls it. Always true where survivors share memory.
  virtual bool settle() { return true; }

 protected:
  std::uint64_t moves_ = 0;
};

}  // namespace hora
