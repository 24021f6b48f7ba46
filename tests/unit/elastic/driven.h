// One Membership machine, fed by hand; what it does is kept in the order in which it does it.
#pragma once

#include <catch2/catch.hpp>
#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "elastic/membership.h"

namespace hora::elastic {

inline View view_of(std::initializer_list<std::uint64_t> ids, std::uint64_t epoch = 1) {
  View view;
  view.epoch.value = epoch;
  for (const std::uint64_t id : ids) view.members.push_back({MemberId{id}, 7, "unix:" + std::to_string(id)});
  return view;
}

inline MembershipOptions options_with(bool kill_suspects = false) {
  MembershipOptions options;
  options.decide = [](const View&, const View&, const std::map<MemberId, wire::Bytes>& reports) {
    wire::Bytes all;
    for (const auto& [id, report] : reports) all.insert(all.end(), report.begin(), report.end());
    return all;
  };
  options.kill_suspects = kill_suspects;
  return options;
}

inline wire::Bytes report_of(std::uint8_t value) {
  return {std::byte{value}};
}

// One machine, fed by hand.
struct Driven {
  explicit Driven(std::uint64_t self, View founding = view_of({0, 1, 2}), MembershipOptions options = options_with())
      : machine(std::move(options), MemberId{self}, std::move(founding), self, now) {
    take();
  }
  // A newcomer.
  explicit Driven(const Member& self, MembershipOptions options = options_with())
      : machine(Membership::outsider(std::move(options), self, self.id.value, now)) {
    take();
  }
  void receive(std::uint64_t from, const Message& message) {
    machine.on_message(MemberId{from}, encode_message(message), now);
    take();
  }
  void die(std::uint64_t peer, std::optional<Record> record) {
    std::optional<wire::Bytes> bytes;
    if (record) bytes = encode_record(*record);
    machine.on_certain_death(MemberId{peer}, bytes, now);
    take();
  }
  void report(std::uint8_t value = 1) {
    machine.on_report(machine.view().epoch, report_of(value), now);
    take();
  }
  // Runs every deadline up to `duration` from now.
  void pass(Duration duration) {
    const TimePoint end = now + duration;
    while (machine.next_deadline() && *machine.next_deadline() <= end) {
      now = *machine.next_deadline();
      machine.on_deadline(now);
      take();
    }
    now = end;
  }
  void take() {
    for (Action& action : machine.take_actions()) actions.push_back(std::move(action));
  }
  template <typename T>
  std::vector<T> all() const {
    std::vector<T> found;
    for (const Action& action : actions)
      if (const T* wanted = std::get_if<T>(&action)) found.push_back(*wanted);
    return found;
  }
  template <typename T>
  std::vector<T> sent(std::uint64_t to) const {
    std::vector<T> found;
    for (const Send& send : all<Send>()) {
      const auto message = decode_message(send.message);
      REQUIRE(message);
      if (send.to == MemberId{to})
        if (const T* wanted = std::get_if<T>(&*message)) found.push_back(*wanted);
    }
    return found;
  }

  TimePoint now{std::chrono::seconds(1)};
  Membership machine;
  std::vector<Action> actions;
};

inline Record founding_record() {
  Record record;
  record.epoch = Epoch{1};
  return record;
}

inline Ballot ballot_of(std::uint64_t number, std::uint64_t proposer) {
  return {number, MemberId{proposer}};
}

}  // namespace hora::elastic
