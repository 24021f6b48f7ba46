#include "perf/command.h"

#include <errno.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/environment.h"
#include "base/machine.h"
#include "perf/options.h"
#include "perf/report.h"
#include "perf/runner.h"

namespace hora::perf {

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

// Becomes `hora run -np N hora perf ...`.
int start_ranks(const ParsedCommand& command) {
  if (const auto rank = Environment::of_process().find("HORA_RANK")) {
    fmt::print(stderr, "hora perf: -np starts a job, but this process is a rank of one already (HORA_RANK is {})\n",
               *rank);
    return 2;
  }
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  std::vector<std::string> words = {self, "run", "--no-tags", "-np", std::to_string(command.options.ranks),
                                    self, "perf"};
  words.insert(words.end(), command.rank_arguments.begin(), command.rank_arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  if (!error) ::execv(self.c_str(), argv.data());
  fmt::print(stderr, "hora perf: cannot start {}: {}\n", self, std::strerror(errno));
  return 1;
}

// A line on standard error that is overwritten, where somebody can see it.
class Progress {
 public:
  explicit Progress(bool wanted) : shown_(wanted && ::isatty(STDERR_FILENO) == 1) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }
  void show(std::uint64_t bytes, std::size_t index, std::size_t count) const {
    if (shown_) fmt::print(stderr, "\r\033[Khora perf: {} B ({} of {})", bytes, index + 1, count);
  }
  void clear() const {
    if (shown_) fmt::print(stderr, "\r\033[K");
  }

 private:
  bool shown_;
};

// Whether this host has fewer CPUs for its ranks than ranks, also where each rank is bound to some of them.
bool is_crowded(Communicator& comm) {
  const std::array<std::int64_t, 2> own = {static_cast<std::int64_t>(std::hash<std::string>()(host_name())),
                                           ::getpid()};
  std::vector<std::int64_t> all(own.size() * static_cast<std::size_t>(comm.size()));
  comm.allgather<std::int64_t>(own, all);
  std::vector<pid_t> here;
  for (std::size_t i = 0; i < all.size(); i += own.size())
    if (all[i] == own[0]) here.push_back(static_cast<pid_t>(all[i + 1]));
  return static_cast<int>(here.size()) > usable_cpus_with(here);
}

int run_as_rank(const RunOptions& options) {
  Communicator comm = Communicator::init();
  const bool crowded = is_crowded(comm);
  const bool first = comm.rank() == 0;
  const std::vector<std::uint64_t> sizes = sizes_of(options, comm.size());
  if (sizes.empty()) {
    if (first) fmt::print(stderr, "hora perf: no size from -b to -e holds an element of each rank\n");
    comm.shutdown();
    return 2;
  }
  std::uint64_t wrong = 0;
  Status written;
  {
    MeetingPoint meeting(comm, crowded);
    Runner runner(comm, meeting, options, sizes.back(), crowded);
    Report report({options, comm.size(), host_name(), meeting.description()}, first ? stdout : nullptr);
    const Progress progress(first);
    report.print_header();
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      progress.show(sizes[i], i, sizes.size());
      const SizeResult result = runner.measure(sizes[i]);
      progress.clear();
      report.add(result);
    }
    wrong = report.wrong();
    if (first && !options.json_path.empty()) written = report.write_json(options.json_path);
  }
  comm.shutdown();
  if (first && wrong != 0) fmt::print(stderr, "hora perf: {} elements were wrong\n", wrong);
  if (!written) fmt::print(stderr, "hora perf: {}\n", written.to_string());
  return wrong == 0 && written.ok() ? 0 : 1;
}

}  // namespace

int perf_command(int argc, char** argv) {
  const ParsedCommand command = parse_command(argc, argv);
  if (command.finished) return command.exit_status;
  if (command.options.ranks > 0) return start_ranks(command);
  try {
    return run_as_rank(command.options);
  } catch (const Error& error) {
    fmt::print(stderr, "hora perf: {}\n", error.what());
    return 1;
  }
}

}  // namespace hora::perf
