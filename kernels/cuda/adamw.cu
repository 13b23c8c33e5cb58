// Decoupled AdamW (Loshchilov & Hutter 2019) over flat buffers, one launch for all parameters:
//   g = grad * grad_scale; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
//   p = p - lr (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + wd p);  compute = round_T(p)
//
// Shapes: master, m, v, grad (n) f32; compute (n) T, may be master itself; grad_scale (1) f32 on
// the device. Bytes per parameter: 28 + the size of T (master, m, v read and written, grad read,
// the copy written). Determinism: every parameter by itself. Four parameters a thread: five
// independent streams of 16 bytes.
//
// With one second moment a row (adamw_rows: master, m, grad (R,C), v (R)) a block works on a row,
// which it reads twice, the second time from the cache; its sum of squares is a fixed tree.
#include <cmath>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

struct Rule {
  float lr, beta1, one_minus_beta1, beta2, one_minus_beta2, correction1, correction2, eps,
      weight_decay;
};

template <typename T, int kPack>
__global__ void adamw_kernel(float* master, T* compute, float* m, float* v, const float* grad,
                             const float* grad_scale, Rule rule, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  const float scale = grad_scale[0];
  const auto gradient = load_pack<kPack>(grad + i);
  auto first = load_pack<kPack>(m + i), second = load_pack<kPack>(v + i),
       parameter = load_pack<kPack>(master + i);
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const float g = gradient.x[j] * scale;
    first.x[j] = rule.beta1 * first.x[j] + rule.one_minus_beta1 * g;
    second.x[j] = rule.beta2 * second.x[j] + rule.one_minus_beta2 * g * g;
    const float step =
        first.x[j] / rule.correction1 / (sqrtf(second.x[j] / rule.correction2) + rule.eps);
    parameter.x[j] -= rule.lr * (step + rule.weight_decay * parameter.x[j]);
  }
  store_pack(m + i, first);
  store_pack(v + i, second);
  store_pack(master + i, parameter);
  store_pack(compute + i, parameter);
}

template <typename T, int kPack>
__global__ void adamw_rows_kernel(float* master, T* compute, float* m, float* v, const float* grad,
                                  const float* grad_scale, Rule rule, int64_t width) {
  const int64_t row = blockIdx.x, begin = row * width;
  const float scale = grad_scale[0];
  float squares = 0.0f;
  for (int64_t c = threadIdx.x * kPack; c < width; c += kThreads * kPack) {
    const auto gradient = load_pack<kPack>(grad + begin + c);
#pragma unroll
    for (const float x : gradient.x) squares = fmaf(x * scale, x * scale, squares);
  }
  squares = block_sum(squares);
  const float second =
      rule.beta2 * v[row] + rule.one_minus_beta2 * (squares / static_cast<float>(width));
  const float divisor = sqrtf(second / rule.correction2) + rule.eps;
  __syncthreads();  // everyone has read the row's second moment
  if (threadIdx.x == 0) v[row] = second;
  for (int64_t c = threadIdx.x * kPack; c < width; c += kThreads * kPack) {
    const auto gradient = load_pack<kPack>(grad + begin + c);
    auto first = load_pack<kPack>(m + begin + c), parameter = load_pack<kPack>(master + begin + c);
#pragma unroll
    for (int j = 0; j < kPack; ++j) {
      first.x[j] = rule.beta1 * first.x[j] + rule.one_minus_beta1 * (gradient.x[j] * scale);
      const float step = first.x[j] / rule.correction1 / divisor;
      parameter.x[j] -= rule.lr * (step + rule.weight_decay * parameter.x[j]);
    }
    store_pack(m + begin + c, first);
    store_pack(master + begin + c, parameter);
    store_pack(compute + begin + c, parameter);
  }
}

Rule rule_of(const AdamWParameters& p) {
  const auto t = static_cast<double>(p.step);
  return {static_cast<float>(p.lr),
          static_cast<float>(p.beta1),
          static_cast<float>(1.0 - p.beta1),
          static_cast<float>(p.beta2),
          static_cast<float>(1.0 - p.beta2),
          static_cast<float>(1.0 - std::pow(p.beta1, t)),
          static_cast<float>(1.0 - std::pow(p.beta2, t)),
          static_cast<float>(p.eps),
          static_cast<float>(p.weight_decay)};
}

}  // namespace

void CudaBackend::do_adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                           Tensor grad_scale, const AdamWParameters& p) {
  const Rule rule = rule_of(p);
  dispatch(compute.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<float>(
        master.elements(), {master.data, compute.data, m.data, v.data, grad.data}, [&](auto pack) {
          launch(adamw_kernel<T, pack()>, grid_of(blocks_for(master.elements(), kThreads * pack())),
                 kThreads, 0, stream_, master.as<float>(), compute.as<T>(), m.as<float>(),
                 v.as<float>(), grad.as<float>(), grad_scale.as<float>(), rule, master.elements());
        });
  });
}

void CudaBackend::do_adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                                Tensor grad_scale, const AdamWParameters& p) {
  const Rule rule = rule_of(p);
  dispatch(compute.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<float>(
        master.size(1), {master.data, compute.data, m.data, grad.data}, [&](auto pack) {
          launch(adamw_rows_kernel<T, pack()>, grid_of(master.size(0)), kThreads, 0, stream_,
                 master.as<float>(), compute.as<T>(), m.as<float>(), v.as<float>(),
                 grad.as<float>(), grad_scale.as<float>(), rule, master.size(1));
        });
  });
}

}  // namespace strait
