#include "launch/torch_master.h"

#include "base/socket_address.h"
#include "launch/local_address.h"

namespace hora::launch {
namespace {

std::string_view after_last(std::string_view text, char separator) {
  return text.substr(text.rfind(separator) + 1);  // npos + 1 is 0
}

std::string host_of(std::string_view tcp_address) {
  std::string_view host = tcp_address.substr(4, tcp_address.rfind(':') - 4);
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  return std::string(host);
}

}  // namespace

Result<TorchMaster> choose_master(std::string_view host, std::string_view store_address) {
  const auto listener = listen_in_range("0.0.0.0", 0, 0);
  if (!listener.ok()) return listener.status();
  const auto address = address_of(listener.value(), "tcp:0.0.0.0:0");
  if (!address.ok()) return address.status();
  TorchMaster master{std::string(after_last(host, '@')), std::string(after_last(address.value(), ':'))};
  if (is_this_host(host)) master.host = store_address.starts_with("tcp:") ? host_of(store_address) : "127.0.0.1";
  return master;
}

}  // namespace hora::launch
