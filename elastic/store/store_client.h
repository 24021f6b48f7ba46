// A Store that is served by a StoreServer.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/handshaking_socket.h"
#include "base/mutex.h"
#include "elastic/store/store_protocol.h"
#include "hora/status.hpp"
#include "interfaces/clock.h"
#include "interfaces/store.h"

namespace hora::store {

struct ClientConfig {
  std::string address;  // unix:@NAME or tcp:HOST:PORT
  std::string job;
  std::string secret;
  Duration patience =
      std::chrono::seconds(10);  // of every call but wait(); a store that does not listen yet is awaited
  // A descriptor that its owner makes readable to cancel the client: every call, under way or to come, ends with
  // StatusCode::shut_down. -1: none. It outlives the client.
  int cancel = -1;
};

// Each call has a connection of its own while it lasts, so that a wait() keeps nobody else waiting; idle ones are kept.
// A connection that is lost while a request is under way is an error, for the store may have carried it out.
class StoreClient : public Store {
 public:
  // Connects when first used. `clock` outlives the client.
  StoreClient(ClientConfig config, const Clock& clock) noexcept;

  Status set(std::string_view key, std::string_view value) override;
  Result<std::optional<std::string>> get(std::string_view key) override;
  Result<std::string> wait(std::string_view key, Duration timeout) override;
  Result<bool> compare_and_swap(std::string_view key, std::optional<std::string_view> expected,
                                std::string_view desired) override;
  Result<std::int64_t> add(std::string_view key, std::int64_t amount) override;

 private:
  Result<Reply> call(const Request& request, Duration patience);
  Result<Reply> exchange(const Request& request, TimePoint deadline);
  Result<EstablishedSocket> connection(TimePoint deadline);
  Result<EstablishedSocket> connect(TimePoint deadline);
  Result<EstablishedSocket> shake_hands(UniqueFd socket, TimePoint deadline);
  Status await(int fd, short events, TimePoint deadline) const;

  ClientConfig config_;
  const Clock& clock_;
  Mutex mutex_;
  std::vector<EstablishedSocket> idle_ GUARDED_BY(mutex_);
};

}  // namespace hora::store
