// What a newcomer knows of the job that it joins, before it is a member: which view there is, to whom it is linked, and
// whether it has been taken in. Shared by the application's thread, which dials, and the sentinel's, which hears.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <vector>

#include "base/log.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "engine/bootstrap.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "transports/control/mesh.h"

namespace hora::engine {

// Thread safe.
class Newcomer {
 public:
  // What becomes of a link that was dialed; called on the application's thread.
  using LinkSink = std::function<void(control::PeerLink)>;

  // `segment` is passed to the members; -1 passes none. `patience`: how long to look for members that do not answer.
  // References outlive it. resource: there is no descriptor left.
  static Result<std::unique_ptr<Newcomer>> create(const Member& self, int segment, control::Mesh& mesh, LinkSink sink,
                                                  Duration patience, const Clock& clock, const Log& log);

  // --- the application's thread
  // Dials those who were ever seen in the job until one answers with its view, then the members of that view.
  Status find(const RunningJob& job);
  // Dials the members of the latest view that it is not linked to yet. Those that do not answer are passed over.
  void link();
  // The latest view that a member told of.
  [[nodiscard]] View view() const;
  [[nodiscard]] bool is_in(const View& view) const noexcept { return view.rank_of(self_.id).has_value(); }
  // Who may give its state, in the order of preference: near ones first, another one for each newcomer.
  [[nodiscard]] std::vector<Member> donors() const;
  // Epoch of the latest view if all of its members have answered; else 0.
  [[nodiscard]] Epoch linked_epoch() const;
  // A stream to `donor`, over which it gives its state.
  Result<UniqueFd> open_stream(const Member& donor);
  // Whether more can come from `donor`: it is in the latest view, and the job goes on.
  [[nodiscard]] bool may_give(MemberId donor) const;
  // Waits for news, at most a second. Throws Error once there is nobody left to join.
  void wait_for_news();
  // Returns once this process is a member by the successor of view `epoch` (true), or the job has gone to a later view
  // without it (false), or taken it in elsewhere.
  // Throws Error once this process is fenced.
  bool wait_for_decision(Epoch epoch);
  // Readable when something was heard; polled beside the stream of the donor. The error once the process is fenced.
  [[nodiscard]] int news() const noexcept { return news_.get(); }
  [[nodiscard]] Status ended() const;

  // --- the sentinel's thread
  void on_linked(MemberId peer);
  void on_welcome(MemberId from, const View& view);
  void on_view(const View& view);  // also once this process is in it
  void on_link_down(MemberId peer);
  void on_entered(Epoch epoch);
  void on_end(const Status& cause);

 private:
  Newcomer(const Member& self, int segment, control::Mesh& mesh, LinkSink sink, Duration patience, const Clock& clock,
           const Log& log, UniqueFd news);
  [[nodiscard]] Status desertion() const;
  void throw_if_over() const;
  Status dial(const Member& member, const AgreedConfig& config, TimePoint deadline);
  Status introduce_to(MemberId member);
  void notify();

  const Member self_;
  const int segment_;
  control::Mesh& mesh_;
  const LinkSink sink_;
  const Duration patience_;
  const Clock& clock_;
  const Log& log_;
  const UniqueFd news_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_.
  View view_;                    // epoch 0: none yet
  std::set<MemberId> linked_;    // by whichever side
  std::set<MemberId> down_;      // links that were lost
  std::set<MemberId> answered_;  // to an introduction: they have the link too
  TimePoint heard_;              // when a member was heard of last
  Epoch entered_;                // the view that took this process in; 0: none yet
  Status end_;
};

}  // namespace hora::engine
