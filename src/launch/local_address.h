// Names and addresses of this host, as other hosts see it.
#pragma once

#include <string>
#include <string_view>

#include "hora/status.hpp"

namespace hora::launch {

// Whether `name` (of a list of hosts) is this host: "localhost", or what it calls itself.
bool is_this_host(std::string_view name);

// The numeric address of the interface by which this host reaches `name` ("user@" is passed over); in brackets for
// IPv6.
Result<std::string> address_towards(std::string_view name);

}  // namespace hora::launch
