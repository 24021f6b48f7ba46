// The embedded rendezvous store: one thread that serves a StoreMap over a socket. Its content lives as long as it does.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/handshaking_socket.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "elastic/store/store_map.h"
#include "hora/status.hpp"
#include "interfaces/clock.h"

namespace hora::store {

struct ServerConfig {
  std::string address;  // unix:@NAME or tcp:HOST:PORT; port 0: any
  std::string job;
  std::string secret;
};

// Linearizable, because one thread applies all requests. A client that breaks the protocol loses its own connection
// only.
class StoreServer {
 public:
  // Listens once this returns. `clock` and `log` outlive the server.
  static Result<std::unique_ptr<StoreServer>> start(ServerConfig config, const Clock& clock, const Log& log);
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  // What clients dial.
  [[nodiscard]] const std::string& address() const noexcept { return address_; }
  // Returns when no client is connected any more, or after `longest`.
  void await_departures(Duration longest) const;

 private:
  struct Session {
    std::optional<HandshakingSocket> handshake;  // until the client is proven
    TimePoint expires;                           // ... which it has until then
    EstablishedSocket established;
    FrameWriter writer;
    bool waits = false;  // a request is not answered yet
    [[nodiscard]] int fd() const noexcept { return handshake ? handshake->fd() : established.socket.get(); }
  };

  StoreServer(ServerConfig config, const Clock& clock, const Log& log);

  void run();
  [[nodiscard]] bool has_room(TimePoint now) const;
  void accept_waiting(TimePoint now);
  void serve_ready(ConnectionId id, short events);
  Status read(ConnectionId id, Session& session);
  Status handle(ConnectionId id, Session& session, std::span<const std::byte> frame);
  void drop(ConnectionId id, const Status& why);
  void drop_expired(TimePoint now);
  [[nodiscard]] int timeout_ms(TimePoint now) const;

  ServerConfig config_;
  const Clock& clock_;
  const Log& log_;
  std::string address_;
  UniqueFd listener_;
  UniqueFd stop_;
  // The thread's own from here on.
  StoreMap map_;
  std::map<ConnectionId, Session> sessions_;
  ConnectionId next_id_ = 1;
  TimePoint listen_again_{};                 // not before; after the system ran out of descriptors
  std::atomic<std::uint32_t> connected_{0};  // sessions, for other threads
  std::thread thread_;
};

}  // namespace hora::store
