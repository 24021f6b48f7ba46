// Hands each sample of a data set out exactly once per epoch, in a shuffled order, while the number of ranks changes.
//
//   hora::Sampler sampler(images.size(), /*seed=*/7);
//   while (sampler.epoch() < 10) {
//     const auto share = sampler.next(/*batch=*/240, comm.rank(), comm.size());
//     sum_gradients(images, share, gradient);                          // sums over the share; zeros where it is empty
//     hora::Handle marks = comm.allreduce_async("marks", sampler.marks());          // sums, as the gradients
//     comm.allreduce_async("gradient", std::span(gradient)).wait();
//     marks.wait();
//     const std::uint64_t samples = sampler.commit();
//     if (samples == 0) continue;                                      // this step does not count: drop its gradient
//     descend(gradient, 1.0f / samples);
//   }
//
// How it comes to "exactly once". Pure arithmetic: seed and epoch give an order of all samples, and a batch is the next
// of them that are not consumed, shared out by rank and size. Which shares went into a step is not guessed from who is
// alive: every rank marks its share in marks(), and the sums of the marks, which have the same bits on every survivor,
// say it. commit() consumes what is marked once. A share that is not marked, because its rank died in the step, is
// handed out again, first of all, to those that are left. Where a part is marked twice (two ranks were told of a new
// view at different calls and shared the batch out differently), the step does not count on any rank, and all of it is
// handed out again.
//
// So each sample is consumed exactly once per epoch. What is in the gradient of a step that a death interrupts is
// decided by hora for each operation: operations that ended before the death hold the share of the dead one as well,
// whatever the marks say. Where that matters, reduce gradients and marks as one tensor, or drop a step whose commit()
// consumed less than drawn().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hora/export.hpp"
#include "hora/hora.hpp"

namespace hora {

// Not thread safe. All ranks of a job hold equal samplers: the same constructor arguments, the same batches, and a
// newcomer restores the state of the others. Failures throw Error.
class HORA_EXPORT Sampler {
 public:
  // Positions [begin, end) of an epoch's order.
  struct Range {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    friend bool operator==(const Range&, const Range&) = default;
  };
  // All that a newcomer needs, of a fixed size and without pointers: it can be registered, broadcast or written to a
  // checkpoint as it is. Equal on all ranks after the same commit().
  struct State {
    static constexpr std::size_t kReturnedMax = 32;

    std::uint64_t samples = 0;
    std::uint64_t seed = 0;
    std::uint64_t epoch = 0;
    std::uint64_t cursor = 0;                  // positions of the order that have been handed out
    std::uint64_t returned_count = 0;          // of the ranges in `returned`
    std::array<Range, kReturnedMax> returned;  // below the cursor and not consumed: shares of the dead, ascending
    friend bool operator==(const State&, const State&) = default;
  };

  // invalid_argument: no samples, or more than 2^62.
  Sampler(std::uint64_t samples, std::uint64_t seed);

  // Indices, below the number of samples, of this rank's share of the next `batch` samples; the same batch, shared out
  // anew, when the last one was not committed. Fewer at the end of an epoch, and possibly none for this rank: it takes
  // part in the step's collectives all the same. Valid until the next call. invalid_argument: an empty batch, or a rank
  // that is not below size.
  std::span<const std::uint64_t> next(std::uint64_t batch, int rank, int size);
  // Which parts of the batch this rank works on: at most kMarksMax numbers, as many on all ranks. To be summed in place
  // over all ranks, in the step, before commit().
  static constexpr std::uint64_t kMarksMax = 1024;
  [[nodiscard]] std::span<float> marks() noexcept { return marks_; }
  // Consumes what the summed marks say, and returns how many samples that are: what sums of the step are divided by.
  // 0: the step does not count. When the last sample of an epoch is consumed, the next epoch begins.
  // invalid_argument: no batch was drawn, or the marks are no sums.
  std::uint64_t commit();

  // Samples in the batch that was drawn last, over all ranks; 0 once it is committed.
  [[nodiscard]] std::uint64_t drawn() const noexcept { return drawn_; }
  // From 0.
  [[nodiscard]] std::uint64_t epoch() const noexcept { return state_.epoch; }
  // Samples of this epoch that are not consumed.
  [[nodiscard]] std::uint64_t remaining() const noexcept;

  [[nodiscard]] const State& state() const noexcept { return state_; }
  // Forgets a batch that was drawn. invalid_argument: of another data set or seed, or damaged.
  void restore(const State& state);

 private:
  [[nodiscard]] std::vector<Range> take(std::uint64_t count) const;
  [[nodiscard]] bool apply(const std::vector<Range>& missing, const std::vector<Range>& batch);

  State state_;
  std::uint64_t drawn_ = 0;
  std::uint64_t part_ = 1;    // samples behind one mark
  std::vector<Range> batch_;  // what was drawn, ascending
  std::vector<std::uint64_t> share_;
  std::vector<float> marks_;
};

}  // namespace hora
