#include "perf/report.h"

#include <errno.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/version.h"

namespace hora::perf {

namespace {

using Json = nlohmann::ordered_json;

std::string columns_of(const std::optional<Measurement>& measurement, std::uint64_t bytes, double factor) {
  if (!measurement) return fmt::format("{:>10} {:>7} {:>7} {:>6} {:>10}", "-", "-", "-", "-", "-");
  const double bandwidth = algorithm_bandwidth(bytes, measurement->time_us.p50);
  return fmt::format("{:>10.2f} {:>7.2f} {:>7.2f} {:>6} {:>10.2f}", measurement->time_us.p50, bandwidth,
                     bandwidth * factor, measurement->wrong, measurement->back_to_back_us);
}

bool has_type(Collective kind) {
  return kind != Collective::barrier;
}

const char* name_of_op(const RunOptions& options) {
  return options.kind == Collective::allreduce ? to_string(options.op) : "none";
}

Json row_of(const Setting& setting, const SizeResult& result, const Measurement& measurement, Placement placement) {
  const double bandwidth = algorithm_bandwidth(result.bytes, measurement.time_us.p50);
  const Summary& time = measurement.time_us;
  return {{"bytes", result.bytes},
          {"count", result.count},
          {"dtype", has_type(setting.options.kind) ? to_string(setting.options.dtype) : "none"},
          {"redop", name_of_op(setting.options)},
          {"path", to_string(setting.options.front)},
          {"placement", to_string(placement)},
          {"time_us", {{"min", time.min}, {"p50", time.p50}, {"p95", time.p95}, {"p99", time.p99}, {"max", time.max}}},
          {"algbw_GBps", bandwidth},
          {"busbw_GBps", bandwidth * bus_factor(setting.options.kind, setting.ranks)},
          {"wrong", measurement.wrong}};
}

}  // namespace

void Report::print_header() const {
  if (table_ == nullptr) return;
  fmt::print(table_, "# hora {}: {}, {} ranks on {}, {} path; ranks meet {} before each call\n", version(),
             to_string(setting_.options.kind), setting_.ranks, setting_.host, to_string(setting_.options.front),
             setting_.meeting);
  fmt::print(table_,
             "# time: median of the slowest rank of each call; chain: a call without meetings in between; "
             "copy: memcpy of the size by all ranks at once\n");
  fmt::print(table_, "#{:>45} {:^44} {:^44}\n", "", "out-of-place", "in-place");
  constexpr const char* kGroup = "      time   algbw   busbw #wrong      chain";
  constexpr const char* kUnits = "      (us)  (GB/s)  (GB/s)              (us)";
  fmt::print(table_, "#{:>11} {:>12} {:>9} {:>8}  {} {} {:>10}\n", "size", "count", "type", "redop", kGroup, kGroup,
             "copy");
  fmt::print(table_, "#{:>11} {:>12} {:>9} {:>8}  {} {} {:>10}\n", "(B)", "(elements)", "", "", kUnits, kUnits, "(us)");
  std::fflush(table_);
}

void Report::add(const SizeResult& result) {
  results_.push_back(result);
  if (table_ == nullptr) return;
  const double factor = bus_factor(setting_.options.kind, setting_.ranks);
  const std::string copy = result.bytes == 0 ? "-" : fmt::format("{:.2f}", result.memcpy_p50_us);
  fmt::print(table_, " {:>11} {:>12} {:>9} {:>8}  {} {} {:>10}\n", result.bytes, result.count,
             has_type(setting_.options.kind) ? to_string(setting_.options.dtype) : "none", name_of_op(setting_.options),
             columns_of(result.out_of_place, result.bytes, factor), columns_of(result.in_place, result.bytes, factor),
             copy);
  std::fflush(table_);
}

std::uint64_t Report::wrong() const noexcept {
  std::uint64_t wrong = 0;
  for (const SizeResult& result : results_) {
    wrong += (result.out_of_place ? result.out_of_place->wrong : 0) + (result.in_place ? result.in_place->wrong : 0);
  }
  return wrong;
}

std::string Report::json() const {
  Json rows = Json::array();
  Json copies = Json::array();
  for (const SizeResult& result : results_) {
    if (result.out_of_place) rows.push_back(row_of(setting_, result, *result.out_of_place, Placement::out_of_place));
    if (result.in_place) rows.push_back(row_of(setting_, result, *result.in_place, Placement::in_place));
    if (result.bytes != 0) copies.push_back({{"bytes", result.bytes}, {"p50_us", result.memcpy_p50_us}});
  }
  const Json all = {{"version", std::string(version())},
                    {"op", to_string(setting_.options.kind)},
                    {"np", setting_.ranks},
                    {"host", setting_.host},
                    {"rows", std::move(rows)},
                    {"memcpy", std::move(copies)}};
  return all.dump(2) + "\n";
}

Status Report::write_json(const std::string& path) const {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << json();
  file.close();
  if (file) return {};
  return Status(StatusCode::resource, fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

}  // namespace hora::perf
