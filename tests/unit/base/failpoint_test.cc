// Failpoints: the little language, and what each act does to a process of its own.
#include "base/failpoint.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace hora::failpoint {
namespace {

using Catch::Contains;

TEST_CASE("rules_have_defaults_and_are_separated_by_semicolons") {
  const auto rules = parse("point=a.b;rank=2,point=c,hit=17,act=stop");
  REQUIRE(rules.ok());
  CHECK(rules.value() == std::vector<Rule>{{-1, "a.b", 1, Act::kill}, {2, "c", 17, Act::stop}});
  CHECK(parse("").value().empty());
}

TEST_CASE("rules_that_cannot_be_meant_are_refused") {
  const auto refusal = [](std::string_view text) { return parse(text).status().to_string(); };
  CHECK_THAT(refusal("rank=1"), Contains("names no point"));
  CHECK_THAT(refusal("point=a,act=explode"), Contains("'explode'"));
  CHECK_THAT(refusal("point=a,hit=0"), Contains("bad hit"));
  CHECK_THAT(refusal("point=a,rank=x"), Contains("bad rank"));
  CHECK_THAT(refusal("point=a,often=3"), Contains("'often'"));
  CHECK_THAT(refusal(";point=a"), Contains("names no point"));
}

#ifdef HORA_FAILPOINTS

constexpr int kPassed = 42;

// The wait status of a child of rank `rank` that reaches the point "here" twice and then exits with kPassed.
int fate_of_child(const char* rules, const char* rank) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::alarm(60);  // A child that hangs is a failure, not a hanging test.
    for (const int number : {SIGSEGV, SIGABRT}) ::signal(number, SIG_DFL);
    ::setenv("HORA_FAILPOINT", rules, 1);
    ::setenv("HORA_RANK", rank, 1);
    HORA_FAILPOINT("elsewhere");
    HORA_FAILPOINT("here");
    HORA_FAILPOINT("here");
    ::_exit(kPassed);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, WUNTRACED) == child);
  if (WIFSTOPPED(status)) {
    ::kill(child, SIGKILL);
    REQUIRE(::waitpid(child, nullptr, 0) == child);
  }
  return status;
}

bool passed(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == kPassed;
}

TEST_CASE("each_act_does_what_it_says") {
  const int killed = fate_of_child("point=here,act=kill", "0");
  CHECK((WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL));
  const int stopped = fate_of_child("point=here,act=stop", "0");
  CHECK((WIFSTOPPED(stopped) && WSTOPSIG(stopped) == SIGSTOP));
  const int crashed = fate_of_child("point=here,act=segv", "0");
  CHECK((WIFSIGNALED(crashed) && WTERMSIG(crashed) == SIGSEGV));
  const int exited = fate_of_child("point=here,act=exit", "0");
  CHECK((WIFEXITED(exited) && WEXITSTATUS(exited) == 1));
}

TEST_CASE("rules_bind_their_rank_point_and_hit_only") {
  CHECK(passed(fate_of_child("point=here,rank=2", "1")));
  CHECK_FALSE(passed(fate_of_child("point=here,rank=2", "2")));
  CHECK(passed(fate_of_child("point=nowhere", "0")));
  CHECK_FALSE(passed(fate_of_child("point=here,hit=2", "0")));
  CHECK(passed(fate_of_child("point=here,hit=3", "0")));
  CHECK(passed(fate_of_child("", "0")));
}

TEST_CASE("rules_that_cannot_be_read_end_the_process") {
  const int status = fate_of_child("pint=here", "0");
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 2));
}

#endif

}  // namespace
}  // namespace hora::failpoint
