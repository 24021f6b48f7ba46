// Where ranks meet before each timed call: a spinning barrier in a mapping of our own, so that no library's barrier
// decides the result.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "hora/hora.hpp"

namespace hora::perf {

class MeetingPoint {
 public:
  // Collective. Rank 0 makes the mapping (a memfd without a name) and the others open it through /proc. Where one of
  // them cannot (another host or pid namespace), all use the library's barrier instead. `crowded`: ranks outnumber the
  // CPUs, so waiting yields.
  MeetingPoint(Communicator& comm, bool crowded);
  MeetingPoint(const MeetingPoint&) = delete;
  MeetingPoint& operator=(const MeetingPoint&) = delete;
  ~MeetingPoint();

  // Returns when all ranks have come. Throws Error (timed_out, naming a rank) when one does not within a minute.
  void meet();
  // "in shared memory" or "at the library's barrier".
  [[nodiscard]] const char* description() const noexcept;

 private:
  // Two lines each, because processors fetch pairs of lines.
  struct alignas(128) Slot {
    std::atomic<std::uint64_t> value;
  };

  void await(int rank);

  Communicator& comm_;
  int rank_;
  int size_;
  bool crowded_;
  std::uint64_t turn_ = 0;
  std::size_t mapping_bytes_;
  // Null: the library's barrier. The first holds a number that tells this mapping from whatever else an equal pid and
  // descriptor may name; the others the turn that each rank has come to.
  Slot* slots_ = nullptr;
};

}  // namespace hora::perf
