// Percentiles and bandwidths on numbers that can be checked by hand.
#include "perf/statistics.h"

#include <catch2/catch.hpp>
#include <numeric>

namespace hora::perf {
namespace {

TEST_CASE("percentiles_are_samples_by_nearest_rank") {
  std::vector<double> samples(200);
  std::iota(samples.rbegin(), samples.rend(), 1);
  CHECK(summarize(samples) == Summary{1, 100, 190, 198, 200});
  CHECK(summarize({7}) == Summary{7, 7, 7, 7, 7});
  CHECK(summarize({3, 1, 2}) == Summary{1, 2, 3, 3, 3});
  CHECK(summarize({2, 1}) == Summary{1, 1, 2, 2, 2});
  CHECK(summarize({}) == Summary{});
}

TEST_CASE("bandwidth_is_in_units_of_ten_to_the_ninth_bytes_a_second") {
  CHECK(algorithm_bandwidth(1'000'000, 1000) == Approx(1.0));
  CHECK(algorithm_bandwidth(64 << 20, 7230) == Approx(9.282).margin(0.001));
  CHECK(algorithm_bandwidth(4, 0) == 0);
}

TEST_CASE("bus_factors_are_those_of_nccl_tests") {
  CHECK(bus_factor(Collective::allreduce, 2) == Approx(1.0));
  CHECK(bus_factor(Collective::allreduce, 4) == Approx(1.5));
  CHECK(bus_factor(Collective::allgather, 4) == Approx(0.75));
  CHECK(bus_factor(Collective::broadcast, 4) == Approx(1.0));
  CHECK(bus_factor(Collective::allreduce, 1) == 0);
}

}  // namespace
}  // namespace hora::perf
