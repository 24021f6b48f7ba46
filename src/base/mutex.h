// A mutex that clang's thread-safety analysis understands. Every one says what it guards with GUARDED_BY.
#pragma once

#include <mutex>

#if defined(__clang__)
#define HORA_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define HORA_THREAD_ATTRIBUTE(x)
#endif

#define GUARDED_BY(x) HORA_THREAD_ATTRIBUTE(guarded_by(x))
#define REQUIRES(...) HORA_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))

namespace hora {

class HORA_THREAD_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  void lock() HORA_THREAD_ATTRIBUTE(acquire_capability()) { mutex_.lock(); }
  void unlock() HORA_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class HORA_THREAD_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) HORA_THREAD_ATTRIBUTE(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() HORA_THREAD_ATTRIBUTE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace hora
