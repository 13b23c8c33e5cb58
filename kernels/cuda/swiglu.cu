// SwiGLU (Shazeer 2020): y = silu(g) * u with silu(g) = g * s, s = 1/(1 + exp(-g)), and its
// backward
//   du = dy * silu(g),   dg = dy * u * s * (1 + g (1 - s)).
//
// Shapes: y, dy (N,F) T; gate_up, dgate_up (N,2F) T = [g | u]; dgate_up may alias gate_up (a thread
// reads its pair before it writes it). Elements per token: forward 3F, backward 5F. Determinism:
// every element by itself. One pair a thread along F, so that all streams of a warp are whole
// lines; there is nothing to share.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <typename T>
__global__ void forward_kernel(T* y, const T* gate_up, int64_t width, int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  const T* pair = gate_up + i / width * 2 * width + i % width;
  const float g = widen(pair[0]), u = widen(pair[width]);
  y[i] = narrow<T>(g * sigmoid(g) * u);
}

template <typename T>
__global__ void backward_kernel(T* dgate_up, const T* dy, const T* gate_up, int64_t width,
                                int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  const int64_t place = i / width * 2 * width + i % width;
  const float g = widen(gate_up[place]), u = widen(gate_up[place + width]), gradient = widen(dy[i]);
  const float s = sigmoid(g);
  dgate_up[place] = narrow<T>(gradient * u * s * (1.0f + g * (1.0f - s)));
  dgate_up[place + width] = narrow<T>(gradient * g * s);
}

}  // namespace

void CudaBackend::do_swiglu_forward(Tensor y, Tensor gate_up) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(forward_kernel<T>, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0, stream_,
           y.as<T>(), gate_up.as<T>(), y.size(1), y.elements());
  });
}

void CudaBackend::do_swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) {
  dispatch(dy.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(backward_kernel<T>, grid_of(blocks_for(dy.elements(), kThreads)), kThreads, 0, stream_,
           dgate_up.as<T>(), dy.as<T>(), gate_up.as<T>(), dy.size(1), dy.elements());
  });
}

}  // namespace strait
