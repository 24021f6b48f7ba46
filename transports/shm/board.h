// The board of a view in the shared segments of its members: ready words and response log, both tagged by epoch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "hora/types.hpp"
#include "interfaces/board.h"
#include "transports/shm/doorbell.h"
#include "transports/shm/segment.h"

namespace hora::shm {

// Serves one view; make a new one after GroupTransport::install(). The member of rank 0 is the coordinator.
class ShmBoard final : public Board {
 public:
  // `members` in rank order, `own` (or its equal) among them; all must outlive the board.
  ShmBoard(Segment& own, std::span<const Segment* const> members, Epoch epoch);

  [[nodiscard]] std::uint32_t capacity() const override { return kBoardTensors; }
  void post_ready(TensorId id, std::uint32_t submissions) override;
  [[nodiscard]] std::uint32_t ready(Rank rank, TensorId id) const override;
  bool append(std::uint64_t position, std::span<const TensorId> group) override;
  bool read(std::uint64_t position, std::vector<TensorId>& group) override;

 private:
  [[nodiscard]] std::uint64_t least_read() const;

  Segment& own_;
  std::vector<const Segment*> members_;
  const Epoch epoch_;
  Doorbell doorbell_;
  std::uint64_t ids_end_ = 0;     // ids appended in this view
  std::uint64_t least_read_ = 0;  // by all members, when last looked
};

}  // namespace hora::shm
