// Random bytes from the kernel: member ids, nonces, secrets. Policy code uses base/random.h with a given seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace hora {

// Never fails on Linux 3.17 and later once the machine is up; aborts where the kernel has no random numbers.
void fill_with_entropy(std::span<std::byte> out) noexcept;
std::uint64_t entropy64() noexcept;
// 2 * `bytes` hexadecimal digits.
std::string entropy_hex(std::size_t bytes);

}  // namespace hora
