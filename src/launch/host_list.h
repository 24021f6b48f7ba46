// "h1:2,h2:2": the hosts of a job, how many processes each takes, and which founding rank goes where. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "hora/status.hpp"

namespace hora::launch {

struct HostSlots {
  std::string name;  // as the remote shell knows it: host, user@host, or an alias
  int slots = 1;
  friend bool operator==(const HostSlots&, const HostSlots&) = default;
};

// Host names, each with ":SLOTS" or for one process; "[fe80::1]:2" for IPv6. A host stands in it once.
// StatusCode::invalid_argument says what is wrong.
Result<std::vector<HostSlots>> parse_hosts(std::string_view text);

// The host (an index) of each founding rank: hosts are filled one after the other, so that ranks of a host are
// neighbours. StatusCode::invalid_argument: there are fewer slots.
Result<std::vector<int>> place(const std::vector<HostSlots>& hosts, int ranks);

}  // namespace hora::launch
