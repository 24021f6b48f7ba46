#include "base/command_line.h"

#include <catch2/catch.hpp>

namespace hora {
namespace {

using Words = std::vector<std::string>;

Words read(std::vector<const char*> words, CommandFollows command_follows) {
  words.insert(words.begin(), "program");
  return with_long_np(static_cast<int>(words.size()), words.data(), {"--flag"}, command_follows);
}

TEST_CASE("np is an option wherever options stand") {
  for (const auto follows : {CommandFollows::no, CommandFollows::yes}) {
    CHECK(read({"-np", "2", "p"}, follows) == Words{"--np", "2", "p"});
    CHECK(read({"-np=2"}, follows) == Words{"--np=2"});
    CHECK(read({"-xA", "-np", "2"}, follows) == Words{"-xA", "--np", "2"});
    CHECK(read({"--flag", "-np", "2"}, follows) == Words{"--flag", "--np", "2"});
    CHECK(read({"--name=value", "-np", "2"}, follows) == Words{"--name=value", "--np", "2"});
    CHECK(read({"-n", "2", "-np", "3"}, follows) == Words{"-n", "2", "--np", "3"});
  }
}

TEST_CASE("np is left alone as a value and beyond the options") {
  for (const auto follows : {CommandFollows::no, CommandFollows::yes}) {
    CHECK(read({"--name", "-np", "2"}, follows) == Words{"--name", "-np", "2"});
    CHECK(read({"-x", "-np", "-np", "2"}, follows) == Words{"-x", "-np", "--np", "2"});
    CHECK(read({"-np", "1", "--", "-np"}, follows) == Words{"--np", "1", "--", "-np"});
    CHECK(read({"-np"}, follows) == Words{"--np"});
  }
}

TEST_CASE("np is the command's own where one follows") {
  CHECK(read({"-np", "2", "p", "-np", "3"}, CommandFollows::yes) == Words{"--np", "2", "p", "-np", "3"});
  CHECK(read({"op", "-np", "3"}, CommandFollows::no) == Words{"op", "--np", "3"});
}

}  // namespace
}  // namespace hora
