#include "launch/process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace hora::launch {
namespace {

using Catch::Contains;

Exit run(const std::vector<std::string>& command) {
  auto watchdog = Watchdog::start();
  REQUIRE(watchdog.ok());
  ProcessSpec spec;
  spec.command = command;
  auto process = spawn(spec, watchdog.value());
  REQUIRE(process.status().to_string() == "ok");
  return reap(process.value(), watchdog.value());
}

TEST_CASE("a process tells how it ended") {
  CHECK(run({"true"}) == Exit{0, 0});
  CHECK(run({"sh", "-c", "exit 9"}) == Exit{9, 0});
  CHECK(run({"sh", "-c", "kill -TERM $$"}) == Exit{0, SIGTERM});
}

TEST_CASE("a process gets variables and streams of its own") {
  auto watchdog = Watchdog::start();
  REQUIRE(watchdog.ok());
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  ProcessSpec spec;
  spec.command = {"sh", "-c", "echo $HORA_TEST; cat; echo $$"};
  spec.variables = {{"HORA_TEST", "a value"}};
  spec.output = writer.get();
  auto process = spawn(spec, watchdog.value());
  REQUIRE(process.ok());
  writer.reset();
  std::string said;
  char byte;
  while (::read(reader.get(), &byte, 1) == 1) said += byte;
  CHECK(said == "a value\n" + std::to_string(process.value().pid) + "\n");
  CHECK(::getpgid(process.value().pid) == process.value().pid);
  CHECK(reap(process.value(), watchdog.value()).success());
}

TEST_CASE("a process does without what was removed from its environment") {
  auto watchdog = Watchdog::start();
  REQUIRE(watchdog.ok());
  ProcessSpec spec;
  spec.command = {"sh", "-c", "env | { ! grep -q ^HOME=; } && test \"$HORA_TEST\" = kept"};
  spec.variables = {{"HORA_TEST", "kept"}};
  spec.removed = {"HOME", "HORA_TEST"};
  auto process = spawn(spec, watchdog.value());
  REQUIRE(process.ok());
  CHECK(reap(process.value(), watchdog.value()).success());
}

TEST_CASE("a process gets defaults for what nobody has said") {
  auto watchdog = Watchdog::start();
  REQUIRE(watchdog.ok());
  ProcessSpec spec;
  spec.command = {"sh", "-c", "test $HORA_TEST_SAID = 2 && test $HORA_TEST_UNSAID = 3"};
  spec.variables = {{"HORA_TEST_SAID", "2"}};
  spec.defaults = {{"HORA_TEST_SAID", "1"}, {"HORA_TEST_UNSAID", "3"}};
  auto process = spawn(spec, watchdog.value());
  REQUIRE(process.ok());
  CHECK(reap(process.value(), watchdog.value()).success());
}

TEST_CASE("a command that cannot be run is an error with its name") {
  auto watchdog = Watchdog::start();
  REQUIRE(watchdog.ok());
  ProcessSpec spec;
  spec.command = {"/etc/passwd"};
  auto process = spawn(spec, watchdog.value());
  REQUIRE_FALSE(process.ok());
  CHECK_THAT(std::string(process.status().message()), Contains("/etc/passwd") && Contains("denied"));
}

TEST_CASE("commands are looked up as a shell does") {
  CHECK(check_command("sh") == 0);
  CHECK(check_command("/bin/sh") == 0);
  CHECK(check_command("no-such-command-anywhere") == 127);
  CHECK(check_command("/no/such/file") == 127);
  CHECK(check_command("/etc/passwd") == 126);
  CHECK(check_command("/etc") == 126);
}

}  // namespace
}  // namespace hora::launch
