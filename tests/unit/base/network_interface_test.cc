#include "base/network_interface.h"

#include <algorithm>
#include <catch2/catch.hpp>

namespace hora {
namespace {

using Catch::Contains;

const std::vector<InterfaceAddress> kMachine = {{"lo", "127.0.0.1", true},      {"eth0", "10.0.0.5", false},
                                                {"eth1", "10.1.0.5", false},    {"docker0", "172.17.0.1", false},
                                                {"ib0", "192.168.0.5", false},  {"lo", "::1", true},
                                                {"eth0", "2001:db8::5", false}, {"eth1", "2001:db8:1::5", false}};

std::string chosen(std::string_view pattern, std::string_view preferred) {
  const auto host = choose_host(pattern, kMachine, preferred);
  return host.ok() ? host.value() : "nothing";
}

TEST_CASE("interface_patterns_are_prefixes_exact_names_or_exclusions") {
  CHECK(names_interface("eth,ib", "eth0"));
  CHECK(names_interface("eth,ib", "ib3"));
  CHECK_FALSE(names_interface("eth,ib", "docker0"));
  CHECK(names_interface("=eth0", "eth0"));
  CHECK_FALSE(names_interface("=eth0", "eth01"));
  CHECK(names_interface("=eth0,ib1", "ib1"));
  CHECK_FALSE(names_interface("^docker,lo", "docker0"));
  CHECK_FALSE(names_interface("^docker,lo", "lo"));
  CHECK(names_interface("^docker,lo", "eth0"));
  CHECK_FALSE(names_interface("^=eth0", "eth0"));
  CHECK(names_interface("^=eth0", "eth01"));
  CHECK(names_interface("eth0,,", "eth0"));
  CHECK_FALSE(names_interface("", "eth0"));
}

TEST_CASE("the_address_by_which_the_store_is_reached_is_preferred_where_the_pattern_names_it") {
  CHECK(chosen("eth", "10.1.0.5") == "10.1.0.5");
  CHECK(chosen("=eth0", "10.1.0.5") == "10.0.0.5");
  CHECK(chosen("=eth0", "2001:db8:1::5") == "2001:db8::5");
  CHECK(chosen("=ib0", "2001:db8:1::5") == "192.168.0.5");
  CHECK(chosen("^eth,docker", "10.1.0.5") == "192.168.0.5");
}

TEST_CASE("loopback_is_taken_only_where_it_serves") {
  CHECK(chosen("^docker", "10.1.0.5") == "10.1.0.5");
  CHECK(chosen("^eth,docker,ib", "10.1.0.5") == "nothing");
  CHECK(chosen("^eth,docker,ib", "127.0.0.1") == "127.0.0.1");
  CHECK(chosen("=lo", "10.1.0.5") == "nothing");
  CHECK(chosen("=lo", "") == "127.0.0.1");
  CHECK(is_loopback("127.0.1.1"));
  CHECK(is_loopback("::1"));
  CHECK_FALSE(is_loopback("10.0.0.1"));
}

TEST_CASE("a_pattern_that_leaves_nothing_is_an_error_that_names_what_there_is") {
  const auto host = choose_host("wlan", kMachine, "10.0.0.5");
  CHECK(host.status().code() == StatusCode::invalid_argument);
  CHECK_THAT(std::string(host.status().message()),
             Contains("HORA_SOCKET_IFNAME") && Contains("'wlan'") && Contains("lo, eth0, eth1, docker0, ib0"));
}

TEST_CASE("this_machine_has_loopback_and_no_link_local_address") {
  const auto addresses = interface_addresses();
  REQUIRE(addresses.ok());
  CHECK(std::any_of(addresses.value().begin(), addresses.value().end(),
                    [](const InterfaceAddress& one) { return one.host == "127.0.0.1" && one.loopback; }));
  CHECK(std::none_of(addresses.value().begin(), addresses.value().end(),
                     [](const InterfaceAddress& one) { return one.host.starts_with("fe80"); }));
}

}  // namespace
}  // namespace hora
