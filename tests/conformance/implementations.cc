#include "implementation.h"
#include "inproc_job.h"
#include "shm_job.h"
#include "tcp_job.h"

namespace hora::conformance {
namespace {

std::uint64_t one_host(int, int) {
  return 1;
}
std::uint64_t own_host(int rank, int) {
  return 1 + static_cast<std::uint64_t>(rank);
}
// Two hosts, the second one with the odd rank: 2 + 2 of 4, 2 + 3 of 5.
std::uint64_t half_host(int rank, int size) {
  return rank < size / 2 ? 1 : 2;
}
// 1 + 3 of 4.
std::uint64_t first_alone(int rank, int) {
  return rank == 0 ? 1 : 2;
}
// Three hosts whose ranks are no neighbours.
std::uint64_t in_turns(int rank, int) {
  return 1 + static_cast<std::uint64_t>(rank % 3);
}

constexpr Implementation kImplementations[] = {
    {"schedules over inproc", make_inproc_job, 7, one_host, 1},
    {"two levels in turns over inproc", make_inproc_job, 7, in_turns, 1},
    {"founding links and later ones over inproc", make_switching_job, 5, one_host, 1},
    {"schedules over links that fill memory bit by bit", make_trickling_job, 5, one_host, 3},
    {"shm", make_shm_job, 7, one_host, 1, {}, Transport::shm},
    {"tcp on one host", make_tcp_job, 7, one_host, 6},
    {"tcp between hosts of one rank", make_tcp_job, 3, own_host, 6},
    {"tcp between two hosts", make_tcp_job, 5, half_host, 6},
    {"rings on one host", make_mixed_job, 4, one_host, 6},
    {"rings on two hosts and tcp between them", make_mixed_job, 5, half_host, 6},
    {"rings beside a rank alone and tcp to it", make_mixed_job, 4, first_alone, 6},
};

}  // namespace

std::span<const Implementation> implementations() {
  return kImplementations;
}

}  // namespace hora::conformance
