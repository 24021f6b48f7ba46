#include "transports/mpi/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <vector>

#include "transports/mpi/backoff.h"

namespace hora::mpi {
namespace {

constexpr std::size_t kTextBytes = 512;
constexpr const char* kFile = "libhora_mpi.so";

// The file that `address` was loaded from.
std::string file_of(const void* address) {
  Dl_info info{};
  return ::dladdr(address, &info) != 0 && info.dli_fname != nullptr ? info.dli_fname : "unknown file";
}

// The tool, which holds the library, may be installed in bin.
std::vector<std::string> places_of(const std::string& plugin) {
  if (!plugin.empty()) return {plugin};
  const auto here = std::filesystem::path(file_of(reinterpret_cast<const void*>(&places_of))).parent_path();
  return {here / kFile, here / ".." / HORA_LIBRARY_FOLDER / kFile, kFile};
}

// Local, as plugins are: what the program calls MPI stays what it was. Its MPI, if there is one, is shared by its name.
Result<void*> load(const std::string& plugin) {
  std::string said;
  for (const std::string& place : places_of(plugin)) {
    if (void* loaded = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL); loaded != nullptr) return loaded;
    // The first that is there says what is wrong with it.
    if (const char* why = ::dlerror(); said.empty() || std::filesystem::exists(place)) said = why;
  }
  return Status(StatusCode::unsupported,
                fmt::format("HORA_TRANSPORT=mpi: the MPI plugin cannot be loaded: {}; it is built where an MPI is "
                            "installed (cmake -DMPI_C_COMPILER=/path/to/mpicc), and HORA_MPI_PLUGIN names another "
                            "place than beside libhora.so",
                            said));
}

std::string_view first_word(std::string_view text) {
  return text.substr(0, text.find(' '));
}

// Intel MPI has the binary interface of MPICH.
bool is_same_kind(std::string_view built_with, std::string_view loaded) {
  const auto kind = [](std::string_view text) {
    return first_word(text) == "Intel(R)" ? std::string_view("MPICH") : first_word(text);
  };
  return kind(built_with) == kind(loaded);
}

}  // namespace

Library::Library(const hora_mpi_calls& calls, std::string version)
    : calls_(calls), version_(std::move(version)), initialising_thread_(std::this_thread::get_id()) {}

Result<std::unique_ptr<Library>> Library::open(const std::string& plugin) {
  const auto loaded = load(plugin);
  if (!loaded.ok()) return loaded.status();
  const auto entry = reinterpret_cast<hora_mpi_entry>(::dlsym(loaded.value(), HORA_MPI_ENTRY));
  if (entry == nullptr)
    return Status(StatusCode::unsupported,
                  fmt::format("HORA_MPI_PLUGIN: {} is no MPI plugin of hora: it has no {}", plugin, HORA_MPI_ENTRY));
  const hora_mpi_calls& calls = *entry();
  const std::string file = file_of(reinterpret_cast<const void*>(entry));
  if (calls.abi_version != HORA_MPI_ABI_VERSION)
    return Status(StatusCode::unsupported,
                  fmt::format("{} is of another version of hora (its interface is {}, not {}): build it again", file,
                              calls.abi_version, HORA_MPI_ABI_VERSION));
  std::array<char, kTextBytes> version{};
  calls.library_version(version.data(), version.size());
  std::unique_ptr<Library> library(new Library(calls, version.data()));
  if (!is_same_kind(calls.built_with, version.data()))
    return Status(StatusCode::unsupported,
                  fmt::format("{} was built with {}, but this process has {}: build the plugin with the mpicc of that "
                              "MPI (cmake -DMPI_C_COMPILER=/path/to/mpicc)",
                              file, calls.built_with, library->description()));
  return library;
}

Result<std::string> Library::find(const std::string& plugin) {
  const auto library = open(plugin);
  if (!library.ok()) return library.status();
  return library.value()->description();
}

Result<std::unique_ptr<Library>> Library::start(const std::string& plugin, hora_mpi_thread_level level) {
  auto library = open(plugin);
  if (library.ok()) HORA_TRY(library.value()->initialise(level));
  return library;
}

Status Library::initialise(hora_mpi_thread_level level) {
  const int state = calls_.state();
  if (state == HORA_MPI_FINALIZED)
    return {StatusCode::unsupported,
            "HORA_TRANSPORT=mpi: MPI was finalized in this process, and MPI cannot be started twice"};
  started_here_ = state == HORA_MPI_NOT_STARTED;
  if (started_here_)
    if (const int code = calls_.start(level); code != 0) return error("MPI_Init_thread", code);
  int provided = 0, is_main = 0;
  if (const int code = calls_.thread_level(&provided); code != 0) return error("MPI_Query_thread", code);
  any_thread_ = provided >= HORA_MPI_THREAD_SERIALIZED;
  if (const int code = calls_.is_main_thread(&is_main); code != 0) return error("MPI_Is_thread_main", code);
  if (!any_thread_ && is_main == 0)
    return {StatusCode::unsupported,
            "HORA_TRANSPORT=mpi: this program initialised MPI for one thread (MPI_Init, or MPI_THREAD_FUNNELED) and "
            "joins the job in another one: ask MPI_Init_thread for MPI_THREAD_SERIALIZED or MPI_THREAD_MULTIPLE"};
  if (const int code = calls_.world(&rank_, &size_); code != 0) return error("MPI_Comm_rank", code);
  if (const int code = calls_.open(&links_); code != 0) return error("MPI_Comm_dup", code);
  return {};
}

std::string Library::description() const {
  const std::size_t comma = version_.find(',');
  return fmt::format("{} ({})", version_.substr(0, comma), file_of(calls_.library_function()));
}

Status Library::error(const char* what, int code) const {
  std::array<char, kTextBytes> text{};
  calls_.error_text(code, text.data(), text.size());
  return {StatusCode::resource, fmt::format("{} failed: {}", what, text.data())};
}

Result<std::string> Library::share(const std::string& own, Duration timeout) {
  std::string all(own.size() * static_cast<std::size_t>(size_), '\0');
  // Not of this function, for if it ends early MPI still writes there.
  auto memory = std::make_unique<std::array<std::string, 2>>(std::array{own, all});
  hora_mpi_request request = 0;
  if (const int code = calls_.share(links_, (*memory)[0].data(), (*memory)[1].data(), own.size(), &request); code != 0)
    return error("MPI_Iallgather", code);
  for (Backoff backoff(timeout);;) {
    const auto complete = test(request);
    if (!complete.ok()) return complete.status();
    if (complete.value()) return (*memory)[1];
    if (backoff.wait()) continue;
    (void)memory.release();
    return Status(
        StatusCode::timed_out,
        fmt::format("not all {} ranks of mpirun came to HORA_TRANSPORT=mpi in time (HORA_START_TIMEOUT_MS)", size_));
  }
}

Status Library::send(int to, int tag, std::span<const std::byte> data, Mode mode, hora_mpi_request& request) {
  const auto send = mode == Mode::at_once ? calls_.send : calls_.send_synchronous;
  const int code = send(links_, to, tag, data.data(), data.size(), &request);
  return code == 0 ? Status() : error("MPI_Isend", code);
}

Status Library::receive(int from, int tag, std::span<std::byte> data, hora_mpi_request& request) {
  const int code = calls_.receive(links_, from, tag, data.data(), data.size(), &request);
  return code == 0 ? Status() : error("MPI_Irecv", code);
}

Result<bool> Library::test(hora_mpi_request& request) {
  int complete = 0;
  if (const int code = calls_.test(&request, &complete); code != 0) return error("MPI_Test", code);
  return complete != 0;
}

Status Library::cancel(hora_mpi_request& request) {
  const int code = calls_.cancel(&request);
  return code == 0 ? Status() : error("MPI_Cancel", code);
}

Status Library::finish() {
  if (const int code = calls_.close(links_); code != 0) return error("MPI_Comm_free", code);
  if (!started_here_) return {};
  const int code = calls_.finalize();
  return code == 0 ? Status() : error("MPI_Finalize", code);
}

}  // namespace hora::mpi
