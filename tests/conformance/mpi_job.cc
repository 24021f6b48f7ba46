#include "mpi_job.h"

#include <cstdio>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/sha256.h"
#include "collectives/schedule_group.h"
#include "driver.h"
#include "transports/mpi/mpi_pairs.h"

namespace hora::conformance {
namespace {

mpi::Library* the_library = nullptr;

class MpiJob final : public Job {
 public:
  explicit MpiJob(const View& founding) : log_(LogLevel::warn, "conformance") {
    // Nobody sends to who still receives for the job before.
    if (!the_library->share("next", kDeadline).ok()) throw std::runtime_error("not all processes came to the next job");
    if (the_library->rank() >= founding.size()) return;
    auto links = std::make_unique<mpi::MpiPairs>(*the_library, log_);
    links_ = links.get();
    const MemberId self = founding.members[static_cast<std::size_t>(the_library->rank())].id;
    group_.emplace(std::move(links), self, founding);
  }
  ~MpiJob() override {
    if (group_ && !links_->close(kDeadline)) std::fputs("not all processes came to the end of a job\n", stderr);
  }

  [[nodiscard]] bool holds(int rank) const override { return group_ && rank == the_library->rank(); }
  [[nodiscard]] bool bound_to_thread() const override { return !the_library->may_any_thread_call(); }
  GroupTransport& group(int) override { return *group_; }
  void stop(int, bool) override { throw std::logic_error("MPI does not outlive a death"); }

  bool agree(std::span<const std::byte> bytes) override {
    const Digest digest = sha256(bytes);
    std::string own(1 + sizeof(digest), group_ ? 'x' : '-');
    std::memcpy(own.data() + 1, digest.data(), sizeof(digest));
    auto all = the_library->share(own, kDeadline);
    if (!all.ok()) return false;
    for (std::size_t at = 0; at < all->size(); at += own.size())
      if (const std::string other = all->substr(at, own.size()); group_ && other[0] == 'x' && other != own)
        return false;
    return true;
  }

 private:
  const Log log_;
  std::optional<collectives::ScheduleGroup> group_;  // empty where this process holds no rank of the job
  mpi::MpiPairs* links_ = nullptr;                   // of group_
};

}  // namespace

void use_library(mpi::Library& library) {
  the_library = &library;
}

std::unique_ptr<Job> make_mpi_job(const View& founding) {
  return std::make_unique<MpiJob>(founding);
}

}  // namespace hora::conformance
