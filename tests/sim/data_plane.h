// A model of a GroupTransport over shared memory, with the same reports, verdicts and installs, that moves sets of
// contributors instead of numbers. It checks by itself whatever must hold when it reads or writes.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/group_transport.h"
#include "sim/memory.h"

namespace hora::sim {

// How one operation ended here: what each element is made of, or an error.
struct Outcome {
  bool broken = false;
  std::vector<Contributions> elements;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// How one submission of a name ended: with an operation, or an error.
struct NameOutcome {
  std::uint64_t sequence = 0;  // of the operation; 0: it was rejected
  StatusCode code = StatusCode::ok;
  std::string text;
  // Who waits too long is described anew each time.
  friend bool operator==(const NameOutcome& a, const NameOutcome& b) {
    return a.sequence == b.sequence && a.code == b.code && (a.code == StatusCode::timed_out || a.text == b.text);
  }
};

// All results of a node, by channel and by name: the state of the model that it trains.
using ChannelPast = std::array<std::vector<Outcome>, kChannelCount>;
using NamedPast = std::map<std::string, std::vector<NameOutcome>>;
struct Past {
  ChannelPast channels;
  NamedPast named;
  friend bool operator==(const Past&, const Past&) = default;
};

// The same on every member that submits operation `sequence` of a channel.
struct OperationPlan {
  Collective kind = Collective::allreduce;
  bool chunked = false;    // in place, unit by unit
  bool last_root = false;  // the root is the last rank, not the first
};

class DataPlane {
 public:
  struct World {
    Memory* memory;
    std::function<void()> publish;                      // the flags of the own segment changed
    std::function<void(Channel)> poke;                  // call step() again soon
    std::function<void(Channel)> ended;                 // an operation ended
    std::function<bool()> expelled;                     // others have installed a view without this node
    std::function<void(const std::string&)> violation;  // a law was broken
  };

  // `founding` is empty for a newcomer, `nodes` how many there ever are.
  DataPlane(World world, int self, const View& founding, int nodes, int elements, Random* random);
  // A newcomer's first install, with the results that those it enters with hold.
  void enter(const View& next, std::span<const ChannelVerdict> verdicts, ChannelPast past);

  // Precondition: the channel is idle.
  void start(Channel channel, const OperationPlan& plan);
  // One small piece of progress, if there is any.
  void step(Channel channel);
  // What `writer` published is seen here from now on.
  void see(int writer, const Flags& flags) { seen_[static_cast<std::size_t>(writer)] = flags; }

  void freeze() { frozen_ = true; }
  [[nodiscard]] bool frozen() const { return frozen_; }
  [[nodiscard]] ChannelReport report(Channel channel) const;
  void install(const View& next, std::span<const ChannelVerdict> verdicts);

  // This node was expelled while it slept, and what it had to read is gone: it can only fence.
  [[nodiscard]] bool lost() const { return lost_; }
  [[nodiscard]] bool active(Channel channel) const { return state(channel).operation.has_value(); }
  [[nodiscard]] std::uint64_t done(Channel channel) const { return state(channel).outcomes.size(); }
  [[nodiscard]] const std::vector<Outcome>& outcomes(Channel channel) const { return state(channel).outcomes; }
  [[nodiscard]] ChannelPast past() const { return {outcomes(Channel::ordered), outcomes(Channel::negotiated)}; }

 private:
  struct Active {
    OperationPlan plan;
    MemberId root;
    std::vector<Contributions> buffer;    // input until the element is reduced
    std::vector<int> remaining;           // elements to be reduced in this view, in order
    bool staged = false;                  // in this view
    std::vector<std::uint64_t> gathered;  // units copied from each rank
  };
  struct ChannelState {
    std::vector<Outcome> outcomes;  // of operations 1, 2, ...
    std::optional<Active> operation;
  };

  [[nodiscard]] ChannelState& state(Channel channel) { return channels_[static_cast<std::size_t>(channel)]; }
  [[nodiscard]] const ChannelState& state(Channel channel) const {
    return channels_[static_cast<std::size_t>(channel)];
  }
  [[nodiscard]] std::size_t node_of(int rank) const { return view_.members[static_cast<std::size_t>(rank)].id.value; }
  [[nodiscard]] Contributions own() const { return Contributions{1} << self_; }
  [[nodiscard]] Contributions everybody() const;
  [[nodiscard]] const Slot* slot_of(int rank, Channel channel, std::uint64_t sequence) const;
  [[nodiscard]] bool everybody_ready() const;
  [[nodiscard]] bool everybody_arrived(Channel channel) const;
  [[nodiscard]] int my_rank() const { return view_.rank_of(MemberId{static_cast<std::uint64_t>(self_)})->value; }
  // Units of one rank, and the elements of one of them: positions in `remaining`.
  [[nodiscard]] std::uint64_t units(const Active& operation) const;
  [[nodiscard]] std::vector<int> unit(const Active& operation, std::uint64_t chunk, int rank) const;
  [[nodiscard]] std::vector<Contributions> whole_result(const Active& operation) const;
  [[nodiscard]] std::uint64_t seen_units(int rank, Channel channel) const;

  void make_ready();
  void stage(Channel channel);
  void step_whole(Channel channel);
  void step_chunked(Channel channel);
  void reduce_unit(Channel channel);
  bool gather_unit(Channel channel, std::uint64_t chunk, int rank);
  void end(Channel channel, Outcome outcome);
  void finish_committed(Channel channel);
  void take_units(Channel channel, const std::vector<std::uint64_t>& reduced);
  [[nodiscard]] bool slots_kept(Channel channel);
  void check(bool law, Channel channel, const char* what) const;

  World world_;
  int self_;
  int elements_;
  Random* random_;
  View view_;
  bool frozen_ = false;
  bool lost_ = false;
  std::vector<Flags> seen_;
  std::array<ChannelState, kChannelCount> channels_;
};

}  // namespace hora::sim
