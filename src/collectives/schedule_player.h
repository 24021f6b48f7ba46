// One channel of a ScheduleGroup: the operation that is being played, and the outcome of the last one, retained.
//
// Hot path: an operation like one of the last few allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "collectives/byte_buffer.h"
#include "collectives/pipeline.h"
#include "collectives/schedule_messages.h"
#include "interfaces/group_transport.h"
#include "interfaces/pair_transport.h"

namespace hora::collectives {

// Plays one operation at a time: first the arrival, in which every rank sends its signature to every other, then the
// moves of the plan that the signature selects, then the copy of the result into the targets. The result is built in
// memory of the player, which keeps the last outcome until all ranks have arrived at the next operation: nobody is
// then behind it. So no operation overwrites an input before it is DONE, and survivors differ by at most one operation.
//
// All that the plan allows is under way at once: sends beside receives, and several segments one behind the other. A
// target that is no input is filled segment by segment, while the bytes are in the cache.
//
// An outcome is DONE, retained and reported as such, before a target that is an input is filled: that takes several
// steps where it is long, and a view change that comes in between has nothing to decide about it.
//
// What is received goes to memory of the player, also the shortest message: links may fill it in several calls.
//
// A link that reports an error makes no progress; the failure of its peer is for membership to find out.
class SchedulePlayer {
 public:
  SchedulePlayer(PairTransport& links, Channel channel) : links_(links), channel_(channel) {}

  // A newcomer begins after operation `done`, of which it has nothing.
  void begin_after(std::uint64_t done) { last_ = {done, false}; }
  // The view in which operations are played from now on. An active operation that is not done needs redo() or
  // await_forward() next.
  void enter(const View& view, Rank rank);

  // Begins an operation; play() follows until it does not return pending.
  void start(const Operation& operation);
  Step play();

  // Begins the active operation again in the view entered last, from its inputs, which are intact. The root is named by
  // its rank there.
  void redo(Rank root);
  // The active operation is done at a survivor: play() waits for its outcome, as soon as it is known from whom.
  void await_forward(Rank root);
  void set_forwarder(Rank from) { forwarder_ = from; }
  // Sends the retained outcome to a rank that awaits it. `messages_sent` makes it resumable; true when all are sent.
  bool forward(Rank to, int& messages_sent);
  // Ends the active operation without an outcome.
  void abandon() { active_ = false, forwarded_ = false; }

  [[nodiscard]] bool active() const { return active_; }
  // The active operation is done, and play() fills its targets.
  [[nodiscard]] bool is_done() const { return active_ && done_; }
  [[nodiscard]] bool awaits_forward() const { return active_ && forwarded_; }
  // Grows with each piece that play() moves from the result to the targets of an operation that is done.
  [[nodiscard]] std::uint64_t pieces() const { return pieces_; }
  // Of the last operation that is done or a mismatch; sequence 0 before the first.
  [[nodiscard]] const LastOutcome& last() const { return last_; }
  [[nodiscard]] const Signature& signature() const { return operation_.signature; }
  // Of the retained outcome: what each rank said, where it is a mismatch; and whose inputs it contains.
  [[nodiscard]] const std::vector<Signature>& retained_signatures() const { return retained_signatures_; }
  [[nodiscard]] int contributors() const { return contributors_; }
  // Ranks whose start of the active operation has not been seen.
  [[nodiscard]] std::vector<Rank> missing() const;

 private:
  // A plan, and what it was made for. Those of the last few operations are kept.
  struct KnownPlan {
    Collective kind = Collective::barrier;
    DataType dtype = DataType::uint8;
    std::uint64_t count = 0;
    Rank root;
    Plan plan;
  };
  // Where one lane of the plan has come.
  struct Cursor {
    std::size_t segment = 0;
    std::uint32_t stage = 0;     // within the segment
    bool begun = false;          // that stage
    bool target_filled = false;  // with the segment, in the pass that reduced it
    std::uint32_t transfers_left = 0;
    std::vector<char> made;  // by transfer of the stage
  };

  void prepare();
  void meet();
  [[nodiscard]] bool has_met_all() const { return greeted_count_ == size_ && arrived_count_ == size_; }
  [[nodiscard]] bool signatures_agree() const;
  // The playing of the plan: schedule_player_moves.cc.
  void prepare_moves();
  const Plan& find_plan();
  void play_moves();
  bool play_stage(Cursor& cursor, const Stage& stage);
  bool send(const Move& move);
  bool receive(const Move& move);
  [[nodiscard]] bool fills_target(const Segment& segment, const Move& move) const;
  void reduce(const Move& move, std::byte* copy);
  // Elements [offset, offset + count) of every contribution: from the sources of several extents into one piece, and
  // from the result into the targets.
  void copy_in(std::uint64_t offset, std::uint64_t count);
  void copy_out(std::uint64_t offset, std::uint64_t count);
  [[nodiscard]] bool reads_source() const;
  [[nodiscard]] bool result_fills_targets() const;
  [[nodiscard]] std::size_t result_parts() const;
  Step receive_forward();
  bool receive_header();
  Step finish(Step outcome);
  Step fill_targets();
  [[nodiscard]] Tag tag(std::uint64_t sequence, std::uint32_t step) const {
    return {epoch_, static_cast<std::uint8_t>(channel_), sequence, step};
  }
  [[nodiscard]] std::size_t element_bytes() const { return size_of(operation_.signature.dtype); }
  [[nodiscard]] std::span<const std::byte> bytes_of(const Region& region) const;
  [[nodiscard]] std::span<std::byte> writable(const Region& region);

  PairTransport& links_;
  const Channel channel_;
  Epoch epoch_;
  Rank rank_;
  int size_ = 0;
  std::vector<int> hosts_;           // by rank, as in Shape
  std::uint64_t message_bytes_ = 0;  // about so long are the messages of large operations

  // The active operation.
  bool active_ = false;
  Operation operation_;
  std::array<std::byte, kSignatureBytes> greeting_{};             // our signature
  std::vector<char> greeted_;                                     // who has been sent it
  std::vector<char> arrived_;                                     // whose signature has come
  std::vector<std::array<std::byte, kSignatureBytes>> arrivals_;  // as they come
  int greeted_count_ = 0;
  int arrived_count_ = 0;
  std::vector<Signature> signatures_;  // of those; as many as the view has members in which it was last played
  bool fills_targets_early_ = false;   // they are no inputs
  std::array<KnownPlan, 8> plans_;
  std::size_t plans_made_ = 0;  // in this view; the oldest one makes room
  const Plan* plan_ = nullptr;  // one of them
  std::vector<Cursor> cursors_;
  std::size_t segments_left_ = 0;
  std::vector<std::uint32_t> sent_;   // messages so far, by peer
  const std::byte* input_ = nullptr;  // the source of the only extent, or gathered_
  ByteBuffer gathered_;               // several sources in one piece
  ByteBuffer scratch_;
  std::vector<const std::byte*> operands_;               // of a reduction
  bool forwarded_ = false;                               // the outcome comes from a survivor
  Rank forwarder_;                                       // negative until it is known
  std::array<std::byte, kOutcomeHeaderBytes> header_{};  // of the forwarded outcome
  bool header_read_ = false;
  Step forwarded_outcome_ = Step::done;
  std::vector<std::byte> forwarded_signatures_;
  bool done_ = false;  // its targets are being filled, up to element filled_
  std::uint64_t filled_ = 0;
  std::uint64_t pieces_ = 0;

  // The last outcome.
  LastOutcome last_;
  Step outcome_ = Step::done;
  int contributors_ = 0;
  std::vector<Signature> retained_signatures_;
  ByteBuffer result_;
};

}  // namespace hora::collectives
