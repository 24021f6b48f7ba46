#include "engine/session.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <system_error>

#include "base/environment.h"
#include "base/machine.h"
#include "elastic/store/store_client.h"
#include "engine/bootstrap.h"
#include "transports/shm/board.h"

namespace hora::engine {

namespace {

// Signals are the application's: its threads get them, ours never do.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

template <typename Body>
std::thread start_thread(const char* name, Body body) {
  return std::thread([name, body] {
    pthread_setname_np(pthread_self(), name);
    body();
  });
}

}  // namespace

Result<std::unique_ptr<shm::Segment>> SegmentSource::create(MemberId owner, const shm::SegmentLayout& layout) {
  return shm::Segment::create(owner, layout);
}

Result<std::unique_ptr<shm::Segment>> SegmentSource::attach(UniqueFd fd, MemberId owner,
                                                            const shm::SegmentLayout& layout) {
  return shm::Segment::attach(std::move(fd), owner, layout);
}

Result<std::unique_ptr<Session>> Session::start(const Options& options) {
  SegmentSource segments;
  return start(options, segments);
}

Result<std::unique_ptr<Session>> Session::start(const Options& options, SegmentSource& segments) {
  const auto level = parse_log_level(Environment::of_process());
  if (!level.ok()) return level.status();
  std::unique_ptr<Session> session(new Session(options, level.value()));
  const SignalsBlocked blocked;
  try {
    HORA_TRY(session->join(segments));
  } catch (const std::system_error& error) {
    return Status(StatusCode::resource,
                  fmt::format("cannot start a thread: {}; raise the limits on processes and memory (ulimit -u, -v)",
                              error.what()));
  }
  return session;
}

Session::Session(const Options& options, LogLevel level)
    : options_(options), process_(getpid()), log_(level, fmt::format("rank={}", options.rank)), id_(new_member_id()) {}

Status Session::join(SegmentSource& segments) {
  const auto host = this_host();
  if (!host.ok()) return host.status();
  auto tcp_host = own_tcp_host(options_);
  if (!tcp_host.ok()) return tcp_host.status();
  auto mesh =
      control::Mesh::listen({id_, options_.job, options_.secret, host.value()},
                            {std::move(tcp_host).value(), options_.port_first, options_.port_last}, clock_, log_);
  if (!mesh.ok()) return mesh.status();
  mesh_ = std::move(mesh).value();
  if (!options_.store.empty()) {
    store_ =
        std::make_unique<store::StoreClient>(store::ClientConfig{options_.store, options_.job, options_.secret,
                                                                 std::chrono::milliseconds(options_.start_timeout_ms)},
                                             clock_);
  }
  auto founding = agree(options_, store_.get(), clock_, {id_, host.value(), mesh_->address()});
  if (!founding.ok()) return founding.status();
  HORA_TRY(connect(segments, founding->view, founding->self));
  return run(founding->view);
}

Status Session::connect(SegmentSource& segments, const View& view, Rank self) {
  const shm::SegmentLayout layout =
      shm::choose_layout(shm::last_level_cache_bytes(), view.config.chunk_bytes, view.config.one_shot_bytes);
  auto own = segments.create(id_, layout);
  if (!own.ok()) return own.status();
  own_segment_ = std::move(own).value();
  const TimePoint deadline = clock_.now() + std::chrono::milliseconds(options_.start_timeout_ms);
  auto links = mesh_->connect_all(view, self, own_segment_->fd(), deadline);
  if (!links.ok()) return links.status();
  for (control::PeerLink& link : links.value()) {
    auto segment = segments.attach(std::move(link.segment), link.id, layout);
    if (!segment.ok()) return segment.status();
    segments_[link.id] = std::move(segment).value();
    peers_[link.id] = {std::move(link.pidfd), segments_[link.id]};
  }
  return {};
}

std::vector<const shm::Segment*> Session::segments_of(const View& view) const {
  std::vector<const shm::Segment*> segments;
  for (const Member& member : view.members)
    segments.push_back(member.id == id_ ? own_segment_.get() : segments_.at(member.id).get());
  return segments;
}

Status Session::run(const View& view) {
  group_ = std::make_unique<shm::ShmGroup>(*own_segment_, segments_of(view), view);
  negotiation_link_ = std::make_unique<NegotiationLink>(*mesh_);
  const EngineOptions options{std::chrono::milliseconds(options_.stall_warning_ms),
                              std::chrono::milliseconds(options_.operation_timeout_ms),
                              view.size() > inspect_machine().usable_cpus};
  const auto make_board = [this](const View& of) -> std::unique_ptr<Board> {
    return std::make_unique<shm::ShmBoard>(*own_segment_, segments_of(of), of.epoch);
  };
  engine_ = std::make_unique<Engine>(options, view, id_, *group_, make_board, *negotiation_link_, clock_, log_);

  elastic::MembershipOptions membership;
  membership.decide = &Engine::decide;
  membership.kill_suspects = options_.kill_suspects;
  sentinel_ = std::make_unique<Sentinel>(std::move(membership), id_, view, *engine_, *mesh_, *own_segment_,
                                         std::move(peers_), clock_, log_);
  engine_->connect(*sentinel_);
  auto watcher = shm::LivenessWatcher::start(*own_segment_, *sentinel_);
  if (!watcher.ok()) return watcher.status();
  watcher_ = std::move(watcher).value();
  sentinel_thread_ = start_thread("hora-sentinel", [this] { sentinel_->run(*watcher_); });
  background_thread_ = start_thread("hora-background", [this] { engine_->run_background(); });
  return {};
}

Status Session::leave(std::chrono::milliseconds timeout) {
  sentinel_->leave();
  const bool agreed = sentinel_->wait_finished(timeout);
  stop();
  if (agreed) return {};
  return {StatusCode::timed_out,
          fmt::format("the other ranks did not confirm the departure within {} ms", timeout.count())};
}

void Session::stop() {
  if (sentinel_thread_.joinable()) {
    sentinel_->stop();
    sentinel_thread_.join();
  }
  if (engine_) engine_->fence(Status(StatusCode::shut_down, "the communicator was shut down"));
  if (background_thread_.joinable()) background_thread_.join();
}

Session::~Session() {
  if (getpid() != process_) {
    // A forked child has none of the threads; its copies must not speak for the parent.
    if (sentinel_thread_.joinable()) sentinel_thread_.detach();
    if (background_thread_.joinable()) background_thread_.detach();
    return;
  }
  stop();
}

}  // namespace hora::engine
