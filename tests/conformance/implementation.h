// What the conformance suite runs over: every GroupTransport registers here, in one line of implementations.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "hora/view.hpp"
#include "interfaces/group_transport.h"

namespace hora::conformance {

// The ranks of one job. Groups may be used by one thread each, or all by one thread.
//
// Where each rank is a process, all of them run the same cases at the same time, and each sees to the rank it holds.
class Job {
 public:
  virtual ~Job() = default;
  // Whether the group of `rank` is in this process.
  [[nodiscard]] virtual bool holds(int rank) const { return static_cast<void>(rank), true; }
  // Whether only the thread that made the job may use its groups.
  [[nodiscard]] virtual bool bound_to_thread() const { return false; }
  // Every process calls it; those that hold a rank give what must be the same on all of them. False: it is not.
  virtual bool agree(std::span<const std::byte> bytes) { return static_cast<void>(bytes), true; }
  // The group of the member that has `rank` in the founding view; in that view at first.
  virtual GroupTransport& group(int rank) = 0;
  // As if that member's process had died just now. Its group is not called again. `lose_in_flight`: what it has sent
  // and nobody has received is lost with it, where that can happen.
  virtual void stop(int rank, bool lose_in_flight) = 0;
  // The group of a newcomer, the last member of `view`, at which all others have ended the operations up to `done`. It
  // counts as the next founding rank. Null where newcomers are not for the transport to receive.
  virtual GroupTransport* join(const View& view, const Positions& done) {
    return static_cast<void>(view), static_cast<void>(done), nullptr;
  }
};

struct Implementation {
  const char* name;
  std::unique_ptr<Job> (*make)(const View& founding);
  int size_max;
  // On which host a rank of a job of `size` ranks is.
  std::uint64_t (*host_of)(int rank, int size);
  // Where a job is dear to make, one in so many of the random schedules of failures is enough.
  std::uint64_t cost;
  // Why ranks cannot die or join; empty: they can.
  std::string_view fixed = {};
  Transport transport = Transport::mixed;  // as the view names it
};

std::span<const Implementation> implementations();
// Those whose ranks can die and join. A case for which there are none is skipped, with the reason.
std::vector<Implementation> elastic_implementations();

// The founding view of a job of `size` ranks, with chunks so small that few bytes fill several.
inline constexpr std::uint32_t kChunkBytes = 4096;
View founding_view(const Implementation& implementation, int size);
// The member that has `rank` there.
MemberId founding_member(int rank);
// The view of epoch + 1 without the member that had `rank` in `view`.
View view_without(const View& view, MemberId member);

}  // namespace hora::conformance
