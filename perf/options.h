// What one run of `hora perf` measures, from its command line.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hora/status.hpp"
#include "hora/types.hpp"

namespace hora::perf {

enum class Front : std::uint8_t { ordered, negotiated };
enum class Placement : std::uint8_t { out_of_place, in_place };

const char* to_string(Front front) noexcept;
const char* to_string(Placement placement) noexcept;

struct RunOptions {
  Collective kind = Collective::allreduce;
  int ranks = 0;  // to start; 0: this process is a rank of whoever started it
  std::uint64_t bytes_least = 4;
  std::uint64_t bytes_most = 64 << 20;
  std::uint64_t factor = 4;
  DataType dtype = DataType::float32;
  ReduceOp op = ReduceOp::sum;
  Front front = Front::ordered;
  std::vector<Placement> placements;  // those that were asked for and that the operation has
  int iterations = 0;                 // timed calls a size; 0: fewer for larger sizes
  std::string json_path;              // empty: no JSON
};

struct ParsedCommand {
  RunOptions options;
  bool finished = false;                    // nothing to run: help was printed, or the usage was wrong
  int exit_status = 0;                      // where finished
  std::vector<std::string> rank_arguments;  // the command line of one rank: the same without -np
};

// `argv[0]` is the name of the command. Usage errors are printed.
ParsedCommand parse_command(int argc, const char* const* argv);

// The sizes of the sweep, ascending; allgather's are those of the whole result. Sizes that hold no element are left
// out.
std::vector<std::uint64_t> sizes_of(const RunOptions& options, int ranks);

// Timed calls for `bytes`: enough for a median, few enough to end soon; ten times fewer when ranks outnumber the CPUs.
int calls_for(const RunOptions& options, std::uint64_t bytes, bool crowded);

}  // namespace hora::perf
