// What the kernels share: widening to fp32 and rounding back, sums over a warp and a block in a
// fixed order, choosing a kernel by dtype, and the one way to launch it. Products and sums are
// contracted to fused multiply-adds only where a kernel says fmaf: the files are compiled with
// --fmad=false, as the host's are with -ffp-contract=off.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/cuda/cuda_check.h"
#include "kernels/tensor.h"

namespace strait {

using bf16 = __nv_bfloat16;

// Declares `name`, a float4 pointer to the block's dynamic shared memory.
#ifndef STRAIT_DYNAMIC_SHARED_MEMORY
#define STRAIT_DYNAMIC_SHARED_MEMORY(name) extern __shared__ float4 name[]
#endif

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(bf16 x) { return __bfloat162float(x); }

// Rounds to nearest even.
template <typename T>
__device__ T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 narrow<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

// The element of a one-dimensional grid that this thread works on.
__device__ inline int64_t global_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// An index that a tensor holds. The host cannot look at it without waiting, so the device refuses
// one outside its table: the kernel stops, and the next check of the stream reports it.
__device__ inline int64_t checked_index(int32_t index, int64_t size) {
  if (index < 0 || index >= size) __trap();
  return index;
}

// Butterflies: every lane ends with the same bits, because both partners of an exchange add the
// same two numbers.
__device__ inline float warp_sum(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

// The sum over a block of whole warps, the same on every thread: warps first, then their sums in
// order.
__device__ inline float block_sum(float x) {
  __shared__ float of_warp[kWarp];
  x = warp_sum(x);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = x;
  __syncthreads();
  float total = 0.0f;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) total += of_warp[w];
  __syncthreads();  // the next call may overwrite
  return total;
}

// kCount neighbouring elements that are read or written at once, widened.
template <int kCount>
struct Pack {
  float x[kCount];
};
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) RawPack {
  T x[kCount];
};
// `p` is aligned to the pack.
template <int kCount, typename T>
__device__ Pack<kCount> load_pack(const T* p) {
  const auto raw = *reinterpret_cast<const RawPack<T, kCount>*>(p);
  Pack<kCount> pack;
#pragma unroll
  for (int i = 0; i < kCount; ++i) pack.x[i] = widen(raw.x[i]);
  return pack;
}
template <int kCount, typename T>
__device__ void store_pack(T* p, const Pack<kCount>& pack) {
  RawPack<T, kCount> raw;
#pragma unroll
  for (int i = 0; i < kCount; ++i) raw.x[i] = narrow<T>(pack.x[i]);
  *reinterpret_cast<RawPack<T, kCount>*>(p) = raw;
}
// What storing `pack` as T and reading it again would give.
template <typename T, int kCount>
__device__ Pack<kCount> rounded(Pack<kCount> pack) {
#pragma unroll
  for (float& x : pack.x) x = widen(narrow<T>(x));
  return pack;
}

// Elements of T in the 16 bytes that one thread moves best.
template <typename T>
constexpr int kFullPack = 16 / static_cast<int>(sizeof(T));

// Calls function(std::integral_constant<int, P>): P = kFullPack<T> where all rows of `width`
// elements and all `pointers` are whole packs, else 1.
template <typename T, typename Function>
void dispatch_pack(int64_t width, std::initializer_list<const void*> pointers,
                   Function&& function) {
  bool whole = width % kFullPack<T> == 0;
  for (const void* p : pointers) whole = whole && reinterpret_cast<uintptr_t>(p) % 16 == 0;
  if (whole) return function(std::integral_constant<int, kFullPack<T>>{});
  return function(std::integral_constant<int, 1>{});
}

// A float array whose dtype is known at run time: for kernels whose operands may mix f32 and bf16
// and whose time is the memory's. The branch is the same for all threads.
struct FloatArray {
  void* data = nullptr;
  bool is_bf16 = false;

  __device__ float load(int64_t i) const {
    return is_bf16 ? widen(static_cast<const bf16*>(data)[i]) : static_cast<const float*>(data)[i];
  }
  __device__ void store(int64_t i, float x) const {
    if (is_bf16) {
      static_cast<bf16*>(data)[i] = narrow<bf16>(x);
    } else {
      static_cast<float*>(data)[i] = x;
    }
  }
  // Elements i and i + 1; i is even and so is the address of element 0 in elements.
  __device__ void store_pair(int64_t i, float x, float y) const {
    if (is_bf16) {
      *reinterpret_cast<__nv_bfloat162*>(static_cast<bf16*>(data) + i) =
          __floats2bfloat162_rn(x, y);
    } else {
      *reinterpret_cast<float2*>(static_cast<float*>(data) + i) = make_float2(x, y);
    }
  }
};

[[noreturn]] inline void unsupported(DType dtype) {
  check_failed(__FILE__, __LINE__, "dtype is f32 or bf16",
               std::string("the CUDA backend got ") + name_of(dtype));
}

inline FloatArray float_array(const Tensor& t) {
  if (t.dtype != DType::f32 && t.dtype != DType::bf16) unsupported(t.dtype);
  return {t.data, t.dtype == DType::bf16};
}

// Calls function(T{}) with the device type of `dtype`.
template <typename Function>
void dispatch(DType dtype, Function&& function) {
  switch (dtype) {
    case DType::f32:
      return function(float{});
    case DType::bf16:
      return function(bf16{});
    default:
      unsupported(dtype);
  }
}

// Where the rows (last dimension) of a tensor of up to four dimensions begin; the outer dimensions
// have any strides.
struct RowOffsets {
  int64_t sizes[3] = {1, 1, 1};
  int64_t strides[3] = {0, 0, 0};

  explicit RowOffsets(const Tensor& t) {
    for (int i = 0; i < t.shape.rank - 1; ++i) {
      const int place = 3 - (t.shape.rank - 1) + i;
      sizes[place] = t.size(i);
      strides[place] = t.stride(i);
    }
  }
  __device__ int64_t operator()(int64_t row) const {
    const int64_t last = row % sizes[2], outer = row / sizes[2];
    return outer / sizes[1] * strides[0] + outer % sizes[1] * strides[1] + last * strides[2];
  }
};

inline int64_t blocks_for(int64_t items, int64_t per_block) {
  return (items + per_block - 1) / per_block;
}
inline dim3 grid_of(int64_t x, int64_t y = 1, int64_t z = 1) {
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
}

// Queues kernel(arguments...) on the stream; an empty grid is no work. More than 48 KiB of shared
// memory are asked for.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > size_t{48} << 10) {
    CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t configuration{};
  configuration.gridDim = grid;
  configuration.blockDim = dim3(static_cast<unsigned>(threads));
  configuration.dynamicSmemBytes = shared_bytes;
  configuration.stream = stream;
  CUDA_CHECK(cudaLaunchKernelEx(&configuration, kernel, static_cast<Parameters>(arguments)...));
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace strait
