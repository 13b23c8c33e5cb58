// SiLU, ReLU and GELU and their backward: y = x s(t), dx = dy s (1 + x t' (1 - s)) with s the logistic function, and t = x for SiLU,
// t = 2 sqrt(2/pi) (x + 0.044715 x^3) for GELU; ReLU without it.
//
// Shapes: any, contiguous, T; y may alias x, dx may alias dy. Bytes: each operand once. Determinism: every element by itself. A
// thread moves 16 bytes of each stream at once.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

__device__ inline float logistic(float t) { return 1.0f / (1.0f + expf(-t)); }

// t and dt/dx.
struct Gate {
  float t, slope;
  __device__ Gate(float x, Activation activation) : t(x), slope(1.0f) {
    if (activation == Activation::silu) return;
    constexpr float kTwice = 1.5957691216057308f, kCubic = 0.044715f;
    t = kTwice * x * (1.0f + kCubic * x * x);
    slope = kTwice * (1.0f + 3.0f * kCubic * x * x);
  }
};

template <typename T, int kPack>
__global__ void forward_kernel(T* y, const T* x, Activation activation, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  auto value = load_pack<kPack>(x + i);
#pragma unroll
  for (float& v : value.x)
    v = activation == Activation::relu ? (v < 0.0f ? 0.0f : v)
                                       : v * logistic(Gate(v, activation).t);
  store_pack(y + i, value);
}

template <typename T, int kPack>
__global__ void backward_kernel(T* dx, const T* dy, const T* x, Activation activation, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  const auto value = load_pack<kPack>(x + i);
  auto gradient = load_pack<kPack>(dy + i);
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const float v = value.x[j];
    if (activation == Activation::relu) {
      if (!(v > 0.0f)) gradient.x[j] = 0.0f;
    } else {
      const Gate gate(v, activation);
      const float s = logistic(gate.t);
      gradient.x[j] *= s * (1.0f + v * gate.slope * (1.0f - s));
    }
  }
  store_pack(dx + i, gradient);
}

}  // namespace

void CudaBackend::do_activation_forward(Tensor y, Tensor x, Activation activation) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(y.elements(), {y.data, x.data}, [&](auto pack) {
      launch(forward_kernel<T, pack()>, grid_of(blocks_for(y.elements(), kThreads * pack())),
             kThreads, 0, stream_, y.as<T>(), x.as<T>(), activation, y.elements());
    });
  });
}

void CudaBackend::do_activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  dispatch(dy.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(dy.elements(), {dx.data, dy.data, x.data}, [&](auto pack) {
      launch(backward_kernel<T, pack()>, grid_of(blocks_for(dy.elements(), kThreads * pack())),
             kThreads, 0, stream_, dx.as<T>(), dy.as<T>(), x.as<T>(), activation, dy.elements());
    });
  });
}

}  // namespace strait
