// What a rank of the process tests leaves of each step, in a shared mapping of a file, which outlives a SIGKILL.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace hora::test {

// What job.py unpacks. All zero: not written.
struct Record {
  std::uint64_t epoch = 0;
  std::uint64_t contributors = 0;  // as told by the last outcome
  std::uint64_t hash = 0;          // of all results of the step
  std::uint64_t masks = 0;         // bit m: some element holds the values of exactly the ranks in m
  std::uint64_t broken = 0;        // operations of the step that ended with peer_failed
  std::uint64_t time_ns = 0;       // CLOCK_MONOTONIC at the first result of the step
  std::uint64_t step = 0;          // written last
};

class Records {
 public:
  explicit Records(const std::string& path) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ::ftruncate(file, kCount * sizeof(Record)) != 0) throw std::runtime_error("cannot make " + path);
    void* memory = ::mmap(nullptr, kCount * sizeof(Record), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    if (memory == MAP_FAILED) throw std::runtime_error("cannot map " + path);
    records_ = static_cast<Record*>(memory);
  }
  void add(Record record) {
    if (used_ == kCount) throw std::runtime_error("more steps than records");
    Record& slot = records_[used_++];
    const std::uint64_t step = std::exchange(record.step, 0);
    slot = record;
    // Release: a step number that is seen means that the rest of the record is there.
    std::atomic_ref(slot.step).store(step, std::memory_order_release);
  }
  // Soon: the ranks still have to agree on the last step.
  [[nodiscard]] bool full() const { return used_ + 16 >= kCount; }

 private:
  static constexpr std::size_t kCount = 1 << 19;
  Record* records_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace hora::test
