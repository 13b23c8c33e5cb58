// The cpu backend for one instruction set: AVX2 and FMA.
// Everything that is not a template over the lanes is included before the pragma, so that no symbol
// which other files share is compiled with instructions that a machine may lack.
#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/cpu/attention_mask.h"
#include "kernels/cpu/codec.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/onednn_matmul.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/plain.h"

#pragma GCC push_options
#pragma GCC target("avx2,fma")

#include "kernels/cpu/backend_of.h"
#include "kernels/cpu/simd_avx2.h"

namespace strait::cpu {

std::unique_ptr<Backend> make_avx2_backend(int threads) {
  return std::make_unique<BackendOf<Avx2>>(threads, false);
}

}  // namespace strait::cpu

#pragma GCC pop_options

#endif
