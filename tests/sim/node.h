// One process of the simulated job: the real Membership machine, the model of the data plane, and an application that
// submits operations on both channels.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "elastic/membership.h"
#include "sim/data_plane.h"

namespace hora::sim {

class Cluster;

class Node {
 public:
  Node(Cluster& cluster, int index, const View& founding, std::uint64_t seed);

  // Inputs; a paused node takes them when it wakes.
  void receive(int from, const wire::Bytes& message);
  void lose_link(int peer);
  void learn_of_death(int peer, std::optional<wire::Bytes> record);
  void see(int writer, const Flags& flags);

  void boot();
  void crash();
  void crash_after(int actions) { actions_until_crash_ = actions; }
  void pause(Duration duration);
  void leave();
  void request_view_change();

  [[nodiscard]] bool crashed() const { return crashed_; }
  [[nodiscard]] bool paused() const { return paused_; }
  [[nodiscard]] bool fenced() const { return machine_->fenced(); }
  [[nodiscard]] bool running() const { return !crashed_ && !fenced(); }
  [[nodiscard]] bool leaving() const { return leaving_; }
  [[nodiscard]] bool in_operation() const {
    return data_.active(Channel::ordered) || data_.active(Channel::negotiated);
  }
  [[nodiscard]] bool work_done() const;
  [[nodiscard]] const View& view() const { return machine_->view(); }
  [[nodiscard]] const DataPlane& data() const { return data_; }
  [[nodiscard]] const wire::Bytes& record() const { return record_; }

 private:
  void input(std::function<void()> handler);
  void carry_out();
  void carry_out(elastic::Action& action);
  void install(const elastic::Install& install);
  void report(Epoch epoch);
  void arm();
  void step(Channel channel);
  void poke(Channel channel);
  void submit_next(Channel channel);
  void submit(Channel channel);
  void expire(Channel channel, std::uint64_t sequence);
  [[nodiscard]] bool expired(Channel channel) const;
  [[nodiscard]] TimePoint now() const;

  Cluster& cluster_;
  int index_;
  std::optional<elastic::Membership> machine_;
  DataPlane data_;
  wire::Bytes record_;  // in shared memory
  std::array<TimePoint, kChannelCount> started_{};
  std::array<bool, kChannelCount> poked_{};
  std::vector<std::function<void()>> inbox_;  // while paused
  std::uint64_t armed_ = 0;
  int actions_until_crash_ = 0;  // 0: none planned
  bool crashed_ = false;
  bool paused_ = false;
  bool leaving_ = false;
};

}  // namespace hora::sim
