// sum x and sum x^2 over a whole tensor, in two passes whose shape the number of elements alone
// fixes.
//
// Shapes: x any, contiguous, T; out (1) f32 or f64. Bytes: x once, 8 per 4096 elements twice.
// Determinism: blocks of 4096 elements in fp32 (a thread takes every 256th pack,
// then a fixed tree), the
// blocks in order in fp64 by one thread. 4096 elements a block keep 16 loads of a thread in flight;
// the second pass stages 256 partial sums at a time in shared memory, so that the one adding thread
// waits for additions and not for the memory.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlockElements = 4096;

template <typename T, bool kSquares, int kPack>
__global__ void partial_kernel(double* partial, const T* x, int64_t n) {
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kBlockElements;
  const int64_t end = min(begin + kBlockElements, n);
  float total = 0.0f;
  for (int64_t i = begin + threadIdx.x * kPack; i < end; i += kThreads * kPack) {
    const auto pack = load_pack<kPack>(x + i);
#pragma unroll
    for (const float value : pack.x) total = kSquares ? fmaf(value, value, total) : total + value;
  }
  total = block_sum(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

template <typename Out>
__global__ void combine_kernel(Out* out, const double* partial, int64_t count) {
  __shared__ double staged[kThreads];
  double total = 0.0;
  for (int64_t begin = 0; begin < count; begin += kThreads) {
    const int64_t here = min(count - begin, static_cast<int64_t>(kThreads));
    if (threadIdx.x < here) staged[threadIdx.x] = partial[begin + threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int64_t i = 0; i < here; ++i) total += staged[i];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *out = static_cast<Out>(total);
}

}  // namespace

void CudaBackend::reduce(Tensor out, Tensor x, bool squares) {
  const int64_t n = x.elements(), blocks = blocks_for(n, kBlockElements);
  auto* partial = static_cast<double*>(scratch(static_cast<size_t>(blocks) * sizeof(double)));
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(n, {x.data}, [&](auto pack) {
      const auto kernel =
          squares ? partial_kernel<T, true, pack()> : partial_kernel<T, false, pack()>;
      launch(kernel, grid_of(blocks), kThreads, 0, stream_, partial, x.as<T>(), n);
    });
  });
  if (out.dtype == DType::f64) {
    launch(combine_kernel<double>, grid_of(1), kThreads, 0, stream_, out.as<double>(), partial,
           blocks);
  } else {
    launch(combine_kernel<float>, grid_of(1), kThreads, 0, stream_, out.as<float>(), partial,
           blocks);
  }
}

void CudaBackend::do_sum(Tensor out, Tensor x) { reduce(out, x, false); }
void CudaBackend::do_sum_squares(Tensor out, Tensor x) { reduce(out, x, true); }

}  // namespace strait
