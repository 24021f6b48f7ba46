// The cases of device_test on a real GPU, all ranks on device 0. Without one it says so and succeeds.
#include <cstdio>

#include "device_cases.h"
#include "hora/hora.hpp"

namespace hora::device_test {
namespace {

// From this version on NCCL takes several ranks on one device, where NCCL_MULTI_RANK_GPU_ENABLE=1 asks for it.
constexpr int kSharesDeviceSince = 23000;

struct Report {
  int passed = 0;
  int failed = 0;
  int skipped = 0;

  void run(const char* name, int (*wrongs)(const Setting&), const Setting& setting) {
    const int wrong = wrongs(setting);
    std::printf("%s  %s, %d ranks, %s\n", wrong == 0 ? "passed" : "FAILED", name, setting.size,
                setting.nccl ? "NCCL" : "host");
    ++(wrong == 0 ? passed : failed);
  }
  void skip(const std::string& reason) {
    std::printf("SKIPPED: %s\n", reason.c_str());
    ++skipped;
  }
};

void run_all(Report& report, const Runtimes& runtimes, bool nccl, bool nccl_shares_device) {
  for (const int size : {1, 2, 3}) {
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

int main_of_test() {
  Report report;
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
    int version = 0;
    if (!found.value()->nccl)
      report.skip("no NCCL: " + found.value()->nccl_absence);
    else if (found.value()->nccl->version(&version) == cuda::kNcclSuccess)
      run_all(
          report, [&](int) { return found.value(); }, true, version >= kSharesDeviceSince);
  }
  std::printf("%d passed, %d failed, %d skipped\n", report.passed, report.failed, report.skipped);
  return report.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hora::device_test

int main() {
  return hora::device_test::main_of_test();
}
