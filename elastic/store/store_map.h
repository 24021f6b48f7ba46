// The store's content and who waits for what. No socket, no clock: requests in, answers out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "elastic/store/store_protocol.h"

namespace hora::store {

using ConnectionId = std::uint64_t;
using Answers = std::vector<std::pair<ConnectionId, Reply>>;

class StoreMap {
 public:
  explicit StoreMap(std::size_t content_bytes_max) noexcept : content_bytes_max_(content_bytes_max) {}

  // Applies one request. Answers may go to others too (who waited for the key), or come later (wait).
  Answers apply(ConnectionId from, Request request);
  // Forgets that it waits.
  void forget(ConnectionId connection);

 private:
  Status store(const std::string& key, std::string value);
  Reply add(const std::string& key, std::int64_t amount);
  void wake_waiters(const std::string& key, Answers& answers);

  std::size_t content_bytes_max_;
  std::size_t content_bytes_ = 0;
  std::map<std::string, std::string> values_;
  std::multimap<std::string, ConnectionId> waiting_;
};

}  // namespace hora::store
