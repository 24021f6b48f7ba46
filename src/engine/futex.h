// The two futex calls that threads of one process use to wait for each other.
#pragma once

#include <atomic>
#include <cstdint>

#include "base/time.h"

namespace hora::engine {

// Sleeps while `word` reads `seen`, at most `timeout`. May return early for no reason.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration timeout) noexcept;
void futex_wake_all(const std::atomic<std::uint32_t>& word) noexcept;

}  // namespace hora::engine
