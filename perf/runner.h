// Measures one operation at one size: every rank runs this at the same time.
//
// Before each timed call the source is dirtied and all ranks meet; the slowest rank's time counts. Results are checked
// element by element before and after the timed calls, and in a few places after each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "hora/hora.hpp"
#include "perf/elements.h"
#include "perf/meeting_point.h"
#include "perf/report.h"

namespace hora::perf {

// Page-aligned memory of its own, all pages present.
class PageBuffer {
 public:
  // Throws Error (resource).
  explicit PageBuffer(std::size_t bytes);
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;
  ~PageBuffer();
  [[nodiscard]] std::span<std::byte> first(std::size_t bytes) const { return {base_, bytes}; }

 private:
  std::byte* base_;
  std::size_t bytes_;
};

class Runner {
 public:
  // Borrows all. Memory for the largest size is taken here.
  Runner(Communicator& comm, MeetingPoint& meeting, const RunOptions& options, std::uint64_t bytes_most, bool crowded);

  // Collective. Throws Error, also when the view changes: times of two views do not belong together.
  SizeResult measure(std::uint64_t bytes);

 private:
  // One operation with its memory; `bytes` is the size of the result.
  struct Call {
    std::span<std::byte> source, target;
    std::uint64_t count;  // elements that a rank gives
    std::string name;     // of the negotiated front
  };

  Call call_of(std::uint64_t bytes, Placement placement) const;
  void perform(const Call& call);
  Measurement measure_call(const Call& call, int calls);
  std::uint64_t verify(const Call& call);
  void dirty(const Call& call);
  [[nodiscard]] std::uint64_t count_wrong_samples(const Call& call) const;
  [[nodiscard]] Pattern inputs_of(int rank) const;
  [[nodiscard]] double expected_value(int block, std::uint64_t position) const;
  double measure_back_to_back(const Call& call, int calls);
  double measure_memcpy(std::uint64_t bytes, int calls);
  Summary slowest_of_ranks(std::vector<double> times_us);

  Communicator& comm_;
  MeetingPoint& meeting_;
  const RunOptions& options_;
  const int rank_;
  const int ranks_;
  const Epoch epoch_;
  const bool crowded_;
  std::uint64_t salt_ = 0;  // another one for each call: an old result is a wrong one
  PageBuffer source_, target_;
};

}  // namespace hora::perf
