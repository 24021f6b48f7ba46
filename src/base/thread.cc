#include "base/thread.h"

#include <pthread.h>
#include <signal.h>

#include <array>
#include <cstddef>
#include <future>
#include <memory>
#include <utility>

namespace hora {

namespace {

constexpr std::size_t kBlockBytes = 64 << 10;  // below what allocators map piece by piece
constexpr std::size_t kBlocks = 32;

// An allocator makes a thread's arena at its first allocation, and lets it grow in steps. What it has once got for this
// thread it keeps at hand.
void reserve_memory() {
  std::array<std::unique_ptr<std::byte[]>, kBlocks> blocks;
  for (auto& block : blocks) {
    block = std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
    asm volatile("" : : "r"(block.get()) : "memory");  // the compiler may leave out an allocation that nobody sees
  }
}

// Signals are the application's: its threads get them, ours never do.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

std::thread start_thread(const char* name, std::function<void()> body) {
  std::promise<void> ready;
  std::future<void> started = ready.get_future();
  const SignalsBlocked blocked;
  std::thread thread([name, body = std::move(body), ready = std::move(ready)]() mutable {
    pthread_setname_np(pthread_self(), name);
    reserve_memory();
    ready.set_value();
    body();
  });
  started.wait();
  return thread;
}

}  // namespace hora
