// One process of the simulated job: the real Membership machine, the model of the data plane, and an application that
// submits operations on both channels.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "elastic/membership.h"
#include "sim/boundary.h"
#include "sim/data_plane.h"
#include "sim/named_work.h"

namespace hora::sim {

class Cluster;

class Node {
 public:
  // A newcomer where `founding` is empty: it does not run before boot().
  Node(Cluster& cluster, int index, const View& founding, std::uint64_t seed);

  // Inputs; a paused node takes them when it wakes.
  void receive(int from, const wire::Bytes& packet);
  void lose_link(int peer);
  void learn_of_death(int peer, std::optional<wire::Bytes> record);
  void see(int writer, const Flags& flags);

  void boot();
  void crash();
  void crash_after(int actions) { actions_until_crash_ = actions; }
  void pause(Duration duration);
  void leave();
  void request_view_change();
  void admit(int newcomer);
  // Now, or when a paused node wakes.
  void input(std::function<void()> handler);

  // For the work of this node.
  bool holds(Channel channel) { return boundary_.holds(channel); }
  void look() { boundary_.look(); }
  void start(Channel channel);

  [[nodiscard]] bool crashed() const { return crashed_; }
  [[nodiscard]] bool paused() const { return paused_; }
  [[nodiscard]] bool running() const { return machine_ && !crashed_ && !machine_->fenced(); }
  // In no view yet.
  [[nodiscard]] bool outside() const { return !machine_ || machine_->view().epoch.value == 0; }
  [[nodiscard]] bool leaving() const { return leaving_; }
  [[nodiscard]] bool in_operation() const {
    return data_.active(Channel::ordered) || data_.active(Channel::negotiated);
  }
  [[nodiscard]] bool work_done() const { return work_done(Channel::ordered) && work_done(Channel::negotiated); }
  [[nodiscard]] bool work_done(Channel channel) const;
  // Operations of the ordered channel; steps of the names that are submitted.
  [[nodiscard]] std::uint64_t steps(Channel channel) const {
    return channel == Channel::ordered ? data_.done(channel) : named_.steps();
  }
  [[nodiscard]] std::uint64_t steps() const { return named_.steps(); }
  [[nodiscard]] Past past() const { return {data_.past(), named_.past()}; }
  [[nodiscard]] const View& view() const { return machine_->view(); }
  [[nodiscard]] const DataPlane& data() const { return data_; }
  [[nodiscard]] const wire::Bytes& record() const { return record_; }

 private:
  [[nodiscard]] elastic::MembershipOptions membership_options();
  void carry_out();
  void carry_out(elastic::Action& action);
  void install(const elastic::Install& install);
  void report(Epoch epoch);
  void arm();
  void step(Channel channel);
  void poke(Channel channel);
  void ended(Channel channel);
  void submit_next();
  void submit();
  void resume(bool joins);
  void expire(Channel channel, std::uint64_t sequence);
  [[nodiscard]] bool expired(Channel channel) const;
  [[nodiscard]] TimePoint now() const;

  Cluster& cluster_;
  int index_;
  std::optional<elastic::Membership> machine_;
  DataPlane data_;
  NamedWork named_;
  Boundary boundary_;
  wire::Bytes record_;  // in shared memory
  std::array<TimePoint, kChannelCount> started_{};
  std::array<bool, kChannelCount> poked_{};
  bool waiting_ = false;                      // to submit, for the end of a freeze
  std::vector<std::function<void()>> inbox_;  // while paused
  std::uint64_t armed_ = 0;
  std::uint64_t seed_;
  bool entered_;                 // it installed or founded a view
  std::optional<int> wish_;      // a newcomer that the machine was asked to admit in this view
  bool told_again_ = false;      // a newcomer that told a member of its view that it is in none
  int actions_until_crash_ = 0;  // 0: none planned
  bool crashed_ = false;
  bool paused_ = false;
  bool leaving_ = false;
};

}  // namespace hora::sim
