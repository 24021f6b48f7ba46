// A shared library that is found at run time, for mechanisms that hora never links.
#pragma once

#include <string>

#include "hora/status.hpp"

namespace hora::cuda {

// Never unloaded: a driver has threads and exit handlers of its own.
class Library {
 public:
  // The copy that the process already has, else the one that the loader finds. unsupported, with the loader's words.
  static Result<Library> open(const char* soname);

  // Fills `slot`; an absent symbol is remembered in missing().
  template <typename Function>
  void bind(const char* symbol, Function*& slot) {
    slot = reinterpret_cast<Function*>(find(symbol));
  }
  // The same of what later versions have; null where it is not there.
  template <typename Function>
  void bind_if_there(const char* symbol, Function*& slot) {
    slot = reinterpret_cast<Function*>(look_up(symbol));
  }
  // Names of symbols that were asked for and are not there; empty: all are.
  [[nodiscard]] const std::string& missing() const noexcept { return missing_; }
  // Where the file lies, as the loader says.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  explicit Library(void* handle);
  void* find(const char* symbol);
  [[nodiscard]] void* look_up(const char* symbol) const;

  void* handle_;
  std::string missing_;
  std::string path_;
};

}  // namespace hora::cuda
