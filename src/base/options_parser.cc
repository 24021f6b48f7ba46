#include "base/options_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <concepts>

#include "base/failpoint.h"

namespace hora {

namespace {

constexpr std::uint64_t kDayMs = 24ULL * 60 * 60 * 1000;

Status invalid(std::string text) {
  return Status(StatusCode::invalid_argument, std::move(text));
}

// Reads numbers into the fields of Options; a variable that is absent leaves its field alone.
class Fields {
 public:
  explicit Fields(const Environment& environment) : environment_(environment) {}

  template <std::integral T>
  Status number(std::string_view name, T& field, std::uint64_t least, std::uint64_t most,
                Suffixes suffixes = Suffixes::none) const {
    const auto text = environment_.find(name);
    if (!text) return {};
    const auto value = parse_number(*text, least, most, suffixes);
    if (!value) return invalid(fmt::format("{}: {}", name, value.status().message()));
    field = static_cast<T>(value.value());
    return {};
  }

  Status flag(std::string_view name, bool& field) const {
    const auto text = environment_.find(name);
    if (!text) return {};
    if (*text != "0" && *text != "1") return invalid(fmt::format("{}: '{}' is not 0 or 1", name, *text));
    field = *text == "1";
    return {};
  }

  Status optional_number(std::string_view name, std::optional<int>& field, std::uint64_t least,
                         std::uint64_t most) const {
    int value = -1;
    HORA_TRY(number(name, value, least, most));
    if (value >= 0) field = value;
    return {};
  }

  void text(std::string_view name, std::string& field) const {
    if (const auto text = environment_.find(name)) field = *text;
  }

 private:
  const Environment& environment_;
};

// "host:port" for short: what HORA_STORE is on a cluster.
std::string with_scheme(std::string address) {
  const bool plain = !address.starts_with("tcp:") && !address.starts_with("unix:") && address.find(':') != address.npos;
  return plain ? "tcp:" + address : address;
}

// Told by hora run, or by a user: there is a store, and HORA_STORE says where.
Status read_identity(const Environment& environment, Options& options) {
  const Fields fields(environment);
  HORA_TRY(fields.number("HORA_SIZE", options.size, 1, kRanksMost));
  if (!environment.find("HORA_RANK") && options.size > 1) {
    return invalid(fmt::format("HORA_RANK is not set although HORA_SIZE is {}: a launcher sets both", options.size));
  }
  HORA_TRY(fields.number("HORA_RANK", options.rank, 0, static_cast<std::uint64_t>(options.size) - 1));
  HORA_TRY(fields.optional_number("HORA_LOCAL_RANK", options.local_rank, 0, kRanksMost));
  HORA_TRY(fields.optional_number("HORA_LOCAL_SIZE", options.local_size, 1, kRanksMost));
  fields.text("HORA_STORE", options.store);
  options.store = with_scheme(std::move(options.store));
  const bool meets_over_mpi = environment.find("HORA_TRANSPORT") == "mpi";
  if (options.size > 1 && options.store.empty() && !meets_over_mpi) {
    return invalid(
        fmt::format("HORA_STORE is not set although HORA_SIZE is {}: it is where the ranks meet", options.size));
  }
  fields.text("HORA_LAUNCH_TOKEN", options.launch_token);
  HORA_TRY(fields.flag("HORA_JOIN", options.join));
  if (options.join && options.store.empty()) {
    return invalid("HORA_STORE is not set although HORA_JOIN is 1: it is where the job is found");
  }
  return {};
}

// Told by a launcher that knows nothing of hora: rank 0 hosts the store, where HORA_STORE says, else on this host.
void read_identity(const Environment& environment, const Launch& launch, uid_t user, Options& options) {
  options.rank = launch.rank;
  options.size = launch.size;
  options.local_rank = launch.local_rank;
  options.local_size = launch.local_size;
  options.job = launch.job;
  if (launch.size == 1) return;
  std::string store;
  Fields(environment).text("HORA_STORE", store);
  options.meeting = store.empty() ? fmt::format("unix:@hora-{}-{}", user, launch.host_job) : with_scheme(store);
}

// What numbers may be, whoever sets them: visit(variable, field, least, most, suffixes) for each.
template <typename AnyOptions, typename Visitor>
Status for_each_range(AnyOptions& options, const Visitor& visit) {
  constexpr auto kPlain = Suffixes::none, kSizes = Suffixes::sizes;
  HORA_TRY(visit("HORA_START_TIMEOUT_MS", options.start_timeout_ms, 1, 30 * kDayMs, kPlain));
  HORA_TRY(visit("HORA_SILENCE_MS", options.silence_ms, 10, kDayMs, kPlain));
  HORA_TRY(visit("HORA_STALL_WARNING_MS", options.stall_warning_ms, 1, kDayMs, kPlain));
  HORA_TRY(visit("HORA_OPERATION_TIMEOUT_MS", options.operation_timeout_ms, 1, 30 * kDayMs, kPlain));
  HORA_TRY(visit("HORA_MIN_SIZE", options.min_size, 1, kRanksMost, kPlain));
  HORA_TRY(visit("HORA_FUSION_BYTES", options.fusion_bytes, 0, 1ULL << 30, kSizes));
  HORA_TRY(visit("HORA_CHUNK_BYTES", options.chunk_bytes, 0, kChunkBytesMost, kSizes));
  HORA_TRY(visit("HORA_ONE_SHOT_BYTES", options.one_shot_bytes, 0, kOneShotBytesMost, kSizes));
  HORA_TRY(visit("HORA_SOCKETS_PER_PAIR", options.sockets_per_pair, 1, 16, kPlain));
  return visit("HORA_JOIN_LOG_BYTES", options.join_log_bytes, 1 << 20, 1ULL << 50, kSizes);
}

Status read_numbers(const Environment& environment, Options& options) {
  const Fields fields(environment);
  HORA_TRY(
      for_each_range(options, [&](std::string_view name, auto& field, std::uint64_t least, std::uint64_t most,
                                  Suffixes suffixes) { return fields.number(name, field, least, most, suffixes); }));
  return fields.flag("HORA_KILL_SUSPECTS", options.kill_suspects);
}

Status read_ports(const Environment& environment, Options& options) {
  const auto text = environment.find("HORA_PORT_RANGE");
  if (!text) return {};
  const std::size_t dash = text->find('-');
  const auto first = parse_number(text->substr(0, dash), 1, 65535, Suffixes::none);
  const std::uint64_t least = first.ok() ? first.value() : 1;
  const auto last = dash == text->npos ? first : parse_number(text->substr(dash + 1), least, 65535, Suffixes::none);
  if (!first.ok() || !last.ok()) return invalid(fmt::format("HORA_PORT_RANGE: '{}' is not like 20000-20100", *text));
  options.port_first = static_cast<std::uint16_t>(first.value());
  options.port_last = static_cast<std::uint16_t>(last.value());
  return {};
}

Status read_transport(const Environment& environment, Options& options) {
  const Fields fields(environment);
  if (const auto text = environment.find("HORA_TRANSPORT")) {
    options.transport = parse_transport(*text);
    if (!options.transport) return invalid(fmt::format("HORA_TRANSPORT: '{}' is not shm, tcp, mixed or mpi", *text));
  }
  fields.text("HORA_MPI_PLUGIN", options.mpi_plugin);
  fields.text("HORA_SOCKET_IFNAME", options.socket_interface);
  return read_ports(environment, options);
}

}  // namespace

Status check_job_name(const std::string& job) {
  const bool plain = std::all_of(
      job.begin(), job.end(), [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; });
  if (plain && !job.empty() && job.size() <= 64) return {};
  return invalid(fmt::format("HORA_JOB: '{}' is not 1 to 64 letters, digits, '.', '_' and '-'", job));
}

Status check_options(const Options& options) {
  const auto within = [](std::string_view name, std::uint64_t value, std::uint64_t least, std::uint64_t most,
                         Suffixes) -> Status {
    if (value >= least && value <= most) return {};
    return invalid(fmt::format("{}: {} is not from {} to {}", name, value, least, most));
  };
  if (options.size < 1 || options.size > kRanksMost || options.rank < 0 || options.rank >= options.size) {
    return invalid(fmt::format("rank {} of {} is no rank of 1 to {}", options.rank, options.size, kRanksMost));
  }
  HORA_TRY(check_job_name(options.job));
  if (options.port_first > options.port_last) {
    return invalid(fmt::format("HORA_PORT_RANGE: {}-{} is empty", options.port_first, options.port_last));
  }
  return for_each_range(options, within);
}

Result<ParsedOptions> parse_options(const Environment& whole, std::span<const Ancestor> ancestors, uid_t user) {
  auto launch = recognize_launcher(whole, ancestors);
  if (!launch.ok()) return launch.status();
  const Environment environment = whole.without(launch->overruled);
  const Fields fields(environment);
  ParsedOptions parsed;
  Options& options = parsed.options;
  if (launch->hora)
    HORA_TRY(read_identity(environment, options));
  else
    read_identity(environment, *launch, user, options);
  if (!launch->launcher.empty()) options.launcher = fmt::format("{} ({})", launch->launcher, launch->evidence);
  parsed.launch = std::move(*launch);
  fields.text("HORA_JOB", options.job);
  HORA_TRY(check_job_name(options.job));
  fields.text("HORA_SECRET", options.secret);
  HORA_TRY(read_numbers(environment, options));
  HORA_TRY(read_transport(environment, options));
  HORA_TRY(fields.number("HORA_PROCESS", options.process, 0, 1U << 30));
  if (const auto level = parse_log_level(environment); !level) return level.status();
  if (const auto text = environment.find("HORA_FAILPOINT")) {
    if (!failpoint::kCompiledIn) {
      return Status(StatusCode::unsupported,
                    "HORA_FAILPOINT: this build has no failpoints (configure HORA_FAILPOINTS=ON)");
    }
    if (const auto plan = failpoint::parse(*text); !plan) return plan.status();
  }
  for (const auto& [name, value] : environment.values()) {
    if (std::string complaint = complain_about_name(name); !complaint.empty()) {
      parsed.warnings.push_back(std::move(complaint));
    }
  }
  return parsed;
}

}  // namespace hora
