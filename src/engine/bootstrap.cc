#include "engine/bootstrap.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <fstream>
#include <span>
#include <utility>
#include <vector>

#include "base/entropy.h"
#include "base/sha256.h"
#include "base/socket_address.h"
#include "base/wire.h"

namespace hora::engine {
namespace {

using std::chrono::milliseconds;

void write_config(wire::Writer& writer, const AgreedConfig& config) {
  writer.u32(config.min_size);
  writer.u32(config.silence_ms);
  writer.u64(config.fusion_bytes);
  writer.u32(config.chunk_bytes);
  writer.u32(config.one_shot_bytes);
  writer.u8(static_cast<std::uint8_t>(config.transport));
  writer.u32(config.sockets_per_pair);
}

AgreedConfig read_config(wire::Reader& reader) {
  AgreedConfig config;
  config.min_size = reader.u32();
  config.silence_ms = reader.u32();
  config.fusion_bytes = reader.u64();
  config.chunk_bytes = reader.u32();
  config.one_shot_bytes = reader.u32();
  config.transport = static_cast<Transport>(reader.below(kTransportCount));
  config.sockets_per_pair = reader.u32();
  return config;
}

void write_member(wire::Writer& writer, const Member& member) {
  writer.u64(member.id.value);
  writer.u64(member.host);
  writer.string(member.address);
}

Member read_member(wire::Reader& reader) {
  Member member;
  member.id = MemberId{reader.u64()};
  member.host = reader.u64();
  member.address = reader.string();
  return member;
}

// What each rank publishes. The config counts of rank 0 only.
struct Founder {
  Member member;
  AgreedConfig config;
};

std::string encode_text(wire::Writer& writer) {
  const auto bytes = writer.view();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The one outcome: a view, or why there is none.
std::string encode_outcome(const Result<View>& outcome) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(outcome.status().code()));
  writer.string(outcome.status().message());
  if (outcome.ok()) {
    const View& view = outcome.value();
    writer.u32(static_cast<std::uint32_t>(view.members.size()));
    for (const Member& member : view.members) write_member(writer, member);
    write_config(writer, view.config);
  }
  return encode_text(writer);
}

Result<View> decode_outcome(const std::string& text) {
  wire::Reader reader(bytes_of(text));
  const auto code = static_cast<StatusCode>(reader.below(static_cast<std::uint8_t>(StatusCode::internal) + 1));
  std::string message = reader.string();
  if (reader.ok() && code != StatusCode::ok) return Status(code, std::move(message));
  View view;
  view.epoch = Epoch{1};
  const std::uint32_t size = reader.count(20);
  for (std::uint32_t rank = 0; rank < size; ++rank) view.members.push_back(read_member(reader));
  view.config = read_config(reader);
  if (!reader.finished()) return Status(StatusCode::internal, "the store holds a malformed founding view");
  return view;
}

// One rank's way through the meeting. Keys: size, founder/RANK, arrived (a counter) and outcome, which is decided once.
class Meeting {
 public:
  Meeting(const Options& options, Store& store, const Clock& clock) : options_(options), store_(store), clock_(clock) {}

  Result<View> attend(const Founder& self) {
    const TimePoint deadline = clock_.now() + milliseconds(options_.start_timeout_ms);
    auto accepted = enter(self);
    if (!accepted.ok()) return accepted.status();
    if (!accepted->empty()) return reject(*accepted);
    auto arrived = store_.add(key("arrived"), 1);
    if (!arrived.ok()) return arrived.status();
    if (*arrived == options_.size) return decide(compose());
    const auto left = std::max(deadline - clock_.now(), Duration(milliseconds(1)));
    const auto outcome = store_.wait(key("outcome"), left);
    if (outcome.ok()) return decode_outcome(outcome.value());
    if (outcome.status().code() != StatusCode::timed_out) return outcome.status();
    // Either some did not come, or the last one died before it could put the view together.
    return decide(compose());
  }

 private:
  [[nodiscard]] std::string key(std::string_view name) const { return fmt::format("hora/{}/{}", options_.job, name); }
  [[nodiscard]] std::string founder_key(int rank) const { return key(fmt::format("founder/{}", rank)); }

  // Publishes this rank. Not empty: why it cannot be part of the job.
  Result<std::string> enter(const Founder& self) {
    if (options_.rank < 0 || options_.rank >= options_.size)
      return fmt::format("a rank was started with HORA_RANK={} and HORA_SIZE={}: ranks are 0 to {}", options_.rank,
                         options_.size, options_.size - 1);
    const std::string size = fmt::format("{}", options_.size);
    auto first = store_.compare_and_swap(key("size"), std::nullopt, size);
    if (!first.ok()) return first.status();
    if (!*first) {
      auto theirs = store_.get(key("size"));
      if (!theirs.ok()) return theirs.status();
      if (theirs.value() != size)
        return fmt::format("rank {} was started with HORA_SIZE={}, others with HORA_SIZE={}", options_.rank, size,
                           theirs->value_or("nothing"));
    }
    wire::Writer writer;
    write_member(writer, self.member);
    write_config(writer, self.config);
    auto published = store_.compare_and_swap(founder_key(options_.rank), std::nullopt, encode_text(writer));
    if (!published.ok()) return published.status();
    if (!*published)
      return fmt::format("two processes are rank {} of job \"{}\" (HORA_RANK, or HORA_JOB was used before)",
                         options_.rank, options_.job);
    return std::string();
  }

  // This rank is wrong whatever the others agree on; as long as nothing is decided, they hear of it too.
  Status reject(const std::string& why) {
    const Status wrong(StatusCode::invalid_argument, why);
    (void)decide(wrong);
    return wrong;
  }

  // The view of all that came, or who did not.
  Result<View> compose() {
    View view;
    view.epoch = Epoch{1};
    std::vector<int> missing;
    for (int rank = 0; rank < options_.size; ++rank) {
      auto record = store_.get(founder_key(rank));
      if (!record.ok()) return record.status();
      if (!record.value()) {
        missing.push_back(rank);
        continue;
      }
      wire::Reader reader(bytes_of(**record));
      view.members.push_back(read_member(reader));
      const AgreedConfig config = read_config(reader);
      if (rank == 0) view.config = config;
      if (!reader.finished())
        return Status(StatusCode::internal, fmt::format("the store holds a malformed record of rank {}", rank));
    }
    if (missing.empty()) return view;
    return Status(StatusCode::timed_out,
                  fmt::format("rank{} {} did not come within {} ms (HORA_START_TIMEOUT_MS); {} of {} ranks did",
                              missing.size() > 1 ? "s" : "", fmt::join(missing, ", "), options_.start_timeout_ms,
                              view.members.size(), options_.size));
  }

  // The outcome that stands: this one, or the one that was there first.
  Result<View> decide(const Result<View>& proposed) {
    auto mine = store_.compare_and_swap(key("outcome"), std::nullopt, encode_outcome(proposed));
    if (!mine.ok()) return proposed.ok() ? mine.status() : proposed.status();
    if (*mine) return proposed;
    auto theirs = store_.get(key("outcome"));
    if (!theirs.ok()) return theirs.status();
    return decode_outcome(theirs->value_or(""));
  }

  const Options& options_;
  Store& store_;
  const Clock& clock_;
};

Status validate(const Options& options, const Store* store) {
  if (options.size < 1) return {StatusCode::invalid_argument, fmt::format("HORA_SIZE is {}", options.size)};
  if (options.size == 1 && options.rank != 0)
    return {StatusCode::invalid_argument, fmt::format("HORA_RANK is {}, but HORA_SIZE is 1", options.rank)};
  if (options.min_size > static_cast<std::uint32_t>(options.size))
    return {StatusCode::invalid_argument,
            fmt::format("HORA_MIN_SIZE is {}, more than HORA_SIZE {}", options.min_size, options.size)};
  if (options.size > 1 && store == nullptr)
    return {StatusCode::invalid_argument, "HORA_STORE is not set: more than one rank need a store to meet at"};
  return {};
}

}  // namespace

MemberId new_member_id() {
  return MemberId{entropy64()};
}

Result<std::uint64_t> this_host() {
  std::string identity;
  std::ifstream boot_id("/proc/sys/kernel/random/boot_id");
  if (!std::getline(boot_id, identity)) return system_error("cannot read /proc/sys/kernel/random/boot_id", errno);
  for (const char* name : {"pid", "net", "ipc"}) {
    std::array<char, 64> target;
    const std::string path = fmt::format("/proc/self/ns/{}", name);
    const ssize_t bytes = ::readlink(path.c_str(), target.data(), target.size());
    if (bytes <= 0) return Status(StatusCode::resource, fmt::format("cannot read {}", path));
    identity += fmt::format(" {}", std::string_view(target.data(), static_cast<std::size_t>(bytes)));
  }
  const Digest digest = sha256(bytes_of(identity));
  wire::Reader reader(digest);
  return reader.u64();
}

Result<Founding> agree(const Options& options, Store* store, const Clock& clock, MemberId id, std::uint64_t host,
                       const std::string& address) {
  HORA_TRY(validate(options, store));
  Founder self;
  self.member = Member{id, host, address};
  self.config.min_size = options.min_size;
  self.config.silence_ms = options.silence_ms;
  self.config.fusion_bytes = options.fusion_bytes;
  self.config.chunk_bytes = options.chunk_bytes;
  self.config.one_shot_bytes = options.one_shot_bytes;
  self.config.transport = options.transport.value_or(Transport::shm);
  self.config.sockets_per_pair = options.sockets_per_pair;
  if (options.size == 1) {
    View view{Epoch{1}, {self.member}, Decider::members, self.config};
    return Founding{std::move(view), Rank{0}};
  }
  auto view = Meeting(options, *store, clock).attend(self);
  if (!view.ok()) return view.status();
  const auto rank = view->rank_of(id);
  if (!rank || view->size() != options.size)
    return Status(StatusCode::internal, "the founding view does not contain this rank");
  return Founding{std::move(*view), *rank};
}

}  // namespace hora::engine
