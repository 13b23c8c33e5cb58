// Softmax cross-entropy of a row of logits, loss and gradient in one kernel:
//   loss = log sum_v exp(l_v) - l_target,   l <- scale * (softmax(l) - onehot(target)); both 0 for
//   an ignored row.
//
// Shapes: logits (N,V) T, overwritten if the gradient is wanted; targets (N) i32, negative =
// ignored; loss (N) f32. Elements per token: V read, and with the gradient V read again (from the
// L2 cache where the row fits) and V written. Determinism: one block a row, every 256th pack of
// columns a thread, partial (maximum, sum) pairs joined in a fixed tree; rows do not know each other.
// Maximum and sum are found in one pass (Milakov & Gimelshein 2018), because V is long.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

// sum = sum of exp(value - maximum) over what was seen.
struct SoftmaxState {
  float maximum = -INFINITY;
  float sum = 0.0f;
};

// Symmetric in its arguments, bit for bit.
__device__ inline SoftmaxState join(SoftmaxState a, SoftmaxState b) {
  SoftmaxState both;
  both.maximum = fmaxf(a.maximum, b.maximum);
  if (a.maximum == -INFINITY && b.maximum == -INFINITY) {
    both.sum = a.sum + b.sum;  // zeros, or a NaN seen before any number
    return both;
  }
  both.sum = a.sum * expf(a.maximum - both.maximum) + b.sum * expf(b.maximum - both.maximum);
  return both;
}

// A pack more: one exponential a value and one for all.
template <int kPack>
__device__ SoftmaxState take(SoftmaxState state, const Pack<kPack>& pack) {
  SoftmaxState both;
  both.maximum = state.maximum;
#pragma unroll
  for (const float x : pack.x) both.maximum = fmaxf(both.maximum, x);
  // Where all are -inf their exponentials must come out as 0, not as NaN.
  const float base = both.maximum == -INFINITY ? 0.0f : both.maximum;
  both.sum = state.sum * expf(state.maximum - base);
#pragma unroll
  for (const float x : pack.x) both.sum += expf(x - base);
  return both;
}

__device__ inline SoftmaxState join_block(SoftmaxState state) {
  __shared__ float maxima[kThreads / kWarp];
  __shared__ float sums[kThreads / kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) {
    SoftmaxState other;
    other.maximum = __shfl_xor_sync(kAllLanes, state.maximum, step);
    other.sum = __shfl_xor_sync(kAllLanes, state.sum, step);
    state = join(state, other);
  }
  if (threadIdx.x % kWarp == 0) {
    maxima[threadIdx.x / kWarp] = state.maximum;
    sums[threadIdx.x / kWarp] = state.sum;
  }
  __syncthreads();
  SoftmaxState all;
  for (int w = 0; w < kThreads / kWarp; ++w) all = join(all, {maxima[w], sums[w]});
  return all;
}

template <typename T, int kPack>
__global__ void cross_entropy_kernel(float* loss, T* logits, const int32_t* targets, int64_t width,
                                     float scale, bool gradient) {
  const int64_t n = blockIdx.x;
  T* row = logits + n * width;
  const int32_t target = targets[n];
  if (target < 0) {
    if (threadIdx.x == 0) loss[n] = 0.0f;
    if (gradient) {
      for (int64_t v = threadIdx.x * kPack; v < width; v += kThreads * kPack)
        store_pack(row + v, Pack<kPack>{});
    }
    return;
  }

  SoftmaxState state;
  for (int64_t v = threadIdx.x * kPack; v < width; v += kThreads * kPack)
    state = take(state, load_pack<kPack>(row + v));
  const float at_target = widen(row[checked_index(
      target, width)]);  // before the barrier in join_block, hence before it is overwritten
  state = join_block(state);
  if (threadIdx.x == 0) loss[n] = logf(state.sum) + state.maximum - at_target;
  if (!gradient) return;

  for (int64_t v = threadIdx.x * kPack; v < width; v += kThreads * kPack) {
    auto value = load_pack<kPack>(row + v);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float probability = expf(value.x[i] - state.maximum) / state.sum;
      value.x[i] = scale * (probability - (v + i == target ? 1.0f : 0.0f));
    }
    store_pack(row + v, value);
  }
}

}  // namespace

void CudaBackend::do_cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale,
                                   bool gradient) {
  dispatch(logits.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(logits.size(1), {logits.data}, [&](auto pack) {
      launch(cross_entropy_kernel<T, pack()>, grid_of(logits.size(0)), kThreads, 0, stream_,
             loss.as<float>(), logits.as<T>(), targets.as<int32_t>(), logits.size(1), scale,
             gradient);
    });
  });
}

}  // namespace strait
