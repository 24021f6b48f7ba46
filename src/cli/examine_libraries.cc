#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <string>

#include "base/environment.h"
#include "cli/examinations.h"
#include "engine/mpi_run.h"

namespace hora::cli {

namespace {

struct Library {
  const char* subject;
  std::string name;     // as dlopen takes it
  const char* purpose;  // what does not go without it
  const char* mend;
};

// A library stays loaded: some cannot be unloaded.
void examine(const Library& library, Findings& findings) {
  void* handle = ::dlopen(library.name.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* error = ::dlerror();
    const std::string why = error != nullptr ? error : "no reason given";
    findings.add(library.subject, "not loaded: " + why);
    findings.miss(Need::optional, fmt::format("{}: {}", library.subject, library.purpose), library.mend);
    return;
  }
  link_map* map = nullptr;
  const bool known = ::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0;
  findings.add(library.subject, known ? map->l_name : library.name);
}

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
  examine(
      {"CUDA driver", "libcuda.so.1", "tensors on GPUs", "install NVIDIA's driver (Debian: apt install nvidia-driver)"},
      findings);
  examine({"NCCL", "libnccl.so.2", "the fast path between GPUs",
           "pip install nvidia-nccl-cu13, and its folder in LD_LIBRARY_PATH (Debian: apt install libnccl2)"},
          findings);
  examine_mpi(std::string(environment.find("HORA_MPI_PLUGIN").value_or("")), findings);
}

}  // namespace hora::cli
