// What went wrong and what the caller can do about it.
//
// A StatusCode names the caller's next move, not the place of the failure; the message names the operation, the rank,
// the cause and the knob. Inside hora every fallible function returns Status or Result<T>; only the C++ facade throws.
#pragma once

#include <cassert>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "hora/export.hpp"

namespace hora {

enum class StatusCode : std::uint8_t {
  ok,
  invalid_argument,  // fix the call
  mismatch,          // ranks disagree about an operation; the same error on every rank
  peer_failed,       // a member died and this operation could not be saved; go on in the new view
  fenced,            // this rank is no longer a member (or has no quorum); it must leave or rejoin as new
  timed_out,         // it took longer than a limit that the message names, which also says whether it goes on
  try_again,         // nothing happened; call again later
  unsupported,       // not on this machine or not in this build
  resource,          // memory, file descriptors or another limit of the system
  shut_down,         // the library was shut down
  internal,          // our bug
};

// The name of a code, e.g. "peer_failed"; never null.
HORA_EXPORT const char* to_string(StatusCode code) noexcept;

// Success carries nothing and allocates nothing. Copies share the message.
class [[nodiscard]] HORA_EXPORT Status {
 public:
  Status() noexcept = default;
  Status(StatusCode code, std::string message)
      : detail_(code == StatusCode::ok ? nullptr : std::make_shared<const Detail>(Detail{code, std::move(message)})) {}

  [[nodiscard]] bool ok() const noexcept { return detail_ == nullptr; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] StatusCode code() const noexcept { return detail_ ? detail_->code : StatusCode::ok; }
  // Without the code's name; empty on success. Valid as long as this Status or a copy lives.
  [[nodiscard]] std::string_view message() const noexcept {
    return detail_ ? std::string_view(detail_->message) : std::string_view();
  }
  // "peer_failed: rank 2 was killed ...", or "ok".
  [[nodiscard]] std::string to_string() const;

 private:
  struct Detail {
    StatusCode code;
    std::string message;
  };
  std::shared_ptr<const Detail> detail_;  // shared: one error is handed to many waiting operations
};

// A value, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}                                  // NOLINT: implicit by intent
  Result(Status status) : status_(std::move(status)) { assert(!status_.ok()); }  // NOLINT: implicit by intent

  [[nodiscard]] bool ok() const noexcept { return value_.has_value(); }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] const Status& status() const noexcept { return status_; }
  T& value() & { return assert(ok()), *value_; }
  const T& value() const& { return assert(ok()), *value_; }
  T&& value() && { return assert(ok()), std::move(*value_); }
  T* operator->() { return &value(); }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(*this).value(); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace hora

// Returns from the calling function when `expression` is a failed Status.
#define HORA_TRY(expression)                                                                          \
  do {                                                                                                \
    if (::hora::Status hora_try_status = (expression); !hora_try_status.ok()) return hora_try_status; \
  } while (false)
