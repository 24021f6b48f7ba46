#include "engine/session.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/environment.h"
#include "base/machine.h"
#include "base/options_parser.h"
#include "base/thread.h"
#include "elastic/store/store_client.h"
#include "engine/bootstrap.h"
#include "engine/store_finder.h"

namespace hora::engine {

namespace {

// Who does not know how ranks were counted cannot know why they did not meet.
Status with_launcher(const Status& status, const Options& options) {
  if (status.ok() || options.meeting.empty()) return status;
  return {status.code(), fmt::format("{} [this process is rank {} of {} by {}]", status.message(), options.rank,
                                     options.size, options.launcher)};
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
  return start(options, nullptr);
}

Result<std::unique_ptr<Session>> Session::start(const Options& options, SegmentSource* segments) {
  const auto level = parse_log_level(Environment::of_process());
  if (!level.ok()) return level.status();
  HORA_TRY(check_options(options));
  std::unique_ptr<Session> session(new Session(options, level.value(), segments));
  try {
    if (const Status joined = session->join(); !joined.ok()) {
      session->give_up(joined);
      return with_launcher(joined, options);
    }
  } catch (const std::system_error& error) {
    return Status(StatusCode::resource,
                  fmt::format("cannot start a thread: {}; raise the limits on processes and memory (ulimit -u, -v)",
                              error.what()));
  }
  return session;
}

Session::Session(const Options& options, LogLevel level, SegmentSource* segments)
    : options_(options),
      process_(getpid()),
      segments_(segments != nullptr ? *segments : own_segments_),
      log_(level, options.join ? fmt::format("newcomer={}", options.process) : fmt::format("rank={}", options.rank)),
      id_(new_member_id()) {}

// Others whose time is up a little later should hear from the store who is missing, not that the store is gone.
void Session::give_up(const Status& why) {
  if (!hosted_store_ || why.code() != StatusCode::timed_out) return;
  store_.reset();
  hosted_store_->await_departures(std::chrono::milliseconds(options_.start_timeout_ms));
}

// Where no launcher of hora's own has said where the store is.
Status Session::join() {
  if (options_.transport == Transport::mpi && !options_.join) HORA_TRY(start_mpi());
  if (!options_.store.empty() || options_.meeting.empty() || options_.size == 1) return come_together();
  auto found = find_store(options_, clock_, log_);
  if (!found.ok()) return found.status();
  options_.store = found->access.address;
  options_.job = found->access.job;
  options_.secret = found->access.secret;
  hosted_store_ = std::move(found->hosted);
  return come_together();
}

Status Session::come_together() {
  const auto host = this_host();
  if (!host.ok()) return host.status();
  const auto tcp_host = own_tcp_host(options_);
  if (!tcp_host.ok()) return tcp_host.status();
  auto mesh = control::Mesh::listen({id_, options_.job, options_.secret, host.value()},
                                    {tcp_host.value(), options_.port_first, options_.port_last}, clock_, log_);
  if (!mesh.ok()) return mesh.status();
  mesh_ = std::move(mesh).value();
  if (!options_.store.empty()) {
    store_ =
        std::make_unique<store::StoreClient>(store::ClientConfig{options_.store, options_.job, options_.secret,
                                                                 std::chrono::milliseconds(options_.start_timeout_ms)},
                                             clock_);
  }
  negotiation_link_ = std::make_unique<SubjectLink>(*mesh_, Subject::negotiation);
  flush_link_ = std::make_unique<SubjectLink>(*mesh_, Subject::flush);
  device_link_ = std::make_unique<SubjectLink>(*mesh_, Subject::device);
  donor_ = std::make_unique<Donor>(state_, options_.join_log_bytes, log_);
  const Member self{id_, host.value(), mesh_->address()};
  return options_.join ? follow(self) : found(self);
}

Status Session::start_mpi() {
  const auto host = this_host();
  if (!host.ok()) return host.status();
  auto mpi = MpiRun::start(options_, log_);
  if (!mpi.ok()) return mpi.status();
  mpi_ = std::move(mpi).value();
  const bool knows_where = !options_.store.empty() || options_.meeting.starts_with("tcp:");
  if (knows_where || options_.size == 1) return {};
  auto hosted = mpi_->meet(host.value(), options_);
  if (!hosted.ok()) return hosted.status();
  hosted_store_ = std::move(hosted).value();
  return {};
}

Status Session::found(const Member& self) {
  auto founding = agree(options_, store_.get(), clock_, self);
  if (!founding.ok()) return founding.status();
  const View& view = founding->view;
  count_local_ranks(view);
  HORA_TRY(create_segment(view.config));
  const TimePoint deadline = clock_.now() + std::chrono::milliseconds(options_.start_timeout_ms);
  auto links = mesh_->connect_all(view, founding->self, own_segment_->fd(), deadline);
  if (!links.ok()) return links.status();
  std::map<MemberId, LocalPeer> peers;
  for (control::PeerLink& link : links.value()) {
    const MemberId id = link.id;
    auto peer = meet(std::move(link));
    if (!peer.ok()) return peer.status();
    peers[id] = std::move(peer).value();
  }
  HORA_TRY(start_engine(view, {}));
  front_ = engine_.get();
  sentinel_ = std::make_unique<Sentinel>(elastic::Membership(membership_options(), id_, view, id_.value, clock_.now()),
                                         engine_.get(), std::move(peers), surroundings());
  engine_->connect(*sentinel_);
  return start_sentinel(view.config);
}

Status Session::follow(const Member& self) {
  auto job = find_members(options_, *store_, clock_, self);
  if (!job.ok()) return job.status();
  HORA_TRY(create_segment(job->config));
  const auto sink = [this](control::PeerLink link) { sentinel_->add_link(std::move(link)); };
  auto newcomer = Newcomer::create(self, own_segment_->fd(), *mesh_, sink,
                                   std::chrono::milliseconds(options_.start_timeout_ms), clock_, log_);
  if (!newcomer.ok()) return newcomer.status();
  newcomer_ = std::move(newcomer).value();
  sentinel_ =
      std::make_unique<Sentinel>(elastic::Membership::outsider(membership_options(), self, id_.value, clock_.now()),
                                 Joining{*newcomer_}, std::map<MemberId, LocalPeer>(), surroundings());
  HORA_TRY(start_sentinel(job->config));
  HORA_TRY(newcomer_->find(job.value()));
  observer_ = std::make_unique<Observer>(*newcomer_, state_, log_);
  front_ = observer_.get();
  return {};
}

void Session::count_local_ranks(const View& view) {
  const int rank = view.rank_of(id_)->value;
  int before = 0, all = 0;
  for (int other = 0; other < view.size(); ++other) {
    const auto host_of = [&](int of) { return view.members[static_cast<std::size_t>(of)].host; };
    if (host_of(other) != host_of(rank)) continue;
    if (other < rank) ++before;
    ++all;
  }
  if (!options_.local_rank) options_.local_rank = before;
  if (!options_.local_size) options_.local_size = all;
}

Status Session::create_segment(const AgreedConfig& config) {
  auto own =
      segments_.create(id_, shm::choose_layout(last_level_cache_bytes(), config.chunk_bytes, config.one_shot_bytes));
  if (!own.ok()) return own.status();
  own_segment_ = std::move(own).value();
  const auto on_fault = [this](MemberId peer, const std::string& why) {
    log_(LogLevel::info, "tcp", "the data link to member {:x} is of no more use: {}", peer.value, why);
    sentinel_->on_data_link_down(peer);
  };
  data_plane_ = std::make_unique<DataPlane>(id_, config, *own_segment_, mpi_ ? &mpi_->links() : nullptr, on_fault);
  return {};
}

Result<LocalPeer> Session::meet(control::PeerLink link) {
  std::shared_ptr<const shm::Segment> shared;
  if (link.segment) {
    auto segment = segments_.attach(std::move(link.segment), link.id, own_segment_->layout());
    if (!segment.ok()) return segment.status();
    shared = std::move(segment).value();
  }
  if (link.pid > 0) local_processes_.push_back(link.pid);
  HORA_TRY(data_plane_->add(link.id, shared, std::move(link.data)));
  return LocalPeer{std::move(link.pidfd), std::move(shared)};
}

Status Session::prepare(const View& view, bool somebody_died) {
  if (newcomer_) newcomer_->on_view(view);  // its program may still be reading from a donor that is not in it
  if (somebody_died && mpi_) mpi_->abandon();
  return data_plane_->prepare(view);
}

Surroundings Session::surroundings() {
  return {*donor_, *this, *mesh_, *own_segment_, clock_, log_};
}

elastic::MembershipOptions Session::membership_options() const {
  elastic::MembershipOptions membership;
  membership.decide = &Engine::decide;
  membership.may_enter = &Engine::may_enter;
  membership.kill_suspects = options_.kill_suspects;
  return membership;
}

Status Session::start_sentinel(const AgreedConfig& config) {
  auto watcher = shm::LivenessWatcher::start(*own_segment_, *sentinel_);
  if (!watcher.ok()) return watcher.status();
  watcher_ = std::move(watcher).value();
  sentinel_thread_ = start_thread("hora-sentinel", [this] {
    sentinel_->run(*watcher_);
    mesh_->close();  // a rank that was fenced may live on, but nobody should wait for it
    donor_->stop();
  });
  // Whoever shares memory with all others sees their deaths sooner than any launcher.
  if (config.transport == Transport::shm || options_.launch_token.empty()) return {};
  auto obituaries =
      Obituaries::start(store::ClientConfig{options_.store, options_.job, options_.secret,
                                            std::chrono::milliseconds(options_.start_timeout_ms)},
                        clock_, log_, [this](MemberId dead, std::string_view) { sentinel_->on_peer_ended(dead); });
  if (!obituaries.ok()) return obituaries.status();
  obituaries_ = std::move(obituaries).value();
  return {};
}

Result<Engine*> Session::enter(const View& view, const Positions& done) {
  try {
    HORA_TRY(start_engine(view, done));
  } catch (const std::exception& error) {
    return Status(StatusCode::resource, fmt::format("cannot start the engine: {}", error.what()));
  }
  return engine_.get();
}

Status Session::start_engine(const View& view, const Positions& done) {
  const auto group = data_plane_->open(view, done);
  if (!group.ok()) return group.status();
  const auto local = std::count_if(view.members.begin(), view.members.end(), [&](const Member& member) {
    return member.host == view.members[static_cast<std::size_t>(view.rank_of(id_)->value)].host;
  });
  const EngineOptions options{std::chrono::milliseconds(options_.stall_warning_ms),
                              std::chrono::milliseconds(options_.operation_timeout_ms),
                              view.config.transport != Transport::shm      ? kSockets
                              : local > usable_cpus_with(local_processes_) ? kCrowded
                                                                           : kAlone};
  const auto make_board = [this](const View& of) { return data_plane_->make_board(of); };
  engine_ = std::make_unique<Engine>(options, view, done, id_, *group.value(), make_board, *negotiation_link_,
                                     *flush_link_, *device_link_, clock_, log_);
  if (sentinel_) engine_->connect(*sentinel_);
  background_thread_ = start_thread("hora-background", [this] { engine_->run_background(); });
  return {};
}

DeviceFront& Session::device(Stream stream) {
  if (DeviceFront* ready = ready_device_.load(std::memory_order_acquire); ready != nullptr) return *ready;
  if (observing())
    throw Error(Status(StatusCode::unsupported,
                       "calls with device memory cannot be followed by a newcomer; make them after its first step()"));
  const MutexLock lock(device_mutex_);
  if (device_) return *device_;
  if (!runtime_) {
    auto found = cuda::find_runtime();
    if (!found.ok()) throw Error(found.status());
    runtime_ = std::move(found).value();
  }
  const cuda::LaneOptions options{std::chrono::milliseconds(options_.operation_timeout_ms),
                                  engine_->view().config.fusion_bytes};
  auto started = DeviceFront::start(runtime_, stream, *engine_, id_, options, clock_, log_);
  if (!started.ok()) throw Error(started.status());
  device_ = std::move(started).value();
  ready_device_.store(device_.get(), std::memory_order_release);  // release: what is behind it
  return *device_;
}

void Session::flush() {
  if (DeviceFront* device = ready_device_.load(std::memory_order_acquire); device != nullptr) return device->flush();
  front().flush();
}

Status Session::leave(std::chrono::milliseconds timeout) {
  const TimePoint deadline = clock_.now() + timeout;
  // Who leaves takes its memory along: what it has released must not be missing elsewhere (law 4).
  // Half of the time is for the departure itself.
  const TimePoint stable_by = deadline - timeout / 2;
  if (DeviceFront* device = ready_device_.load(std::memory_order_acquire); device != nullptr) device->flush(stable_by);
  // In an observer the sentinel may be making the engine at this moment.
  if (!observing()) (void)engine_->wait_stable(stable_by);
  donor_->drain(stable_by, clock_);
  sentinel_->leave();
  const bool ended = sentinel_->wait_finished(std::max(deadline - clock_.now(), Duration(0)));
  const Status cause = ended ? sentinel_->cause() : Status();
  stop();
  if (!ended)
    return {StatusCode::timed_out,
            fmt::format("the other ranks did not confirm the departure within {} ms", timeout.count())};
  if (cause.code() != StatusCode::shut_down) return cause;  // expelled, or without a quorum: not a departure
  if (mpi_) mpi_->finish(std::max(deadline - clock_.now(), Duration(0)));
  return {};
}

void Session::stop() {
  obituaries_.reset();
  if (mesh_) mesh_->cancel_dials();
  if (sentinel_thread_.joinable()) {
    sentinel_->stop();
    sentinel_thread_.join();
  }
  if (engine_) engine_->fence(Status(StatusCode::shut_down, "the communicator was shut down"));
  if (engine_) engine_->record_to(nullptr);
  if (donor_) donor_->stop();
  if (background_thread_.joinable()) background_thread_.join();
  if (DeviceFront* device = ready_device_.load(std::memory_order_acquire); device != nullptr)
    device->stop(Status(StatusCode::shut_down, "the communicator was shut down"));
}

Session::~Session() {
  if (getpid() != process_) {
    // A forked child has none of the threads; its copies must not speak for the parent.
    if (sentinel_thread_.joinable()) sentinel_thread_.detach();
    if (background_thread_.joinable()) background_thread_.detach();
    (void)donor_.release();
    (void)obituaries_.release();
    (void)device_.release();
    return;
  }
  stop();
}

}  // namespace hora::engine
