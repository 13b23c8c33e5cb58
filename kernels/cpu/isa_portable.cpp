// The cpu backend for one instruction set: Plain C++: runs everywhere.
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

#include "kernels/cpu/backend_of.h"
#include "kernels/cpu/simd_portable.h"

namespace strait::cpu {

std::unique_ptr<Backend> make_portable_backend(int threads) {
  return std::make_unique<BackendOf<Portable>>(threads, false);
}

}  // namespace strait::cpu
