// Operations whose results say who contributed.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "device_job.h"

namespace hora::device_test {

// Rank r contributes 2^r, so that a sum names its contributors.
constexpr double share(int rank) {
  return static_cast<double>(1 << rank);
}

inline constexpr std::size_t kCount = 1000;

// Sums of fresh inputs, one after another in the order of the stream; each result goes to a buffer of its own.
struct Sums {
  Sums(Player& owner, int operations, std::size_t elements = kCount) : player(owner), count(elements) {
    const std::vector<double> input(count, share(player.rank()));
    for (int i = 0; i < operations; ++i) {
      buffers.push_back(std::make_unique<Buffer>(player.driver(), count * sizeof(double)));
      results.emplace_back(count, -1.0);
      player.write(*buffers.back(), std::as_bytes(std::span(input)));
    }
    player.synchronize();
  }
  void enqueue(std::size_t i) {
    works.push_back(player.allreduce(*buffers[i], count, DataType::float64, ReduceOp::sum));
    player.read(*buffers[i], std::as_writable_bytes(std::span(results[i])));
  }
  // Sum of the contributors of each operation; -1 where elements differ. The streams have ended.
  std::vector<double> end() {
    player.synchronize();
    std::vector<double> sums;
    for (std::size_t i = 0; i < works.size(); ++i) {
      const std::vector<double>& result = results[i];
      const bool same = std::equal(result.begin() + 1, result.end(), result.begin());
      const Outcome outcome = player.end(works[i]);
      contributors.push_back(outcome.contributors);
      sums.push_back(same ? result[0] : -1);
    }
    return sums;
  }
  Player& player;
  const std::size_t count;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<std::vector<double>> results;
  std::vector<engine::Work*> works;
  std::vector<int> contributors;
};

}  // namespace hora::device_test
