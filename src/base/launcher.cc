#include "base/launcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>

#include "base/sha256.h"
#include "hora/types.hpp"

namespace hora {

namespace {


struct Kind {
  std::string_view name;
  std::string_view slug;      // begins the names of its jobs
  std::string_view required;  // without it, the others mean nothing
  std::string_view rank;
  std::string_view size;
  std::string_view local_rank;
  std::string_view local_size;
  std::array<std::string_view, 3> job;  // whatever tells its jobs from each other, on all hosts alike
};

// In the order in which they count where ancestors do not decide: who starts ranks inside of whom, mostly.
constexpr std::array<Kind, 5> kKinds = {{
    {"hora run", "hora", "HORA_RANK", "HORA_RANK", "HORA_SIZE", "", "", {"HORA_LAUNCH_TOKEN", "HORA_JOB", "HORA_JOIN"}},
    {"torchrun",
     "torchrun",
     "TORCHELASTIC_RUN_ID",
     "RANK",
     "WORLD_SIZE",
     "LOCAL_RANK",
     "LOCAL_WORLD_SIZE",
     {"TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT"}},
    {"mpirun of Open MPI",
     "mpirun",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", ""}},
    {"mpiexec of MPICH or Intel MPI",
     "mpiexec",
     "PMI_RANK",
     "PMI_RANK",
     "PMI_SIZE",
     "MPI_LOCALRANKID",
     "MPI_LOCALNRANKS",
     {"I_MPI_HYDRA_UUID", "", ""}},
    // SLURM_STEP_ID is what a batch script, which is no rank, lacks.
    {"srun of Slurm",
     "srun",
     "SLURM_STEP_ID",
     "SLURM_PROCID",
     "SLURM_STEP_NUM_TASKS",
     "SLURM_LOCALID",
     "",
     {"SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"}},
}};
constexpr const Kind& kHora = kKinds[0];
constexpr const Kind& kSlurm = kKinds[4];

// Of which hora run is the only author, where it has been at work.
constexpr std::array<std::string_view, 12> kSetByHoraRun = {
    "HORA_RANK",   "HORA_SIZE",         "HORA_LOCAL_RANK", "HORA_LOCAL_SIZE",    "HORA_PROCESS", "HORA_JOB",
    "HORA_SECRET", "HORA_LAUNCH_TOKEN", "HORA_MIN_SIZE",   "HORA_KILL_SUSPECTS", "HORA_JOIN",    "HORA_STORE"};
constexpr std::size_t kIdentities = 4;  // the first of them: what a user may set as well

constexpr std::array<std::string_view, 32> kForeign = {"RANK",
                                                       "WORLD_SIZE",
                                                       "LOCAL_RANK",
                                                       "LOCAL_WORLD_SIZE",
                                                       "GROUP_RANK",
                                                       "GROUP_WORLD_SIZE",
                                                       "ROLE_RANK",
                                                       "ROLE_WORLD_SIZE",
                                                       "MASTER_ADDR",
                                                       "MASTER_PORT",
                                                       "TORCHELASTIC_RUN_ID",
                                                       "TORCHELASTIC_RESTART_COUNT",
                                                       "TORCHELASTIC_MAX_RESTARTS",
                                                       "TORCHELASTIC_USE_AGENT_STORE",
                                                       "OMPI_COMM_WORLD_RANK",
                                                       "OMPI_COMM_WORLD_SIZE",
                                                       "OMPI_COMM_WORLD_LOCAL_RANK",
                                                       "OMPI_COMM_WORLD_LOCAL_SIZE",
                                                       "OMPI_COMM_WORLD_NODE_RANK",
                                                       "PMIX_RANK",
                                                       "PMIX_NAMESPACE",
                                                       "PMI_RANK",
                                                       "PMI_SIZE",
                                                       "PMI_FD",
                                                       "PMI_PORT",
                                                       "PMI_ID",
                                                       "MPI_LOCALRANKID",
                                                       "MPI_LOCALNRANKS",
                                                       "SLURM_PROCID",
                                                       "SLURM_LOCALID",
                                                       "SLURM_STEP_ID",
                                                       "SLURM_STEP_NUM_TASKS"};

bool started(const Kind& kind, const Environment& environment) {
  if (&kind == &kHora && environment.find("HORA_JOIN") == "1") return true;  // a newcomer has no rank
  return environment.find(kind.required).has_value() && environment.find(kind.rank).has_value();
}

bool same_rank(const Kind& kind, const Environment& one, const Environment& other) {
  const auto same = [&](std::string_view name) { return one.find(name) == other.find(name); };
  return same(kind.rank) && same(kind.size) && same(kind.required) && std::ranges::all_of(kind.job, same);
}

// How many ancestors have the variables as this process has: the next one is the launching process.
std::size_t depth_of(const Kind& kind, const Environment& environment, std::span<const Ancestor> ancestors) {
  const auto outside = std::ranges::find_if(ancestors, [&](const Ancestor& ancestor) {
    return !ancestor.environment || !same_rank(kind, environment, *ancestor.environment);
  });
  return static_cast<std::size_t>(outside - ancestors.begin());
}

Result<int> number(const Environment& environment, std::string_view name, std::uint64_t least, std::uint64_t most) {
  const auto text = environment.find(name);
  if (!text) return Status(StatusCode::invalid_argument, fmt::format("{} is not set", name));
  const auto value = parse_number(*text, least, most, Suffixes::none);
  if (!value.ok()) return Status(StatusCode::invalid_argument, fmt::format("{}: {}", name, value.status().message()));
  return static_cast<int>(value.value());
}

std::optional<int> optional_number(const Environment& environment, std::string_view name) {
  if (name.empty()) return std::nullopt;
  const auto value = number(environment, name, 0, kRanksMost);
  return value.ok() ? std::optional(value.value()) : std::nullopt;
}

std::optional<int> local_size_of(const Kind& kind, const Environment& environment) {
  if (&kind != &kSlurm) return optional_number(environment, kind.local_size);
  return tasks_of_node(environment.find("SLURM_STEP_TASKS_PER_NODE").value_or(""),
                       optional_number(environment, "SLURM_NODEID").value_or(0));
}

std::string short_hash(std::string_view text) {
  const Digest digest = sha256(std::as_bytes(std::span(text)));
  std::string result;
  for (const std::byte byte : std::span(digest).first(8))
    result += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  return result;
}

std::string set_text(const Environment& environment, std::string_view name) {
  return fmt::format("{}={}", name, environment.find(name).value_or(""));
}

Status fill_in(const Kind& kind, const Environment& environment, Launch& launch) {
  const auto size = number(environment, kind.size, 1, kRanksMost);
  if (!size.ok()) return {size.status().code(), fmt::format("{} ({})", size.status().message(), kind.name)};
  const auto rank = number(environment, kind.rank, 0, static_cast<std::uint64_t>(size.value()) - 1);
  if (!rank.ok()) return {rank.status().code(), fmt::format("{} ({})", rank.status().message(), kind.name)};
  launch.rank = rank.value();
  launch.size = size.value();
  launch.local_rank = optional_number(environment, kind.local_rank);
  launch.local_size = local_size_of(kind, environment);
  return {};
}

}  // namespace

std::span<const std::string_view> foreign_launcher_variables() {
  return kForeign;
}

std::optional<int> tasks_of_node(std::string_view list, int node) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view entry = list.substr(0, comma);
    list.remove_prefix(comma == list.npos ? list.size() : comma + 1);
    int tasks = 0, nodes = 1;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), tasks);
    const std::string_view rest = entry.substr(static_cast<std::size_t>(end - entry.data()));
    if (error != std::errc() || tasks < 1) return std::nullopt;
    if (rest.starts_with("(x"))
      std::from_chars(rest.data() + 2, rest.data() + rest.size(), nodes);
    else if (!rest.empty())
      return std::nullopt;
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return std::nullopt;
}

Result<Launch> recognize_launcher(const Environment& environment, std::span<const Ancestor> ancestors) {
  const bool hora_run = environment.find("HORA_LAUNCH_TOKEN").has_value();
  const bool newcomer = environment.find("HORA_JOIN") == "1";
  const Kind* innermost = nullptr;
  std::size_t depth = 0;
  for (const Kind& kind : kKinds) {
    if (!started(kind, environment)) continue;
    const std::size_t own = depth_of(kind, environment, ancestors);
    if (innermost == nullptr || own < depth) innermost = &kind, depth = own;
    if (newcomer && !hora_run) break;  // a user who says so means it, whoever starts the process
  }
  Launch launch;
  if (innermost == nullptr) return launch;
  launch.hora = innermost == &kHora;
  launch.launcher = innermost->name;
  launch.evidence = set_text(environment, innermost->rank) + ", " + set_text(environment, innermost->size);
  if (launch.hora) {
    if (!hora_run) launch.launcher = "a user";
    if (newcomer) launch.evidence = "HORA_JOIN=1";
    return launch;
  }
  const std::size_t overruled = hora_run ? kSetByHoraRun.size() : kIdentities;
  launch.overruled.assign(kSetByHoraRun.begin(), kSetByHoraRun.begin() + static_cast<std::ptrdiff_t>(overruled));
  HORA_TRY(fill_in(*innermost, environment, launch));
  std::string job(innermost->slug);
  for (const std::string_view name : innermost->job)
    if (!name.empty()) job += ' ' + set_text(environment, name);
  std::string host_job = job;
  if (depth < ancestors.size())
    host_job += fmt::format(" of process {}, started at {}", ancestors[depth].pid, ancestors[depth].start_time);
  launch.job = fmt::format("{}-{}", innermost->slug, short_hash(job));
  launch.host_job = fmt::format("{}-{}", innermost->slug, short_hash(host_job));
  return launch;
}

}  // namespace hora
