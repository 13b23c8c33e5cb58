// RMS normalisation (Zhang & Sennrich 2019): y = x * rstd * w with rstd = 1/sqrt(mean_c x^2 + eps),
// forward, forward with the residual sum in front, and backward (the formulas stand in
// kernels/backend.h).
//
// Shapes: x, y, dy, dx (N,C) T; w (C) T; rstd (N) f32; dw (C) f32. Statistics and gradients are
// computed in fp32. Elements per token from memory: forward 2C, with the sum 4C (the second pass
// over a row reads what the first left in the cache); backward 3C for dx and 2C for dw.
// Determinism: a row by one warp in a fixed tree, so rows do not know each other; dw by chunks of
// 64 rows, each summed in order, then the chunks in order, on any device. A warp a row needs no
// barrier and no shared memory; a lane moves 16 bytes at once where rows are whole packs of that.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerBlock = kThreads / kWarp;
constexpr int64_t kChunkRows = 64;

// The warp's row and this thread's lane; rows past the end are negative.
__device__ inline int64_t warp_row(int64_t rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarp;
  return row < rows ? row : -1;
}
__device__ inline int lane_index() { return static_cast<int>(threadIdx.x % kWarp); }

// With `delta`: sum = x + delta is written first and normalised instead of x; `sum` may be x or
// delta, because a lane reads a pack before it writes it and reads back only what it wrote.
template <typename T, bool kWithDelta, int kPack>
__global__ void forward_kernel(T* sum, T* y, float* rstd, const T* x, const T* delta, const T* w,
                               int64_t rows, int64_t width, float eps) {
  const int64_t n = warp_row(rows);
  if (n < 0) return;
  const T* source = x + n * width;
  float squares = 0.0f;
  for (int64_t c = lane_index() * kPack; c < width; c += kWarp * kPack) {
    Pack<kPack> value = load_pack<kPack>(source + c);
    if constexpr (kWithDelta) {
      const Pack<kPack> change = load_pack<kPack>(delta + n * width + c);
#pragma unroll
      for (int i = 0; i < kPack; ++i) value.x[i] += change.x[i];
      value = rounded<T>(value);
      store_pack(sum + n * width + c, value);
    }
#pragma unroll
    for (const float v : value.x) squares = fmaf(v, v, squares);
  }
  const float scale = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(width) + eps);
  if (lane_index() == 0) rstd[n] = scale;
  if constexpr (kWithDelta) source = sum + n * width;
  for (int64_t c = lane_index() * kPack; c < width; c += kWarp * kPack) {
    Pack<kPack> value = load_pack<kPack>(source + c);
    const Pack<kPack> weight = load_pack<kPack>(w + c);
#pragma unroll
    for (int i = 0; i < kPack; ++i) value.x[i] = value.x[i] * scale * weight.x[i];
    store_pack(y + n * width + c, value);
  }
}

template <typename T, int kPack>
__global__ void backward_input_kernel(T* dx, const T* dy, const T* x, const T* w, const float* rstd,
                                      int64_t rows, int64_t width, bool accumulate) {
  const int64_t n = warp_row(rows);
  if (n < 0) return;
  const float scale = rstd[n];
  float product = 0.0f;
  for (int64_t c = lane_index() * kPack; c < width; c += kWarp * kPack) {
    const auto gradient = load_pack<kPack>(dy + n * width + c), weight = load_pack<kPack>(w + c),
               value = load_pack<kPack>(x + n * width + c);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      product = fmaf(gradient.x[i] * weight.x[i], value.x[i] * scale, product);
  }
  const float mean = warp_sum(product) / static_cast<float>(width);
  for (int64_t c = lane_index() * kPack; c < width; c += kWarp * kPack) {
    const auto gradient = load_pack<kPack>(dy + n * width + c), weight = load_pack<kPack>(w + c),
               value = load_pack<kPack>(x + n * width + c);
    Pack<kPack> result{};
    if (accumulate) result = load_pack<kPack>(dx + n * width + c);
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      const float here = scale * (gradient.x[i] * weight.x[i] - value.x[i] * scale * mean);
      result.x[i] = accumulate ? result.x[i] + here : here;
    }
    store_pack(dx + n * width + c, result);
  }
}

// partial[chunk][c] = sum of dy * x * rstd over the chunk's rows, in order. One thread a pack of
// columns, one block row a chunk.
template <typename T, int kPack>
__global__ void backward_weight_chunk_kernel(float* partial, const T* dy, const T* x,
                                             const float* rstd, int64_t rows, int64_t width) {
  const int64_t c = global_index() * kPack;
  if (c >= width) return;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kChunkRows;
  const int64_t end = min(begin + kChunkRows, rows);
  Pack<kPack> total{};
  for (int64_t n = begin; n < end; ++n) {
    const auto gradient = load_pack<kPack>(dy + n * width + c),
               value = load_pack<kPack>(x + n * width + c);
#pragma unroll
    for (int i = 0; i < kPack; ++i)
      total.x[i] = fmaf(gradient.x[i], value.x[i] * rstd[n], total.x[i]);
  }
#pragma unroll
  for (int i = 0; i < kPack; ++i) partial[blockIdx.y * width + c + i] = total.x[i];
}

__global__ void backward_weight_combine_kernel(float* dw, const float* partial, int64_t chunks,
                                               int64_t width) {
  const int64_t c = global_index();
  if (c >= width) return;
  float total = 0.0f;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += partial[chunk * width + c];
  dw[c] += total;
}

dim3 grid_of_rows(int64_t rows) { return grid_of(blocks_for(rows, kRowsPerBlock)); }

}  // namespace

void CudaBackend::do_rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(x.size(1), {y.data, x.data, w.data}, [&](auto pack) {
      launch(forward_kernel<T, false, pack()>, grid_of_rows(x.size(0)), kThreads, 0, stream_,
             nullptr, y.as<T>(), rstd.as<float>(), x.as<T>(), nullptr, w.as<T>(), x.size(0),
             x.size(1), eps);
    });
  });
}

void CudaBackend::do_add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta,
                                         Tensor w, double eps) {
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(x.size(1), {sum.data, y.data, x.data, delta.data, w.data}, [&](auto pack) {
      launch(forward_kernel<T, true, pack()>, grid_of_rows(x.size(0)), kThreads, 0, stream_,
             sum.as<T>(), y.as<T>(), rstd.as<float>(), x.as<T>(), delta.as<T>(), w.as<T>(),
             x.size(0), x.size(1), eps);
    });
  });
}

void CudaBackend::do_rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w,
                                      Tensor rstd, bool accumulate_dx) {
  const int64_t rows = x.size(0), width = x.size(1), chunks = blocks_for(rows, kChunkRows);
  auto* partial = static_cast<float*>(scratch(static_cast<size_t>(chunks * width) * sizeof(float)));
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(width, {dx.data, dy.data, x.data, w.data}, [&](auto pack) {
      launch(backward_weight_chunk_kernel<T, pack()>,
             grid_of(blocks_for(width, kThreads * pack()), chunks), kThreads, 0, stream_, partial,
             dy.as<T>(), x.as<T>(), rstd.as<float>(), rows, width);
      launch(backward_input_kernel<T, pack()>, grid_of_rows(rows), kThreads, 0, stream_, dx.as<T>(),
             dy.as<T>(), x.as<T>(), w.as<T>(), rstd.as<float>(), rows, width, accumulate_dx);
    });
  });
  launch(backward_weight_combine_kernel, grid_of(blocks_for(width, kThreads)), kThreads, 0, stream_,
         dw.as<float>(), partial, chunks, width);
}

}  // namespace strait
