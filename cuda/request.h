// One tensor of a device, as a caller has submitted it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "cuda/driver.h"
#include "interfaces/host_plane.h"

namespace hora::cuda {

class Lane;

// Filled by the front, then handed to Lane::submit(), whose it is until finished().
class Request : private Errand {
 public:
  std::string tensor;  // its name; empty for a call of the ordered front
  Signature request;   // allreduce or broadcast; the root is in `root_member`
  MemberId root_member;
  Extent memory;                    // addresses of the device
  StreamHandle producer = nullptr;  // in whose order the source is ready

 private:
  friend class Lane;

  // By the lane's thread, as the last thing that the lane does with it.
  virtual void finished(const Ending& ending) = 0;
  void ended(const Ending& ending) final;  // of its agreement

  enum class Stage : std::uint8_t { submitted, enqueued, finished };
  // What members tell each other about the tensor before anything is enqueued, reduced by `min`.
  static constexpr std::size_t kRecordEntries = 7;

  Lane* lane_ = nullptr;
  EventHandle ready_ = nullptr;
  std::array<std::int64_t, kRecordEntries> record_{};
  // Guarded by the lane's mutex. Once enqueued: a stream that waits for `copied_` and then for `awaited_` sees the
  // result.
  Stage stage_ = Stage::submitted;
  EventHandle copied_ = nullptr;
  DeviceAddress awaited_ = 0;
  std::uint32_t awaited_value_ = 0;
};

}  // namespace hora::cuda
