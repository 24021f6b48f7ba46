// Keeps reads of a peer's memory before a later read that tells whether they were still valid.
#pragma once

namespace hora::shm {

// Not std::atomic_thread_fence: the thread sanitizer does not know it.
inline void read_barrier() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  asm volatile("" ::: "memory");  // loads are not reordered with loads
#elif defined(__aarch64__)
  asm volatile("dmb ishld" ::: "memory");
#else
#error "read_barrier: add this processor's load-load barrier"
#endif
}

}  // namespace hora::shm
