// SwiGLU (Shazeer 2020): y = silu(g) * u with silu(g) = g * s, s = 1/(1 + exp(-g)), and its
// backward
//   du = dy * silu(g),   dg = dy * u * s * (1 + g (1 - s)).
//
// Shapes: y, dy (N,F) T; gate_up, dgate_up (N,2F) T = [g | u]; dgate_up may alias gate_up (a thread
// reads its pair before it writes it). Elements per token: forward 3F, backward 5F. Determinism:
// every element by itself. A thread moves 16 bytes of each stream at once where F allows it; there
// is nothing to share.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// A thread a pack of pairs along F.
template <typename T, int kPack>
__global__ void forward_kernel(T* y, const T* gate_up, int64_t width, int64_t count) {
  const int64_t i = global_index() * kPack;
  if (i >= count) return;
  const T* pair = gate_up + i / width * 2 * width + i % width;
  const auto g = load_pack<kPack>(pair), u = load_pack<kPack>(pair + width);
  Pack<kPack> result;
#pragma unroll
  for (int j = 0; j < kPack; ++j) result.x[j] = g.x[j] * sigmoid(g.x[j]) * u.x[j];
  store_pack(y + i, result);
}

template <typename T, int kPack>
__global__ void backward_kernel(T* dgate_up, const T* dy, const T* gate_up, int64_t width,
                                int64_t count) {
  const int64_t i = global_index() * kPack;
  if (i >= count) return;
  const int64_t place = i / width * 2 * width + i % width;
  const auto g = load_pack<kPack>(gate_up + place), u = load_pack<kPack>(gate_up + place + width),
             gradient = load_pack<kPack>(dy + i);
  Pack<kPack> dg, du;
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const float s = sigmoid(g.x[j]);
    dg.x[j] = gradient.x[j] * u.x[j] * s * (1.0f + g.x[j] * (1.0f - s));
    du.x[j] = gradient.x[j] * g.x[j] * s;
  }
  store_pack(dgate_up + place, dg);
  store_pack(dgate_up + place + width, du);
}

}  // namespace

void CudaBackend::do_swiglu_forward(Tensor y, Tensor gate_up) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(y.size(1), {y.data, gate_up.data}, [&](auto pack) {
      launch(forward_kernel<T, pack()>, grid_of(blocks_for(y.elements(), kThreads * pack())),
             kThreads, 0, stream_, y.as<T>(), gate_up.as<T>(), y.size(1), y.elements());
    });
  });
}

void CudaBackend::do_swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) {
  dispatch(dy.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(dy.size(1), {dgate_up.data, dy.data, gate_up.data}, [&](auto pack) {
      launch(backward_kernel<T, pack()>, grid_of(blocks_for(dy.elements(), kThreads * pack())),
             kThreads, 0, stream_, dgate_up.as<T>(), dy.as<T>(), gate_up.as<T>(), dy.size(1),
             dy.elements());
    });
  });
}

}  // namespace strait
