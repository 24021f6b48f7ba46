// Collective algorithms as data: what one rank sends, receives, reduces and copies, in which order.
//
// A schedule is a pure function of (rank, size, count, root); the same function on every rank gives schedules that
// match. Law: every element of a replicated result is reduced in one place, or everywhere in the same order, so that
// all ranks hold the same bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hora/types.hpp"

namespace hora::collectives {

// Where a move reads and writes. `input` is this rank's contribution and is never written; `result` is what the
// operation leaves behind; `scratch` holds what arrives from others.
enum class Buffer : std::uint8_t { input, result, scratch };

// Elements [offset, offset + count) of a buffer.
struct Region {
  Buffer buffer = Buffer::input;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

enum class Action : std::uint8_t { send, receive, reduce, copy };

// One move of a rank. Moves are made in rounds. The sends and receives of a round run at the same time, so none of them
// reads or writes what another one writes; the reductions and copies follow, one after another. What is sent in a
// round is received in the same round of the other rank: then a schedule ends even if links hold nothing, since of all
// that is still to be moved the earliest round waits for nobody.
struct Move {
  Action action = Action::copy;
  std::uint32_t round = 0;
  Rank peer;                       // of send and receive
  std::uint32_t message = 0;       // of send and receive: which message between these two ranks, 0, 1, ...
  Region target;                   // of receive, reduce and copy
  std::uint32_t first_source = 0;  // of send, reduce and copy: where in Schedule::sources
  std::uint32_t source_count = 0;  // more than one for reduce only: they are reduced in this order
  bool last = false;               // of reduce: nothing more will be added
  bool divides = false;            // of reduce: an average is divided here
};

struct Schedule {
  std::vector<Move> moves;
  std::vector<Region> sources;
  std::uint64_t result_count = 0;   // elements of the result; the moves write each at least once
  std::uint64_t scratch_count = 0;  // elements of scratch
  std::uint32_t rounds = 1;         // the same on every rank, also where some of them are empty

  [[nodiscard]] std::span<const Region> sources_of(const Move& move) const {
    return std::span(sources).subspan(move.first_source, move.source_count);
  }
};

// Whose schedule is wanted: rank `rank` of `size`, each contributing `count` elements.
struct Shape {
  Rank rank;
  int size = 1;
  std::uint64_t count = 0;
  Rank root{0};  // of a broadcast
  // The host of each rank, numbered 0, 1, ... in the order of their first ranks. Empty: all are on one.
  std::span<const int> hosts = {};
  // What is reduced is rounded to half precision: as seldom as possible, and an average is divided before the first
  // time, or a sum that has not been divided could overflow.
  bool half = false;
};

// Where a schedule of some ranks takes place inside a schedule of more.
struct Embedding {
  std::span<const int> ranks;  // by their rank in the inner schedule
  Region input;                // of the inner schedule
  Region result;               // may be the input, whose contents are then lost
  std::uint64_t scratch = 0;   // its offset
  bool divided = false;        // an average, before: the inner schedule does not
};

// Appends moves and numbers the messages of each pair of ranks. Empty regions are left out, on both sides alike.
class ScheduleBuilder {
 public:
  ScheduleBuilder(const Shape& shape, std::uint64_t result_count, std::uint64_t scratch_count);

  // The moves that follow belong to round `round`, which is not before the one so far.
  void begin_round(std::uint32_t round);
  void send(int peer, Region source);
  void receive(int peer, Region target);
  // An average is divided by the last reduction of an element, unless `divides` says otherwise.
  void reduce(Region target, std::span<const Region> sources, bool last) { reduce(target, sources, last, last); }
  void reduce(Region target, std::span<const Region> sources, bool last, bool divides);
  void copy(Region target, Region source);
  // The moves of one round of a schedule among some of the ranks.
  void embed(const Schedule& inner, std::uint32_t inner_round, const Embedding& embedding);
  Schedule take() && { return std::move(schedule_); }

 private:
  Move& append(Action action, std::span<const Region> sources);

  Schedule schedule_;
  std::uint32_t round_ = 0;
  std::vector<std::uint32_t> sent_;  // messages so far, by peer
  std::vector<std::uint32_t> received_;
};

// Elements [0, count) cut into `slices` parts whose sizes differ by at most one: part `index`, in `buffer`.
Region slice(Buffer buffer, std::uint64_t count, int slices, int index);
// Parts first, first + 1, ..., last - 1 of the same cut, as one region.
Region slices(Buffer buffer, std::uint64_t count, int slices, int first, int last);

}  // namespace hora::collectives
