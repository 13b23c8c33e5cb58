// Normal values by index: y[i] = stddev * normal_at(rng, stream, i), the same function that the
// host runs (kernels/normal.h), called as constexpr code. No multiply-add is contracted
// (--fmad=false), division and square root are correctly rounded, so the bits are the host's.
//
// Shapes: y any, contiguous, T. Bytes: y once; some sixty fp64 operations an element, which only
// the start of a run pays. Determinism: a value is a function of its index. One element a thread.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/normal.h"

namespace strait {
namespace {

constexpr int kThreads = 256;

struct CorrectlyRoundedRoot {
  __device__ double operator()(double x) const { return __dsqrt_rn(x); }
};

template <typename T>
__global__ void random_normal_kernel(T* y, Philox rng, uint64_t stream, double stddev, int64_t n) {
  const int64_t i = global_index();
  if (i >= n) return;
  const double value =
      stddev * normal_of(rng.word(stream, static_cast<uint64_t>(i)), CorrectlyRoundedRoot{});
  y[i] = narrow<T>(static_cast<float>(value));
}

}  // namespace

void CudaBackend::do_random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(random_normal_kernel<T>, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0,
           stream_, y.as<T>(), rng, stream, stddev, y.elements());
  });
}

}  // namespace strait
