// The version of this build of hora, e.g. "0.1.0": that of project() in the root's CMakeLists.txt.
#pragma once

#include <string_view>

namespace hora {

std::string_view version() noexcept;

}  // namespace hora
