// The results of `hora perf`: a table on standard output as they come, and JSON at the end.
#pragma once

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "hora/status.hpp"
#include "perf/options.h"
#include "perf/statistics.h"

namespace hora::perf {

struct Measurement {
  Summary time_us;             // of the slowest rank of each call
  double back_to_back_us = 0;  // mean of a call among calls without a meeting in between
  std::uint64_t wrong = 0;     // elements, on all ranks
};

struct SizeResult {
  std::uint64_t bytes = 0;
  std::uint64_t count = 0;  // elements a rank gives
  std::optional<Measurement> out_of_place, in_place;
  double memcpy_p50_us = 0;  // the same bytes copied by all ranks at once
};

struct Setting {
  RunOptions options;
  int ranks = 0;
  std::string host;
  std::string meeting;  // how ranks meet before each call
};

class Report {
 public:
  // `table` may be null: nothing is printed then. Borrowed.
  Report(Setting setting, std::FILE* table) : setting_(std::move(setting)), table_(table) {}

  void print_header() const;
  void add(const SizeResult& result);
  [[nodiscard]] std::uint64_t wrong() const noexcept;
  // {"version", "op", "np", "host", "rows": [...], "memcpy": [...]}
  [[nodiscard]] std::string json() const;
  Status write_json(const std::string& path) const;

 private:
  Setting setting_;
  std::FILE* table_;
  std::vector<SizeResult> results_;
};

}  // namespace hora::perf
