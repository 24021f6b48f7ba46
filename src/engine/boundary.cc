// Step boundaries (protocol law 10): where newcomers receive the state, and where they enter.
//
// All members cross boundary k between the same two calls. Each says there whether it has a newcomer that is ready, by
// an allreduce of one byte; if one has, all of them wait for the next view, which its sentinel asks for. So nothing is
// under way when that view is decided, and the newcomer, whose program stands at the same boundary, is in step.
#include <utility>

#include "base/failpoint.h"
#include "engine/session.h"

namespace hora::engine {

void Session::step() {
  state_.seal();
  if (observing()) {
    if (!observer_->cross()) return;
    step_ = observer_->step();
    engine_->on_view_change(callback_);
    front_ = engine_.get();
    const View& before = observer_->view();
    if (callback_) callback_(before, engine_->view());
    return;
  }
  if (engine_->unfinished() > 0) {
    throw Error(
        Status(StatusCode::invalid_argument, "step() while named tensors are in flight: wait for their handles first"));
  }
  const std::uint64_t step = step_ + 1;
  const auto newcomer = donor_->ready(step, engine_->view().epoch);
  std::byte wanted{static_cast<std::uint8_t>(newcomer ? 1 : 0)};
  const Outcome outcome = engine_->run_ordered({Collective::allreduce, DataType::uint8, ReduceOp::max, Rank{0}, 1},
                                               Extent{&wanted, &wanted, 1});
  step_ = step;
  engine_->record_to(donor_->cross(step, engine_->view()) ? donor_.get() : nullptr);
  if (wanted == std::byte{0}) return;
  HORA_FAILPOINT("boundary.waits_for_newcomer");
  if (newcomer) {
    engine_->flush();  // until then a member may still be in this very allreduce
    sentinel_->admit(*newcomer, outcome.epoch);
  }
  engine_->wait_for_successor(outcome.epoch);
}

void Session::on_view_change(std::function<void(const View& before, const View& after)> callback) {
  callback_ = callback;
  front_->on_view_change(std::move(callback));
}

}  // namespace hora::engine
