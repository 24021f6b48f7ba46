#include "launch/host_list.h"

#include <catch2/catch.hpp>

namespace hora::launch {
namespace {

TEST_CASE("a list of hosts is read") {
  CHECK(parse_hosts("a").value() == std::vector<HostSlots>{{"a", 1}});
  CHECK(parse_hosts("h1:2,user@h2.example:12").value() == std::vector<HostSlots>{{"h1", 2}, {"user@h2.example", 12}});
  CHECK(parse_hosts("[fe80::1]:3,10.0.0.7").value() == std::vector<HostSlots>{{"fe80::1", 3}, {"10.0.0.7", 1}});
}

TEST_CASE("what is no list of hosts is refused") {
  for (const char* text : {"", ",", "a,", ",a", "a:", "a:0", "a:-1", "a:x", "a:2x", "a:99999", ":2", "-oX", "-oX:1",
                           "a b:1", "a,b,a:2", "a/b:1"})
    CHECK(parse_hosts(text).status().code() == StatusCode::invalid_argument);
}

TEST_CASE("ranks fill one host after the other") {
  const std::vector<HostSlots> hosts{{"a", 2}, {"b", 1}, {"c", 3}};
  CHECK(place(hosts, 1).value() == std::vector{0});
  CHECK(place(hosts, 4).value() == std::vector{0, 0, 1, 2});
  CHECK(place(hosts, 6).value() == std::vector{0, 0, 1, 2, 2, 2});
  CHECK(place(hosts, 7).status().code() == StatusCode::invalid_argument);
}

}  // namespace
}  // namespace hora::launch
