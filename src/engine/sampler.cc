#include "hora/sampler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/index_permutation.h"
#include "base/random.h"

namespace hora {
namespace {

using Range = Sampler::Range;

[[noreturn]] void refuse(std::string why) {
  throw Error(Status(StatusCode::invalid_argument, "sampler: " + std::move(why)));
}

// Appends to ascending ranges; what touches becomes one.
void append(std::vector<Range>& ranges, Range range) {
  if (range.begin == range.end) return;
  if (!ranges.empty() && ranges.back().end == range.begin)
    ranges.back().end = range.end;
  else
    ranges.push_back(range);
}

// The positions at offsets [begin, end) of what `ranges` hold.
std::vector<Range> slice(const std::vector<Range>& ranges, std::uint64_t begin, std::uint64_t end) {
  std::vector<Range> result;
  std::uint64_t offset = 0;
  for (const Range& range : ranges) {
    const std::uint64_t length = range.end - range.begin;
    const std::uint64_t from = std::clamp(begin, offset, offset + length);
    const std::uint64_t to = std::clamp(end, offset, offset + length);
    append(result, {range.begin + (from - offset), range.begin + (to - offset)});
    offset += length;
  }
  return result;
}

// An epoch's own seed. Neighbouring epochs and seeds have nothing in common.
std::uint64_t seed_of(std::uint64_t seed, std::uint64_t epoch) {
  return Random(Random(seed).next() ^ epoch).next();
}

}  // namespace

Sampler::Sampler(std::uint64_t samples, std::uint64_t seed) {
  if (samples == 0 || samples > std::uint64_t{1} << 62) refuse(fmt::format("{} samples", samples));
  state_.samples = samples;
  state_.seed = seed;
}

std::uint64_t Sampler::remaining() const noexcept {
  std::uint64_t count = state_.samples - state_.cursor;
  for (std::size_t i = 0; i < state_.returned_count; ++i) count += state_.returned[i].end - state_.returned[i].begin;
  return count;
}

// The next `count` positions: what was returned before what is new. Precondition: so many remain.
std::vector<Range> Sampler::take(std::uint64_t count) const {
  std::vector<Range> open;
  for (std::size_t i = 0; i < state_.returned_count; ++i) append(open, state_.returned[i]);
  append(open, {state_.cursor, state_.samples});
  return slice(open, 0, count);
}

std::span<const std::uint64_t> Sampler::next(std::uint64_t batch, int rank, int size) {
  if (batch == 0) refuse("an empty batch");
  if (rank < 0 || rank >= size) refuse(fmt::format("rank {} of {}", rank, size));
  drawn_ = std::min(batch, remaining());
  batch_ = take(drawn_);
  part_ = (drawn_ - 1) / kMarksMax + 1;
  const std::uint64_t parts = (drawn_ - 1) / part_ + 1;
  const auto first_part = [&](int one) {
    return parts * static_cast<std::uint64_t>(one) / static_cast<std::uint64_t>(size);
  };
  const std::uint64_t begin = first_part(rank), end = first_part(rank + 1);
  marks_.assign(parts, 0.0F);
  std::fill(marks_.begin() + static_cast<std::ptrdiff_t>(begin), marks_.begin() + static_cast<std::ptrdiff_t>(end),
            1.0F);
  share_.clear();
  const IndexPermutation order(state_.samples, seed_of(state_.seed, state_.epoch));
  for (const Range& range : slice(batch_, begin * part_, std::min(end * part_, drawn_)))
    for (std::uint64_t position = range.begin; position < range.end; ++position) share_.push_back(order(position));
  return share_;
}

std::uint64_t Sampler::commit() {
  if (drawn_ == 0) refuse("nothing was drawn that could be committed");
  std::vector<Range> missing;
  std::uint64_t consumed = drawn_;
  bool repeated = false;
  for (std::size_t part = 0; part < marks_.size(); ++part) {
    const float mark = marks_[part];
    if (!(mark >= 0.0F) || mark != static_cast<float>(static_cast<std::int64_t>(mark)))
      refuse(fmt::format("a mark is {}: marks are summed over the ranks", mark));
    repeated = repeated || mark > 1.0F;
    if (mark != 0.0F) continue;
    const std::uint64_t begin = part * part_, end = std::min(begin + part_, drawn_);
    consumed -= end - begin;
    for (const Range& range : slice(batch_, begin, end)) append(missing, range);
  }
  const std::vector<Range> batch = std::exchange(batch_, {});
  drawn_ = 0;
  if (repeated || consumed == 0) return 0;
  return apply(missing, batch) ? consumed : 0;
}

// Consumes `batch` but what is `missing` of it. False, and nothing has changed, when the rest has more pieces than the
// state can hold.
bool Sampler::apply(const std::vector<Range>& missing, const std::vector<Range>& batch) {
  // What was drawn comes from the beginning of what was returned, so the rest of that comes after it.
  std::vector<Range> returned = missing;
  const std::uint64_t last = batch.back().end;
  for (std::size_t i = 0; i < state_.returned_count; ++i) {
    const Range& range = state_.returned[i];
    append(returned, {std::clamp(last, range.begin, range.end), range.end});
  }
  if (returned.size() > State::kReturnedMax) return false;
  state_.cursor = std::max(state_.cursor, last);
  state_.returned = {};
  std::copy(returned.begin(), returned.end(), state_.returned.begin());
  state_.returned_count = returned.size();
  if (remaining() == 0) {
    state_.cursor = 0;
    ++state_.epoch;
  }
  return true;
}

void Sampler::restore(const State& state) {
  if (state.samples != state_.samples || state.seed != state_.seed)
    refuse(fmt::format("a state of {} samples and seed {}, not of {} and {}", state.samples, state.seed, state_.samples,
                       state_.seed));
  bool sound = state.cursor <= state.samples && state.returned_count <= State::kReturnedMax;
  // An epoch of which nothing is left is over: the next has begun.
  sound = sound && (state.cursor < state.samples || state.returned_count > 0);
  std::uint64_t least = 0;
  for (std::size_t i = 0; sound && i < state.returned_count; ++i) {
    const Range& range = state.returned[i];
    sound = range.begin >= least && range.begin < range.end && range.end <= state.cursor;
    least = range.end + 1;  // ranges that touch would be one
  }
  if (!sound) refuse("a damaged state");
  state_ = state;
  drawn_ = 0;
  batch_.clear();
}

}  // namespace hora
