// What matrix optimizers make a step of, element by element:
//   g = grad * grad_scale; m = beta m + (1-beta) g; update = round_T(nesterov ? beta m + (1-beta) g : m)
//   y = alpha x + beta z;   y = x / (factor sqrt(sum_squares) + eps)
//
// Shapes: any, all operands of one op alike; grad_scale (1) f32 and sum_squares (1) f64 on the
// device, so that the host waits for neither. Bytes: what is read and written, once each.
// Determinism: every element by itself. Every thread computes the divisor again: a few operations
// in fp64 beside 32 bytes of memory, and the bits that the host would compute.
#include <type_traits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

template <typename T, int kPack>
__global__ void momentum_kernel(T* update, float* m, const float* grad, const float* grad_scale,
                                float beta, float one_minus_beta, bool nesterov, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  const float scale = grad_scale[0];
  auto step = load_pack<kPack>(grad + i), mean = load_pack<kPack>(m + i);
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const float fresh = one_minus_beta * (step.x[j] * scale);
    mean.x[j] = beta * mean.x[j] + fresh;
    step.x[j] = nesterov ? beta * mean.x[j] + fresh : mean.x[j];
  }
  store_pack(m + i, mean);
  store_pack(update + i, step);
}

template <typename T, typename Z, int kPack>
__global__ void combine_kernel(T* y, float alpha, const T* x, float beta, const Z* z, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  auto value = load_pack<kPack>(x + i);
#pragma unroll
  for (float& v : value.x) v *= alpha;
  if (z != nullptr) {
    const auto other = load_pack<kPack>(z + i);
#pragma unroll
    for (int j = 0; j < kPack; ++j) value.x[j] += beta * other.x[j];
  }
  store_pack(y + i, value);
}

template <typename T, int kPack>
__global__ void normalise_kernel(T* y, const T* x, const double* sum_squares, double factor,
                                 double eps, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  const auto divisor = static_cast<float>(factor * sqrt(*sum_squares) + eps);
  auto value = load_pack<kPack>(x + i);
#pragma unroll
  for (float& v : value.x) v = divisor == 0.0f ? 0.0f : v / divisor;
  store_pack(y + i, value);
}

}  // namespace

void CudaBackend::do_momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta,
                              bool nesterov) {
  dispatch(update.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<float>(m.elements(), {update.data, m.data, grad.data}, [&](auto pack) {
      launch(momentum_kernel<T, pack()>, grid_of(blocks_for(m.elements(), kThreads * pack())),
             kThreads, 0, stream_, update.as<T>(), m.as<float>(), grad.as<float>(),
             grad_scale.as<float>(), static_cast<float>(beta), static_cast<float>(1.0 - beta),
             nesterov, m.elements());
    });
  });
}

void CudaBackend::do_combine(Tensor y, double alpha, Tensor x, double beta, Tensor z) {
  dispatch(y.dtype, [&](auto tag) {
    dispatch(z.defined() ? z.dtype : y.dtype, [&](auto z_tag) {
      using T = decltype(tag);
      using Z = decltype(z_tag);
      // Packs of both have the same number of elements: the wider type's 16 bytes.
      using Wider = std::conditional_t<sizeof(T) >= sizeof(Z), T, Z>;
      dispatch_pack<Wider>(y.elements(), {y.data, x.data, z.data}, [&](auto pack) {
        launch(combine_kernel<T, Z, pack()>, grid_of(blocks_for(y.elements(), kThreads * pack())),
               kThreads, 0, stream_, y.as<T>(), alpha, x.as<T>(), beta, z.as<Z>(), y.elements());
      });
    });
  });
}

void CudaBackend::do_normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(y.elements(), {y.data, x.data}, [&](auto pack) {
      launch(normalise_kernel<T, pack()>, grid_of(blocks_for(y.elements(), kThreads * pack())),
             kThreads, 0, stream_, y.as<T>(), x.as<T>(), sum_squares.as<double>(), factor, eps,
             y.elements());
    });
  });
}

}  // namespace strait
