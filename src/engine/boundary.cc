// Step boundaries (protocol law 10): where newcomers receive the state, and where they enter.
//
// All members cross boundary k between the same two calls. Each says there whether it has a newcomer that is ready, by
// an allreduce of its id; if one has, all of them ask for a view with the greatest one, and wait for the next view. So
// nothing is under way when that view is decided, and the newcomer, whose program stands at the same boundary, is in
// step.
#include <cstring>
#include <limits>
#include <utility>

#include "base/failpoint.h"
#include "engine/session.h"

namespace hora::engine {

namespace {
constexpr std::int64_t kNobody = std::numeric_limits<std::int64_t>::min();
}

bool names_newcomer(std::span<const std::byte> result) {
  std::int64_t wanted = kNobody;
  if (result.size() == sizeof wanted) std::memcpy(&wanted, result.data(), sizeof wanted);
  return wanted != kNobody;
}

void Session::step() {
  state_.seal();
  if (observing()) {
    if (!observer_->cross()) return;
    step_ = observer_->step();
    engine_->on_view_change(callback_);
    engine_->interrupt_waits(interrupted_);
    front_ = engine_.get();
    const View& before = observer_->view();
    SeenViews::tell(callback_, before, engine_->view());
    return;
  }
  if (engine_->unfinished() > 0) {
    throw Error(
        Status(StatusCode::invalid_argument, "step() while named tensors are in flight: wait for their handles first"));
  }
  if (DeviceFront* device = ready_device_.load(std::memory_order_acquire); device != nullptr) device->drain();
  const std::uint64_t step = step_ + 1;
  const auto newcomer = donor_->ready(step, engine_->view().epoch);
  std::int64_t wanted = newcomer ? static_cast<std::int64_t>(newcomer->value) : kNobody;
  auto* bytes = reinterpret_cast<std::byte*>(&wanted);
  const Outcome outcome = engine_->run_to_end({Collective::allreduce, DataType::int64, ReduceOp::max, Rank{0}, 1},
                                              Extent{bytes, bytes, sizeof wanted});
  step_ = step;
  engine_->record_to(donor_->cross(step, engine_->view(), wanted != kNobody) ? donor_.get() : nullptr);
  if (wanted == kNobody) return;
  HORA_FAILPOINT("boundary.waits_for_newcomer");
  engine_->flush();  // until then a member may still be in this very allreduce
  sentinel_->admit(MemberId{static_cast<std::uint64_t>(wanted)}, outcome.epoch);
  engine_->wait_for_successor(outcome.epoch);
  donor_->finish(engine_->view());
}

void Session::interrupt_waits(std::function<bool()> interrupted) {
  interrupted_ = interrupted;
  if (!observing()) engine_->interrupt_waits(std::move(interrupted));
}

void Session::on_view_change(SeenViews::Callback callback) {
  callback_ = callback;
  front().on_view_change(std::move(callback));
}

}  // namespace hora::engine
