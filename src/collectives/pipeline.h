// A schedule for data too long for one message: cut into segments that follow each other through its rounds.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "collectives/algorithms.h"
#include "collectives/schedule.h"

namespace hora::collectives {

// The moves of one round of one segment: `transfers` sends and receives, which run at the same time, then the others.
struct Stage {
  std::uint32_t first_move = 0;
  std::uint32_t transfers = 0;
  std::uint32_t moves = 0;
};

// Elements [offset, offset + count) of what every rank contributes: an operation of its own.
struct Segment {
  std::uint32_t first_stage = 0;
  std::uint32_t stages = 0;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

// Segments s, s + lanes, s + 2 * lanes, ... share a piece of scratch and are played one after another; the lanes run
// beside each other, so that one segment is reduced while the next ones travel. A rank sends the messages of a link in
// the order of their numbers.
//
// Law: segment s enters its first round at time s * stride and goes on by one round at a time. Messages are numbered by
// that time on all ranks alike, and a lane has room again when its next segment is due, so what is sent at a time
// waits for nothing but what was sent at earlier times: a plan ends even if links hold nothing.
struct Plan {
  Schedule schedule;  // its moves by segments, and in these by rounds
  std::vector<Stage> stages;
  std::vector<Segment> segments;
  std::uint32_t lanes = 1;

  [[nodiscard]] std::span<const Move> moves_of(const Stage& stage) const {
    return std::span(schedule.moves).subspan(stage.first_move, stage.moves);
  }
};

// With segments of `segment_count` elements, the last one shorter. The same on every rank that asks for the same shape.
Plan make_plan(const Algorithm& algorithm, const Shape& shape, std::uint64_t segment_count);

}  // namespace hora::collectives
