// The cases of device_test on real GPUs, ranks on one device if there is one. Without any it says so and succeeds.
//
//   gpu_test [CASE...]     all cases, or those with these names: "deaths", "named tensors"
//
// A case that hangs is named and ends the program with status 1: what waits inside of a driver cannot be ended
// otherwise.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device_cases.h"
#include "hora/hora.hpp"

namespace hora::device_test {
namespace {

// From this version on NCCL takes several ranks on one device, where NCCL_MULTI_RANK_GPU_ENABLE=1 asks for it.
constexpr int kSharesDeviceSince = 23000;
constexpr int kRanksMost = 3;
// Cases take seconds; a communicator that connects among ranks on one device, up to a minute.
constexpr std::chrono::minutes kLongestCase{4};

// Ends the process unless it goes out of scope in time.
class Watchdog {
 public:
  explicit Watchdog(std::string text) : text_(std::move(text)), thread_([this] { run(); }) {}
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kLongestCase, [this] { return ended_; })) return;
    std::printf("FAILED  %s: it has not ended in %d minutes\n", text_.c_str(), static_cast<int>(kLongestCase.count()));
    std::fflush(stdout);
    _exit(1);
  }
  const std::string text_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false;
  std::thread thread_;
};

struct Report {
  std::vector<std::string> wanted;  // none: all
  int passed = 0;
  int failed = 0;
  int skipped = 0;

  void run(const std::string& name, int (*wrongs)(const Setting&), const Setting& setting) {
    if (!wanted.empty() && std::ranges::find(wanted, name) == wanted.end()) return;
    const std::string text = name + ", " + std::to_string(setting.size) + " ranks, " + (setting.nccl ? "NCCL" : "host");
    std::printf("runs    %s\n", text.c_str());
    const Watchdog watchdog(text);
    int wrong = 1;
    try {
      wrong = wrongs(setting);
    } catch (const std::exception& error) {
      std::printf("        a rank ended with: %s\n", error.what());
    }
    std::printf("%s  %s\n", wrong == 0 ? "passed" : "FAILED", text.c_str());
    ++(wrong == 0 ? passed : failed);
  }
  void skip(const std::string& reason) {
    std::printf("SKIPPED: %s\n", reason.c_str());
    ++skipped;
  }
};

void run_all(Report& report, const Runtimes& runtimes, bool nccl, bool nccl_shares_device) {
  for (int size = 1; size <= kRanksMost; ++size) {
    if (nccl && size > 1 && !nccl_shares_device) {
      report.skip("NCCL among several ranks on one device needs NCCL 2.30 (pip install nvidia-nccl-cu13)");
      return;
    }
    const Setting setting{size, runtimes, nccl};
    report.run("reductions", wrongs_of_reductions, setting);
    report.run("broadcasts", wrongs_of_broadcasts, setting);
    report.run("named tensors", wrongs_of_named_tensors, setting);
    if (size > 1) report.run("disagreements", wrongs_of_disagreements, setting);
    if (size > 2) report.run("deaths", wrongs_of_deaths, setting);
  }
}

int main_of_test(std::vector<std::string> wanted) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was said is there, however this ends
  Report report{std::move(wanted)};
  const auto found = cuda::find_runtime();
  if (!found.ok()) {
    report.skip("no GPU that hora can use: " + std::string(found.status().message()));
  } else {
    for (const cuda::Finding& found_here : cuda::describe())
      std::printf("%s: %s\n", found_here.subject.c_str(), found_here.text.c_str());
    cuda::Runtime without = *found.value();
    without.nccl.reset();
    without.nccl_absence = "this test leaves it out";
    const auto by_host = std::make_shared<const cuda::Runtime>(without);
    run_all(
        report, [&](int) { return by_host; }, false, true);
    int version = 0, devices = 0;
    found.value()->driver.device_count(&devices);
    if (!found.value()->nccl)
      report.skip("no NCCL: " + found.value()->nccl_absence);
    else if (found.value()->nccl->version(&version) == cuda::kNcclSuccess)
      run_all(
          report, [&](int) { return found.value(); }, true, version >= kSharesDeviceSince || devices >= kRanksMost);
  }
  std::printf("%d passed, %d failed, %d skipped\n", report.passed, report.failed, report.skipped);
  return report.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hora::device_test

int main(int argc, char** argv) {
  return hora::device_test::main_of_test({argv + 1, argv + argc});
}
