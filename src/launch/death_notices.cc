#include "launch/death_notices.h"

#include "elastic/store/obituary.h"

namespace hora::launch {
namespace {

constexpr Duration kPatience = std::chrono::seconds(1);

}  // namespace

DeathNotices::DeathNotices(const std::string& store_address, const std::string& job, const std::string& secret,
                           const Clock& clock)
    : job_(job), client_({.address = store_address, .job = job, .secret = secret, .patience = kPatience}, clock) {}

Status DeathNotices::tell(std::string_view token, std::string_view reason) {
  auto text = client_.get(store::member_key(job_, token));
  if (!text.ok()) return text.status();
  if (!text->has_value()) return {};
  auto dead = store::decode_member(**text);
  if (!dead.ok()) return dead.status();
  HORA_TRY(client_.set(store::death_key(job_, told_ + 1), store::encode(store::Obituary{*dead, std::string(reason)})));
  ++told_;
  return {};
}

}  // namespace hora::launch
