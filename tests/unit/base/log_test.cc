// Lines where standard error has no room for them.
#include "base/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <string>

#include "base/unique_fd.h"

namespace hora {
namespace {

using Catch::Contains;

// Standard error is a pipe of one page for as long as this lives. A write that waits for its reader ends the program.
class StandardErrorPipe {
 public:
  StandardErrorPipe() : saved_(::dup(STDERR_FILENO)) {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    read_.reset(ends[0]);
    write_.reset(ends[1]);
    REQUIRE(::fcntl(write_.get(), F_SETPIPE_SZ, 4096) >= 4096);
    REQUIRE(::fcntl(read_.get(), F_SETFL, O_NONBLOCK) == 0);
    REQUIRE(::dup2(write_.get(), STDERR_FILENO) == STDERR_FILENO);
    ::alarm(20);
  }
  ~StandardErrorPipe() {
    ::alarm(0);
    ::dup2(saved_.get(), STDERR_FILENO);
  }
  StandardErrorPipe(const StandardErrorPipe&) = delete;
  StandardErrorPipe& operator=(const StandardErrorPipe&) = delete;

  void fill() {
    REQUIRE(::fcntl(write_.get(), F_SETFL, O_NONBLOCK) == 0);
    const std::array<char, 4096> page{};
    while (::write(write_.get(), page.data(), page.size()) > 0) {
    }
    REQUIRE(::fcntl(write_.get(), F_SETFL, 0) == 0);  // as it was: the next write would wait
  }
  std::string drain() {
    std::string all;
    std::array<char, 4096> page;
    for (ssize_t got = 0; (got = ::read(read_.get(), page.data(), page.size())) > 0;)
      all.append(page.data(), static_cast<std::size_t>(got));
    return all;
  }
  void close_reader() { read_.reset(); }

 private:
  UniqueFd saved_, read_, write_;
};

TEST_CASE("a line that finds no room is lost, and the next one says so") {
  StandardErrorPipe standard_error;
  const Log log(LogLevel::info, "rank=2");
  standard_error.fill();
  log(LogLevel::warn, "elastic", "one");
  log(LogLevel::warn, "elastic", "two");
  CHECK_THAT(standard_error.drain(), !Contains("one") && !Contains("two"));
  log(LogLevel::warn, "elastic", "three");
  CHECK_THAT(standard_error.drain(),
             Contains("rank=2 [log] WARN lines lost, for standard error had no room: 2\n") && Contains("WARN three\n"));
  log(LogLevel::warn, "elastic", "four");
  CHECK_THAT(standard_error.drain(), !Contains("no room") && Contains("WARN four\n"));
}

TEST_CASE("a line longer than a pipe does not wait either") {
  StandardErrorPipe standard_error;
  const Log log(LogLevel::info, "rank=2");
  log(LogLevel::warn, "elastic", "{}", std::string(1 << 20, 'x'));
  CHECK_FALSE(standard_error.drain().empty());
  log(LogLevel::warn, "elastic", "after");
  CHECK_THAT(standard_error.drain(), Contains("no room: 1\n") && Contains("after"));
}

TEST_CASE("a line that nobody will read ends nothing") {
  StandardErrorPipe standard_error;
  REQUIRE(::signal(SIGPIPE, SIG_DFL) == SIG_DFL);
  standard_error.close_reader();
  const Log log(LogLevel::info, "rank=2");
  log(LogLevel::warn, "elastic", "said to nobody");
}

}  // namespace
}  // namespace hora
