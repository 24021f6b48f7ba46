#include <fmt/format.h>

#include <string>

#include "base/environment.h"
#include "cli/examinations.h"
#include "cuda/runtime.h"
#include "engine/mpi_run.h"

namespace hora::cli {

namespace {

void examine_mpi(const std::string& plugin, Findings& findings) {
  const auto found = engine::MpiRun::find(plugin);
  findings.add("MPI plugin", found.ok() ? found.value() : fmt::format("not loaded: {}", found.status().message()));
  if (!found.ok())
    findings.miss(Need::optional, "MPI plugin: HORA_TRANSPORT=mpi",
                  "build hora where an MPI is installed (apt install libopenmpi-dev), or set HORA_MPI_PLUGIN");
}

}  // namespace

void examine_libraries(Findings& findings) {
  const Environment environment = Environment::of_process();
  for (const cuda::Finding& found : cuda::describe()) {
    findings.add(found.subject, found.text);
    if (!found.without.empty())
      findings.miss(Need::optional, fmt::format("{}: {}", found.subject, found.without), found.mend);
  }
  examine_mpi(std::string(environment.find("HORA_MPI_PLUGIN").value_or("")), findings);
}

}  // namespace hora::cli
