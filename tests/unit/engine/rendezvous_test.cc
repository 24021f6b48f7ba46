// A store that a process hosts for ranks that `hora run` has not started.
#include "hora/rendezvous.hpp"

#include <catch2/catch.hpp>
#include <utility>

#include "elastic/store/store_client.h"
#include "interfaces/system_clock.h"

namespace hora {
namespace {

using Catch::Contains;

store::ClientConfig client_of(const Rendezvous& rendezvous) {
  return {rendezvous.address(), rendezvous.job(), rendezvous.secret(), std::chrono::seconds(20)};
}

TEST_CASE("a_hosted_store_serves_who_knows_the_secret") {
  const SystemClock clock;
  const bool unix_socket = GENERATE(true, false);
  const Rendezvous rendezvous = Rendezvous::host("rendezvous-test", unix_socket ? "" : "127.0.0.1");
  CHECK(rendezvous.job() == "rendezvous-test");
  CHECK(rendezvous.secret().size() == 32);
  CHECK_THAT(rendezvous.address(), Contains(unix_socket ? "unix:@" : "tcp:127.0.0.1:"));

  store::StoreClient client(client_of(rendezvous), clock);
  REQUIRE(client.set("key", "value").ok());
  CHECK(client.get("key").value() == "value");

  store::ClientConfig wrong = client_of(rendezvous);
  wrong.secret += "0";
  CHECK_FALSE(store::StoreClient(wrong, clock).get("key").ok());
}

TEST_CASE("two_stores_of_one_job_name_never_meet") {
  const SystemClock clock;
  const Rendezvous one = Rendezvous::host("same");
  const Rendezvous other = Rendezvous::host("same");
  CHECK(one.address() != other.address());
  CHECK(one.secret() != other.secret());
}

TEST_CASE("a_store_ends_with_its_rendezvous_and_not_when_that_moves") {
  const SystemClock clock;
  Rendezvous rendezvous = Rendezvous::host("moved");
  const store::ClientConfig config = client_of(rendezvous);
  {
    const Rendezvous holder = std::move(rendezvous);
    CHECK(store::StoreClient(config, clock).set("key", "value").ok());
  }
  store::ClientConfig impatient = config;
  impatient.patience = std::chrono::milliseconds(1);
  CHECK(store::StoreClient(impatient, clock).get("key").status().code() == StatusCode::timed_out);
}

TEST_CASE("a_rendezvous_refuses_what_is_no_name_and_no_address") {
  CHECK_THROWS_WITH(Rendezvous::host("a/b"), Contains("invalid_argument") && Contains("a/b"));
  CHECK_THROWS_WITH(Rendezvous::host(""), Contains("1 to 64"));
  CHECK_THROWS_AS(Rendezvous::host("job", "192.0.2.1"), Error);
}

}  // namespace
}  // namespace hora
