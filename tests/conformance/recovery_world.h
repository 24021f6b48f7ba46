// A job whose ranks die, on one thread: a seed decides who moves next, so every failure replays.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "implementation.h"

namespace hora::conformance {

// What all ranks do on one channel, one after another.
struct Task {
  Collective kind = Collective::allreduce;
  std::uint64_t count = 0;
  bool in_place = false;
  int root = 0;      // by founding rank; where it is gone at the start, the first rank of the view
  int deviant = -1;  // founding rank that asks for one element more
};

// How an operation ended at one rank.
struct Outcome {
  enum class Kind : std::uint8_t { done, mismatch, broken } kind = Kind::done;
  std::vector<std::int64_t> result;  // as released to the caller
  int contributors = 0;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// Inputs reveal who contributed: rank r (in the founding view) gives 2^r times a factor of operation and element.
class RecoveryWorld {
 public:
  RecoveryWorld(const Implementation& implementation, int size, std::array<std::vector<Task>, kChannelCount> tasks,
                std::uint64_t seed);
  ~RecoveryWorld();

  // One start or step of `rank`, on a channel that has something to do. False when it has none.
  bool move(int rank);
  // Moves of living ranks, in the order of the seed.
  void move_any(int moves);
  // How many moves `rank` has made.
  [[nodiscard]] int moves_of(int rank) const;

  void stop(int rank, bool lose_in_flight);
  // As stop(), but the rank reports to the next recovery: it leaves in order, and hands nothing over.
  void leave(int rank, bool lose_in_flight);
  // A rank that stops in the middle of a recovery, after so many installs.
  struct SecondStop {
    int rank;
    int after_installs;
  };
  // Freezes the survivors, decides, and installs the view without the ranks that stopped. After each install
  // `moves_between` moves are given to ranks; those that are still frozen pass.
  void recover(int moves_between, std::optional<SecondStop> second = std::nullopt);
  // Moves until everybody alive is through; false when they hang.
  bool finish();

  // What is wrong with what the survivors hold; empty: nothing.
  [[nodiscard]] std::string fault() const;
  // How many operations ended so at the first survivor.
  [[nodiscard]] int count(Outcome::Kind kind) const;

 private:
  struct Player;

  [[nodiscard]] static std::vector<ChannelReport> report_of(const Player& player);
  void check_stable(const Player& player);
  void install(Player& player, const View& next, const std::vector<ChannelVerdict>& verdicts);
  void end_broken(Player& player, std::size_t channel);
  [[nodiscard]] bool is_through(const Player& player) const;
  [[nodiscard]] std::string fault_of(std::size_t channel, std::size_t index) const;
  [[nodiscard]] std::string result_fault(std::size_t channel, std::size_t index, const Outcome& outcome) const;
  [[nodiscard]] std::vector<const Player*> survivors() const;

  const std::array<std::vector<Task>, kChannelCount> tasks_;
  Random random_;
  std::unique_ptr<Job> job_;
  std::vector<View> views_;                              // installed so far
  std::vector<std::unique_ptr<Player>> players_;         // by founding rank
  std::map<MemberId, std::vector<ChannelReport>> left_;  // what leavers report to the next recovery
  std::string stable_fault_;
};

}  // namespace hora::conformance
