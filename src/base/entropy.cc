#include "base/entropy.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace hora {

void fill_with_entropy(std::span<std::byte> out) noexcept {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got > 0) {
      out = out.subspan(static_cast<std::size_t>(got));
    } else if (errno != EINTR) {
      std::abort();
    }
  }
}

std::uint64_t entropy64() noexcept {
  std::uint64_t value = 0;
  fill_with_entropy(std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

std::string entropy_hex(std::size_t bytes) {
  std::string raw(bytes, '\0');
  fill_with_entropy(std::as_writable_bytes(std::span(raw)));
  std::string text;
  for (const char c : raw) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

}  // namespace hora
