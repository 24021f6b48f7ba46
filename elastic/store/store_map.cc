#include "elastic/store/store_map.h"

#include <fmt/format.h>

#include <charconv>

namespace hora::store {

Answers StoreMap::apply(ConnectionId from, Request request) {
  const auto found = values_.find(request.key);
  const bool exists = found != values_.end();
  Reply reply;
  switch (request.operation) {
    case Operation::set: reply.status = store(request.key, std::move(request.value)); break;
    case Operation::get:
      if (exists) reply.value = found->second;
      break;
    case Operation::wait:
      if (!exists) {
        waiting_.emplace(request.key, from);
        return {};
      }
      reply.value = found->second;
      break;
    case Operation::compare_and_swap:
      if (exists ? request.expected == found->second : !request.expected.has_value()) {
        reply.status = store(request.key, std::move(request.value));
        reply.swapped = reply.status.ok();
      }
      break;
    case Operation::add: reply = add(request.key, request.amount); break;
    case Operation::limit: reply.status = Status(StatusCode::invalid_argument, "malformed request"); break;
  }
  Answers answers;
  answers.emplace_back(from, std::move(reply));
  wake_waiters(request.key, answers);
  return answers;
}

void StoreMap::forget(ConnectionId connection) {
  std::erase_if(waiting_, [&](const auto& entry) { return entry.second == connection; });
}

Status StoreMap::store(const std::string& key, std::string value) {
  const auto found = values_.find(key);
  const std::size_t freed = found == values_.end() ? 0 : key.size() + found->second.size();
  const std::size_t bytes = content_bytes_ - freed + key.size() + value.size();
  if (bytes > content_bytes_max_)
    return {StatusCode::resource, fmt::format("the store is full: its limit is {} bytes", content_bytes_max_)};
  content_bytes_ = bytes;
  values_.insert_or_assign(key, std::move(value));
  return {};
}

Reply StoreMap::add(const std::string& key, std::int64_t amount) {
  Reply reply;
  std::int64_t sum = 0;
  if (const auto found = values_.find(key); found != values_.end()) {
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), sum);
    if (error != std::errc() || end != text.data() + text.size()) {
      reply.status = Status(StatusCode::invalid_argument, "the value is not a decimal number");
      return reply;
    }
  }
  if (__builtin_add_overflow(sum, amount, &reply.sum)) {
    reply.status = Status(StatusCode::invalid_argument, "the sum does not fit into 64 bits");
    return reply;
  }
  reply.status = store(key, fmt::format("{}", reply.sum));
  return reply;
}

void StoreMap::wake_waiters(const std::string& key, Answers& answers) {
  const auto found = values_.find(key);
  if (found == values_.end()) return;
  const auto [begin, end] = waiting_.equal_range(key);
  for (auto waiter = begin; waiter != end; ++waiter) {
    Reply reply;
    reply.value = found->second;
    answers.emplace_back(waiter->second, std::move(reply));
  }
  waiting_.erase(begin, end);
}

}  // namespace hora::store
