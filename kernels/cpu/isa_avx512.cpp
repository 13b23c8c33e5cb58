// The cpu backend for one instruction set: AVX-512 (F, BW, DQ, VL).
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

// GCC 12 takes the "undefined" pass-through operands inside its own AVX-512 headers for
// uninitialised variables.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")

#include "kernels/cpu/backend_of.h"
#include "kernels/cpu/simd_avx512.h"

namespace strait::cpu {

std::unique_ptr<Backend> make_avx512_backend(int threads) {
  return std::make_unique<BackendOf<Avx512>>(threads, true);
}

}  // namespace strait::cpu

#pragma GCC pop_options

#endif
