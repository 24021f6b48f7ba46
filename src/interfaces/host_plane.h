// The seam between the devices and the host's data plane: whoever moves device memory agrees with the other members,
// and carries what the device cannot, by named operations on host memory, which have every guarantee of the engine.
#pragma once

#include <span>
#include <string_view>

#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/operation.h"

namespace hora {

struct Ending {
  Status status;
  Epoch epoch;           // the view in which it ended
  int contributors = 0;  // members whose values are in the result
  bool more = false;     // another errand ended in the same fused operation, and is told next
};

// A named operation that no caller waits for.
class Errand {
 public:
  virtual ~Errand() = default;
  // Once, by the thread that drives the engine, in an order that is the same on every member among those that ended
  // without an error of this member alone. Must not block, nor call the plane.
  virtual void ended(const Ending& ending) = 0;
};

// Thread safe.
class HostPlane {
 public:
  virtual ~HostPlane() = default;
  // As a named call of the application. `root` is that of a broadcast. Memory of `extent` and `errand` stay valid until
  // it has ended.
  virtual void run(std::string_view name, const Signature& signature, MemberId root, const Extent& extent,
                   Errand& errand) = 0;
  // Sends a small message to the watcher of a member. Never blocks; who dies or leaves may not hear it.
  virtual void tell(MemberId to, std::span<const std::byte> message) = 0;
  // This rank cannot do its part any more: it leaves, without waiting for anybody, so that the others go on. Whatever
  // is under way here or comes later ends with `cause`.
  virtual void resign(const Status& cause) = 0;
};

// Hears of what the host's data plane does by itself; must not block.
class PlaneWatcher {
 public:
  virtual ~PlaneWatcher() = default;
  // Every view, in order. What ended before it was told before, what ends in it is told after.
  virtual void entered(const View& view) = 0;
  virtual void told(MemberId from, std::span<const std::byte> message) = 0;
};

}  // namespace hora
