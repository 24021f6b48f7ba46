#include "device_job.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace hora::device_test {

namespace {

constexpr std::size_t kPinnedBytes = 16 << 20;

// Frees with all ranks at rest.
class Remains {
 public:
  void add(const cuda::Driver& driver, std::function<void(const cuda::Driver&)> free) {
    cuda::ContextHandle context = nullptr;
    driver.context_current(&context);
    const std::lock_guard lock(mutex_);
    all_.push_back([driver, context, free = std::move(free)] {
      const cuda::CurrentContext current(driver, context);
      free(driver);
    });
  }
  void free() {
    for (const auto& one : all_) one();
    all_.clear();
  }

 private:
  std::mutex mutex_;
  std::vector<std::function<void()>> all_;
};
Remains remains;

void check(const cuda::Driver& driver, cuda::DriverCode code, const char* call) {
  if (code != cuda::kDriverSuccess) throw Error(cuda::driver_status(driver, code, call));
}

}  // namespace

Buffer::Buffer(const cuda::Driver& driver, std::size_t bytes) {
  check(driver, driver.memory_allocate(&address_, bytes), "memory_allocate");
  remains.add(driver, [address = address_](const cuda::Driver& own) { own.memory_free(address); });
}

// Each rank has a device of its own, while there are enough.
Player::Player(std::unique_ptr<engine::Session> session, std::shared_ptr<const cuda::Runtime> runtime, int rank)
    : runtime_(std::move(runtime)), session_(std::move(session)), rank_(rank) {
  session_->use_runtime(runtime_);
  int devices = 0;
  check(driver(), driver().device_count(&devices), "device_count");
  cuda::DeviceOrdinal device = 0;
  cuda::ContextHandle context = nullptr;
  check(driver(), driver().device_get(&device, rank % devices), "device_get");
  check(driver(), driver().primary_context_retain(&context, device),
        "primary_context_retain");  // until the process ends
  check(driver(), driver().context_set_current(context), "context_set_current");
  check(driver(), driver().stream_create(&stream_, cuda::kStreamNonBlocking, 0), "stream_create");
  void* pinned = nullptr;
  check(driver(), driver().host_allocate(&pinned, kPinnedBytes, 0), "host_allocate");
  remains.add(driver(), [pinned](const cuda::Driver& own) { own.host_free(pinned); });
  pinned_ = static_cast<std::byte*>(pinned);
}

Player::~Player() {
  session_.reset();
  driver().stream_destroy(stream_);
}

std::byte* Player::take_pinned(std::size_t bytes) {
  if (pinned_used_ + bytes > kPinnedBytes) throw std::runtime_error("a test copies too much between synchronize()");
  return pinned_ + std::exchange(pinned_used_, pinned_used_ + bytes);
}

void Player::write(const Buffer& to, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  std::byte* const from = take_pinned(bytes.size());
  std::ranges::copy(bytes, from);
  const auto address = reinterpret_cast<cuda::DeviceAddress>(to.data());
  check(driver(), driver().copy_to_device(address, from, bytes.size(), stream_), "copy_to_device");
}

void Player::read(const Buffer& from, std::span<std::byte> bytes) {
  if (bytes.empty()) return;
  std::byte* const to = take_pinned(bytes.size());
  reads_.emplace_back(to, bytes);
  const auto address = reinterpret_cast<cuda::DeviceAddress>(from.data());
  check(driver(), driver().copy_to_host(to, address, bytes.size(), stream_), "copy_to_host");
}

void Player::synchronize() {
  check(driver(), driver().stream_synchronize(stream_), "stream_synchronize");
  for (const auto& [from, to] : std::exchange(reads_, {})) std::copy_n(from, to.size(), to.data());
  pinned_used_ = 0;
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
  std::mutex mutex;
  std::exception_ptr first;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      Options options = job.options(rank);
      if (adjust) adjust(options);
      try {
        Player player(job.start(options), runtimes(rank), rank);
        body(player);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  remains.free();
  if (first) std::rethrow_exception(first);
}

}  // namespace hora::device_test
