#include "cuda/library.h"

#include <dlfcn.h>
#include <link.h>

namespace hora::cuda {

Result<Library> Library::open(const char* soname) {
  void* handle = ::dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) handle = ::dlopen(soname, RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return Library(handle);
  const char* why = ::dlerror();
  return Status(StatusCode::unsupported, why != nullptr ? why : soname);
}

Library::Library(void* handle) : handle_(handle) {
  link_map* map = nullptr;
  if (::dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr) path_ = map->l_name;
}

void* Library::find(const char* symbol) {
  void* found = look_up(symbol);
  if (found == nullptr) missing_ += (missing_.empty() ? "" : ", ") + std::string(symbol);
  return found;
}

void* Library::look_up(const char* symbol) const {
  return ::dlsym(handle_, symbol);
}

}  // namespace hora::cuda
