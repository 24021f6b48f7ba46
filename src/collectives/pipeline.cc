#include "collectives/pipeline.h"

#include <algorithm>
#include <cassert>

namespace hora::collectives {
namespace {

// So many segments are on their way beside the one that enters: enough that a link never waits for a reduction.
constexpr std::uint32_t kOverlap = 3;

bool is_transfer(const Move& move) {
  return move.action == Action::send || move.action == Action::receive;
}

class Planner {
 public:
  Planner(const Algorithm& algorithm, const Shape& shape, std::uint64_t segment_count)
      : kind_(algorithm.kind), count_(shape.count), segment_count_(std::max<std::uint64_t>(segment_count, 1)) {
    const auto segments = std::max<std::uint64_t>(1, (count_ + segment_count_ - 1) / segment_count_);
    segment_count_ = segments == 1 ? count_ : segment_count_;
    Shape part = shape;
    part.count = segment_count_;
    whole_ = algorithm.generate(part);
    const std::uint32_t stride = (whole_.rounds + kOverlap - 1) / kOverlap;
    plan_.lanes =
        std::min<std::uint32_t>((whole_.rounds + stride - 1) / stride + 1, static_cast<std::uint32_t>(segments));
    plan_.schedule.rounds = whole_.rounds;
    plan_.schedule.result_count = kind_ == Collective::barrier     ? 0
                                  : kind_ == Collective::allgather ? static_cast<std::uint64_t>(shape.size) * count_
                                                                   : count_;
    plan_.schedule.scratch_count = plan_.lanes * whole_.scratch_count;
    for (std::uint64_t segment = 0; segment + 1 < segments; ++segment) append(whole_, segment);
    part.count = count_ - (segments - 1) * segment_count_;
    append(part.count == segment_count_ ? whole_ : algorithm.generate(part), segments - 1);
    number(stride, shape.size);
  }
  Plan take() && { return std::move(plan_); }

 private:
  void append(const Schedule& part, std::uint64_t index) {
    Segment& segment = plan_.segments.emplace_back();
    segment.first_stage = static_cast<std::uint32_t>(plan_.stages.size());
    segment.offset = index * segment_count_;
    segment.count = std::min(segment_count_, count_ - segment.offset);
    const std::uint64_t scratch = index % plan_.lanes * whole_.scratch_count;
    for (std::uint32_t round = 0; round < part.rounds; ++round) {
      const std::size_t first = plan_.schedule.moves.size();
      append_moves(part, round, true, segment, scratch);
      const std::size_t transfers = plan_.schedule.moves.size() - first;
      append_moves(part, round, false, segment, scratch);
      const std::size_t moves = plan_.schedule.moves.size() - first;
      if (moves == 0) continue;
      plan_.stages.push_back({static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(transfers),
                              static_cast<std::uint32_t>(moves)});
    }
    segment.stages = static_cast<std::uint32_t>(plan_.stages.size()) - segment.first_stage;
  }

  void append_moves(const Schedule& part, std::uint32_t round, bool transfers, const Segment& segment,
                    std::uint64_t scratch) {
    const auto placed = [&](Region region) {
      if (region.buffer == Buffer::scratch) {
        region.offset += scratch;
      } else if (region.buffer == Buffer::result && kind_ == Collective::allgather) {
        // One part of the result, or a piece of one: parts are further apart in the whole.
        const std::uint64_t index = region.offset / std::max<std::uint64_t>(segment.count, 1);
        region.offset += segment.offset + index * (count_ - segment.count);
      } else {
        region.offset += segment.offset;
      }
      return region;
    };
    for (const Move& move : part.moves) {
      if (move.round != round || is_transfer(move) != transfers) continue;
      Move& copy = plan_.schedule.moves.emplace_back(move);
      copy.target = placed(move.target);
      copy.first_source = static_cast<std::uint32_t>(plan_.schedule.sources.size());
      for (const Region& source : part.sources_of(move)) plan_.schedule.sources.push_back(placed(source));
    }
  }

  // Gives the messages of each link their numbers in the order of time; of one time the oldest segment goes first.
  void number(std::uint32_t stride, int size) {
    std::vector<std::uint32_t> sent(static_cast<std::size_t>(size)), received(static_cast<std::size_t>(size));
    const auto segments = static_cast<std::uint64_t>(plan_.segments.size());
    std::vector<std::uint32_t> next_stage(segments, 0);
    std::uint64_t oldest = 0;
    for (std::uint64_t time = 0; oldest < segments; ++time) {
      for (std::uint64_t s = oldest; s < segments && s * stride <= time; ++s) {
        const Segment& segment = plan_.segments[s];
        const std::uint64_t round = time - s * stride;
        if (next_stage[s] < segment.stages) {
          const Stage& stage = plan_.stages[segment.first_stage + next_stage[s]];
          if (plan_.schedule.moves[stage.first_move].round == round) {
            number_stage(stage, sent, received);
            ++next_stage[s];
          }
        }
        if (s == oldest && round + 1 >= whole_.rounds) ++oldest;
      }
    }
  }

  void number_stage(const Stage& stage, std::vector<std::uint32_t>& sent, std::vector<std::uint32_t>& received) {
    for (std::uint32_t i = 0; i < stage.transfers; ++i) {
      Move& move = plan_.schedule.moves[stage.first_move + i];
      const auto peer = static_cast<std::size_t>(move.peer.value);
      move.message = move.action == Action::send ? sent[peer]++ : received[peer]++;
    }
  }

  const Collective kind_;
  const std::uint64_t count_;
  std::uint64_t segment_count_;
  Schedule whole_;  // of a segment that is not the last
  Plan plan_;
};

}  // namespace

Plan make_plan(const Algorithm& algorithm, const Shape& shape, std::uint64_t segment_count) {
  return Planner(algorithm, shape, segment_count).take();
}

}  // namespace hora::collectives
