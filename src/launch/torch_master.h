// MASTER_ADDR and MASTER_PORT: where programs of PyTorch let rank 0 listen. hora has no use for them.
#pragma once

#include <string>
#include <string_view>

#include "hora/status.hpp"

namespace hora::launch {

struct TorchMaster {
  std::string host;
  std::string port;
};

// `host` is where rank 0 runs; the store's address is one by which other hosts reach this one. The port is free on this
// host now: for a rank 0 of another host it is a guess.
Result<TorchMaster> choose_master(std::string_view host, std::string_view store_address);

}  // namespace hora::launch
