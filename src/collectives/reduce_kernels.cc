#include "collectives/reduce_kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <initializer_list>

#include "collectives/reduce_kernels_variants.h"

namespace hora::collectives {

const char* to_string(ReduceVariant variant) noexcept {
  switch (variant) {
    case ReduceVariant::generic: return "generic";
    case ReduceVariant::avx2: return "avx2";
    case ReduceVariant::avx512: return "avx512";
  }
  return "?";
}

#if defined(__x86_64__)
namespace {

// __builtin_cpu_supports() of clang 14 does not know it. What the system saves it says for AVX2.
bool has_f16c() noexcept {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

}  // namespace
#endif

bool is_available(ReduceVariant variant) noexcept {
#if defined(__x86_64__)
  switch (variant) {
    case ReduceVariant::generic: return true;
    case ReduceVariant::avx2: return __builtin_cpu_supports("avx2") != 0 && has_f16c();
    case ReduceVariant::avx512:
      return is_available(ReduceVariant::avx2) && __builtin_cpu_supports("avx512f") != 0 &&
             __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
             __builtin_cpu_supports("avx512vl") != 0;
  }
  return false;
#else
  return variant == ReduceVariant::generic;
#endif
}

ReduceKernel find_reduce_kernel(ReduceVariant variant, DataType dtype, ReduceOp op) noexcept {
#if defined(__x86_64__)
  if (variant == ReduceVariant::avx512) return avx512_reduce_kernel(dtype, op);
  if (variant == ReduceVariant::avx2) return avx2_reduce_kernel(dtype, op);
#endif
  (void)variant;
  return generic_reduce_kernel(dtype, op);
}

ReduceKernel find_reduce_kernel(DataType dtype, ReduceOp op) noexcept {
  // Asked once: each cpuid in a virtual machine leaves it, which takes microseconds.
  static const ReduceVariant kBest = [] {
    ReduceVariant best = ReduceVariant::generic;
    for (const ReduceVariant variant : {ReduceVariant::avx2, ReduceVariant::avx512})
      if (is_available(variant)) best = variant;
    return best;
  }();
  return find_reduce_kernel(kBest, dtype, op);
}

}  // namespace hora::collectives
