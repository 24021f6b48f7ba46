// Builds the links of a founding view: each rank dials the lower ones and accepts the higher ones.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "transports/control/dialing.h"
#include "transports/control/peer_link.h"
#include "transports/control/reception.h"

namespace hora::control {

class Connector {
 public:
  // All arguments outlive the connector. `own_segment` as in Mesh::connect_all().
  Connector(const Identity& identity, Reception& reception, const View& view, Rank self, int own_segment,
            const Clock& clock);

  // The connections in rank order, without `self`. See Mesh::connect_all(). Newcomers that come meanwhile stay with the
  // reception.
  Result<std::vector<Connection>> run(TimePoint deadline);

 private:
  Status dial_lower_ranks();
  Status advance();
  void poll_until(TimePoint until) const;
  [[nodiscard]] TimePoint next_timer() const;
  [[nodiscard]] bool linked(MemberId member) const;
  [[nodiscard]] std::string missing() const;

  const Identity& identity_;
  Reception& reception_;
  const View& view_;
  std::size_t self_;
  int own_segment_;
  const Clock& clock_;
  TimePoint deadline_;
  std::vector<std::optional<Connection>> connections_;  // by rank
  std::vector<std::optional<Dialing>> dialings_;        // by rank; of lower ranks that are not connected yet
};

}  // namespace hora::control
