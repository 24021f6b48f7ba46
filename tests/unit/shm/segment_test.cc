#include "transports/shm/segment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <thread>

#include "unit/shm/world.h"

namespace hora::shm::test {
namespace {

UniqueFd copy_of(int fd) {
  return UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

std::vector<std::byte> bytes_of(std::size_t count, std::uint8_t value) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

TEST_CASE("a peer sees what the owner writes and cannot write itself") {
  const auto own = make_segment(MemberId{7});
  auto peer = Segment::attach(copy_of(own->fd()), MemberId{7}, kSmallLayout);
  INFO(peer.status().to_string());
  REQUIRE(peer.ok());
  std::memcpy(own->out_stage(1, 6), "seen", 5);
  CHECK(std::strcmp(reinterpret_cast<const char*>((*peer)->out_stage(1, 6)), "seen") == 0);
  CHECK((*peer)->member() == MemberId{7});
  CHECK((*peer)->fd() == -1);
  CHECK(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, own->fd(), 0) == MAP_FAILED);
  CHECK(ftruncate(own->fd(), 0) != 0);
}

TEST_CASE("what a dying owner writes over its header leads no peer astray") {
  const auto own = make_segment(MemberId{7});
  const auto peer = Segment::attach(copy_of(own->fd()), MemberId{7}, kSmallLayout);
  REQUIRE(peer.ok());
  const std::byte* const stage = (*peer.value()).out_stage(1, 6);
  own->lines().header.layout.chunk_bytes = 0x7f7f7f7f;
  own->lines().header.layout.one_shot_bytes = 0x7f7f7f7f;
  own->lines().header.member = 8;
  CHECK(peer.value()->out_stage(1, 6) == stage);
  CHECK(peer.value()->layout() == kSmallLayout);
  CHECK(peer.value()->member() == MemberId{7});
}

// The timer ends when it has interrupted so often: who starts from the beginning each time must not take for ever.
std::atomic<int> interrupts_left{0};

TEST_CASE("a profiler's timer does not keep a segment from being made") {
  struct sigaction interrupt {};
  interrupt.sa_handler = [](int) {
    if (interrupts_left.fetch_sub(1) > 1) return;
    const itimerval off{};
    setitimer(ITIMER_REAL, &off, nullptr);
  };
  struct sigaction before {};
  REQUIRE(sigaction(SIGALRM, &interrupt, &before) == 0);
  interrupts_left = 500;
  const itimerval often{{0, 100}, {0, 100}};
  REQUIRE(setitimer(ITIMER_REAL, &often, nullptr) == 0);
  const auto made = Segment::create(MemberId{1}, choose_layout(0, 1 << 20, 0));
  const itimerval off{};
  setitimer(ITIMER_REAL, &off, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  CHECK(made.status().to_string() == "ok");
}

TEST_CASE("what differs in a received segment is named") {
  const auto own = make_segment(MemberId{7});
  const auto message = [&](UniqueFd fd, MemberId member, const SegmentLayout& layout) {
    const auto attached = Segment::attach(std::move(fd), member, layout);
    REQUIRE(!attached.ok());
    CHECK(attached.status().code() == StatusCode::invalid_argument);
    return std::string(attached.status().message());
  };
  CHECK_THAT(message(copy_of(own->fd()), MemberId{8}, kSmallLayout), Catch::Contains("belongs to member 7"));
  CHECK_THAT(message(copy_of(own->fd()), MemberId{7}, {8192, 1024}), Catch::Contains("chunks of 4096"));
  UniqueFd unsealed(memfd_create("unsealed", MFD_CLOEXEC));
  REQUIRE(ftruncate(unsealed.get(), 1 << 20) == 0);
  CHECK_THAT(message(std::move(unsealed), MemberId{7}, kSmallLayout), Catch::Contains("not sealed"));
  const auto sealed = [](off_t bytes) {
    UniqueFd fd(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(ftruncate(fd.get(), bytes) == 0);
    REQUIRE(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0);
    return fd;
  };
  CHECK_THAT(message(sealed(16), MemberId{7}, kSmallLayout), Catch::Contains("has 16 bytes"));
  CHECK_THAT(message(sealed(1 << 20), MemberId{7}, kSmallLayout), Catch::Contains("not a hora segment"));
}

TEST_CASE("too little memory and too few descriptors are errors that name the limit") {
  // In a child, whose limits may be lowered.
  const pid_t child = fork();
  if (child == 0) {
    rlimit few{};
    getrlimit(RLIMIT_NOFILE, &few);
    few.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &few);
    const auto no_fd = Segment::create(MemberId{1}, kSmallLayout);
    const bool fd_named = !no_fd.ok() && no_fd.status().code() == StatusCode::resource &&
                          no_fd.status().message().find("ulimit -n") != std::string_view::npos;
    few.rlim_cur = few.rlim_max;
    setrlimit(RLIMIT_NOFILE, &few);
    const rlimit small{64 << 10, 64 << 10};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    const auto no_memory = Segment::create(MemberId{1}, kSmallLayout);
    const bool memory_named = !no_memory.ok() && no_memory.status().code() == StatusCode::resource &&
                              no_memory.status().message().find("HORA_CHUNK_BYTES") != std::string_view::npos;
    _exit((fd_named ? 0 : 1) | (memory_named ? 0 : 2));
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("the last record is read whole or not at all") {
  const auto own = make_segment(MemberId{7});
  const auto peer = Segment::attach_in_process(*own);
  CHECK(!peer->read_record().has_value());
  REQUIRE(own->write_record(bytes_of(5, 1)).ok());
  CHECK(peer->read_record() == bytes_of(5, 1));
  REQUIRE(own->write_record({}).ok());
  CHECK(peer->read_record() == bytes_of(0, 0));
  CHECK(own->write_record(bytes_of(kRecordBytes + 1, 1)).code() == StatusCode::invalid_argument);

  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (std::uint8_t value = 0; !stop.load(); ++value)
      if (!own->write_record(bytes_of(100 + value, value)).ok()) return;
  });
  for (int i = 0; i < 2000; ++i) {
    const auto record = peer->read_record();
    if (!record || record->empty()) continue;
    if (*record != bytes_of(100 + static_cast<std::size_t>((*record)[0]), static_cast<std::uint8_t>((*record)[0])) &&
        *record != bytes_of(5, 1))
      FAIL("a torn record of " << record->size() << " bytes");
  }
  stop.store(true);
  writer.join();
}

TEST_CASE("the layout follows the options, else the cache") {
  CHECK(choose_layout(32 << 20, 0, 0).chunk_bytes == 256 << 10);
  CHECK(choose_layout(4 << 20, 0, 0).chunk_bytes == 128 << 10);
  CHECK(choose_layout(0, 100000, 100).chunk_bytes == 100096);
  CHECK(choose_layout(0, 100000, 100).one_shot_bytes == 128);
}

}  // namespace
}  // namespace hora::shm::test
