// Libraries that are found at run time, and what is said of those that are not.
#include <catch2/catch.hpp>
#include <cstddef>
#include <string>

#include "cuda/library.h"
#include "cuda/runtime.h"

namespace hora::cuda {
namespace {

TEST_CASE("an_absent_library_is_a_reason_and_no_failure") {
  const auto absent = Library::open("libhora-absent.so.7");
  REQUIRE_FALSE(absent.ok());
  CHECK(absent.status().code() == StatusCode::unsupported);
  CHECK(std::string(absent.status().message()).find("libhora-absent.so.7") != std::string::npos);
}

TEST_CASE("a_library_of_the_process_is_shared_and_its_missing_symbols_are_named") {
  auto library = Library::open("libc.so.6");
  REQUIRE(library.ok());
  CHECK(library->path().find("libc.so.6") != std::string::npos);
  int (*absolute)(int) = nullptr;
  library->bind("abs", absolute);
  REQUIRE(absolute != nullptr);
  CHECK(absolute(-7) == 7);
  CHECK(library->missing().empty());
  void (*none)() = nullptr;
  library->bind("hora_has_no_such_symbol", none);
  CHECK(none == nullptr);
  CHECK(library->missing() == "hora_has_no_such_symbol");
}

TEST_CASE("what_is_found_of_cuda_is_described") {
  std::string subjects;
  for (const Finding& finding : describe()) {
    CHECK_FALSE(finding.text.empty());
    CHECK(finding.without.empty() == finding.mend.empty());
    subjects += finding.subject + ";";
  }
  for (const char* subject : {"CUDA driver;", "CUDA kernels;", "NCCL;"})
    CHECK(subjects.find(subject) != std::string::npos);
}

TEST_CASE("the_configuration_of_a_communicator_lies_as_nccl_has_it") {
  CHECK(sizeof(NcclUniqueId) == 128);
  CHECK(sizeof(NcclConfig) == 40);
  CHECK(offsetof(NcclConfig, blocking) == 16);
  CHECK(offsetof(NcclConfig, network) == 32);
}

}  // namespace
}  // namespace hora::cuda
