#include "perf/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <string_view>

#include "base/command_line.h"
#include "base/environment.h"

namespace hora::perf {

namespace {

constexpr std::uint64_t kBytesMost = 64ULL << 30;

template <typename Enum>
std::map<std::string, Enum> names_of(int count) {
  std::map<std::string, Enum> names;
  for (int i = 0; i < count; ++i) names.emplace(to_string(static_cast<Enum>(i)), static_cast<Enum>(i));
  return names;
}

// Operations under their names with and without the underscore that other tools write.
std::map<std::string, Collective> operation_names() {
  auto names = names_of<Collective>(kCollectiveCount);
  names.emplace("all_reduce", Collective::allreduce);
  names.emplace("all_gather", Collective::allgather);
  return names;
}

// Turns a name into the number that CLI11 reads enumerators from.
template <typename Enum>
CLI::Validator one_of(std::map<std::string, Enum> names) {
  return CLI::Validator(
      [names = std::move(names)](std::string& text) {
        const auto found = names.find(text);
        if (found == names.end()) {
          std::string known;
          for (const auto& [name, value] : names) known += (known.empty() ? "" : ", ") + name;
          return "'" + text + "' is not one of " + known;
        }
        text = std::to_string(static_cast<int>(found->second));
        return std::string();
      },
      "NAME");
}

CLI::Validator binary_size() {
  return CLI::Validator(
      [](std::string& text) {
        const auto bytes = parse_number(text, 1, kBytesMost, Suffixes::sizes);
        if (!bytes) return std::string(bytes.status().message());
        text = std::to_string(bytes.value());
        return std::string();
      },
      "SIZE");
}

// What the library offers: a broadcast has one buffer.
std::vector<Placement> placements_of(Collective kind, const std::string& wanted) {
  std::vector<Placement> placements;
  const bool has_out_of_place = kind == Collective::allreduce || kind == Collective::allgather;
  if (has_out_of_place && wanted != "in-place") placements.push_back(Placement::out_of_place);
  if (wanted != "out-of-place") placements.push_back(Placement::in_place);
  return placements;
}

std::string objection_to(const RunOptions& options) {
  if (options.bytes_least > options.bytes_most) return "-b is larger than -e";
  if (options.op == ReduceOp::average && !is_floating(options.dtype)) return "-o average needs a floating type";
  if (options.placements.empty()) return std::string(to_string(options.kind)) + " does not have that placement";
  if (options.kind == Collective::barrier && options.front == Front::negotiated) return "barrier is an ordered call";
  return {};
}

std::vector<std::string> without_np(const std::vector<std::string>& arguments) {
  std::vector<std::string> rest;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--np") {
      ++i;
    } else if (!arguments[i].starts_with("--np=")) {
      rest.push_back(arguments[i]);
    }
  }
  return rest;
}

}  // namespace

const char* to_string(Front front) noexcept {
  return front == Front::ordered ? "ordered" : "negotiated";
}

const char* to_string(Placement placement) noexcept {
  return placement == Placement::in_place ? "in-place" : "out-of-place";
}

ParsedCommand parse_command(int argc, const char* const* argv) {
  ParsedCommand parsed;
  RunOptions& options = parsed.options;
  std::string placement = "both";
  const std::map<std::string, Front> fronts = {{"ordered", Front::ordered}, {"negotiated", Front::negotiated}};

  CLI::App app(
      "Times a collective operation; columns and bandwidths as in nccl-tests.\n"
      "e.g. hora perf allreduce -np 2 -b 4 -e 64M -f 4",
      "hora perf");
  app.add_option("OP", options.kind, "allreduce (all_reduce), broadcast, allgather (all_gather) or barrier")
      ->required()
      ->transform(one_of(operation_names()));
  app.add_option("--np", options.ranks, "-np N: start N ranks here; else this is a rank of whoever started it")
      ->check(CLI::Range(1, kRanksMost));
  app.add_option("-b", options.bytes_least, "smallest size; K, M and G are binary")->transform(binary_size());
  app.add_option("-e", options.bytes_most, "largest size")->transform(binary_size());
  app.add_option("-f", options.factor, "from one size to the next")->check(CLI::Range(2, 1 << 20));
  app.add_option("-d,--dtype", options.dtype, "element type")->transform(one_of(names_of<DataType>(kDataTypeCount)));
  app.add_option("-o,--op", options.op, "sum, average, min, max or product")
      ->transform(one_of(names_of<ReduceOp>(kReduceOpCount)));
  app.add_option("--path", options.front, "ordered or negotiated")->transform(one_of(fronts));
  app.add_option("--placement", placement, "out-of-place, in-place or both")
      ->check(CLI::IsMember({"out-of-place", "in-place", "both"}).description("NAME"));
  app.add_option("--iterations", options.iterations, "timed calls a size")->check(CLI::Range(1, 10'000'000));
  app.add_option("--json", options.json_path, "also write the results to FILE");

  const std::vector<std::string> arguments = with_long_np(argc, argv, {"-h", "--help"}, CommandFollows::no);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    options.placements = placements_of(options.kind, placement);
    if (const std::string objection = objection_to(options); !objection.empty()) throw CLI::ValidationError(objection);
  } catch (const CLI::ParseError& error) {
    parsed.finished = true;
    parsed.exit_status = app.exit(error) == 0 ? 0 : 2;
  }
  parsed.rank_arguments = without_np(arguments);
  return parsed;
}

std::vector<std::uint64_t> sizes_of(const RunOptions& options, int ranks) {
  if (options.kind == Collective::barrier) return {0};
  const std::uint64_t smallest =
      size_of(options.dtype) * (options.kind == Collective::allgather ? static_cast<std::uint64_t>(ranks) : 1);
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t bytes = options.bytes_least; bytes <= options.bytes_most; bytes *= options.factor) {
    const std::uint64_t whole = bytes / smallest * smallest;
    if (whole != 0 && (sizes.empty() || sizes.back() != whole)) sizes.push_back(whole);
  }
  return sizes;
}

int calls_for(const RunOptions& options, std::uint64_t bytes, bool crowded) {
  if (options.iterations > 0) return options.iterations;
  const int calls = bytes <= 16 << 10 ? 3000 : bytes <= 1 << 20 ? 300 : bytes <= 8 << 20 ? 40 : 12;
  return crowded ? calls / 10 + 6 : calls;
}

}  // namespace hora::perf
