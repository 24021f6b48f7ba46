#include "device_job.h"

#include <cstdio>
#include <thread>

namespace hora::device_test {

Buffer::Buffer(const cuda::Driver& driver, std::size_t bytes) : driver_(driver) {
  if (const auto code = driver_.memory_allocate(&address_, bytes); code != cuda::kDriverSuccess)
    throw Error(cuda::driver_status(driver_, code, "cuMemAlloc"));
}

Buffer::~Buffer() {
  driver_.memory_free(address_);
}

Player::Player(std::unique_ptr<engine::Session> session, std::shared_ptr<const cuda::Runtime> runtime, int rank)
    : runtime_(std::move(runtime)), session_(std::move(session)), rank_(rank) {
  session_->use_runtime(runtime_);
  cuda::DeviceOrdinal device = 0;
  cuda::ContextHandle context = nullptr;
  driver().device_get(&device, 0);
  driver().primary_context_retain(&context, device);  // until the process ends
  driver().context_set_current(context);
  driver().stream_create(&stream_, cuda::kStreamNonBlocking, 0);
}

Player::~Player() {
  session_.reset();
  driver().stream_destroy(stream_);
}

void Player::write(const Buffer& to, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  driver().copy_to_device(reinterpret_cast<cuda::DeviceAddress>(to.data()), bytes.data(), bytes.size(), stream_);
}

void Player::read(const Buffer& from, std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  driver().copy_to_host(bytes.data(), reinterpret_cast<cuda::DeviceAddress>(from.data()), bytes.size(), stream_);
}

void Player::synchronize() {
  driver().stream_synchronize(stream_);
}

engine::Work* Player::allreduce(const Buffer& buffer, std::uint64_t count, DataType dtype, ReduceOp op) {
  return device().run_device({Collective::allreduce, dtype, op, Rank{0}, count},
                             {buffer.data(), buffer.data(), count * size_of(dtype)}, stream());
}

Outcome Player::end(engine::Work* work, Status* error) {
  work->owner.wait(*work, std::nullopt);
  const Outcome outcome = work->outcome;
  if (error != nullptr) *error = work->status;
  work->owner.release(work);
  return outcome;
}

bool Player::reach_communicator() {
  const Buffer buffer(driver(), sizeof(std::int64_t));
  for (int round = 0; round < 100'000; ++round) {
    const std::int64_t mine = device().lane().communicator_stands() ? 1 : 0;
    std::int64_t all = 0;
    write(buffer, std::as_bytes(std::span(&mine, 1)));
    engine::Work* work = allreduce(buffer, 1, DataType::int64, ReduceOp::min);
    read(buffer, std::as_writable_bytes(std::span(&all, 1)));
    synchronize();
    end(work);
    if (all == 1) return true;
  }
  return false;
}

void Player::leave() {
  if (const Status status = session_->leave(std::chrono::seconds(20)); !status.ok()) throw Error(status);
}

void Checks::that(bool holds, const char* what, int line) {
  if (holds) return;
  ++wrong;
  std::fprintf(stderr, "wrong at line %d %s\n", line, what);
}

void run_job(int size, const Runtimes& runtimes, const std::function<void(Player&)>& body,
             const std::function<void(Options&)>& adjust) {
  test::JobOfThreads job(size);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      Options options = job.options(rank);
      if (adjust) adjust(options);
      Player player(job.start(options), runtimes(rank), rank);
      body(player);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace hora::device_test
