#include "launch/death_notices.h"

namespace hora::launch {

// A set that was not confirmed may have been done: the same is written there again, and no other death takes its place.
Status DeathNotices::tell(std::string_view token, std::string_view reason) {
  auto text = store_.get(store::member_key(job_, token));
  if (!text.ok()) return text.status();
  if (!text->has_value()) return {};
  auto dead = store::decode_member(**text);
  if (!dead.ok()) return dead.status();
  untold_.push_back({*dead, std::string(reason)});
  while (!untold_.empty()) {
    HORA_TRY(store_.set(store::death_key(job_, told_ + 1), store::encode(untold_.front())));
    ++told_;
    untold_.pop_front();
  }
  return {};
}

}  // namespace hora::launch
