// Codes and scales of groups of neighbours, and back; casts of f16. kernels/quantization.h says what one number becomes, for host and
// device alike: the same bits.
//
// Shapes: x (N,C) T, q (N,C) or, int4, (N, ceil(C/2)), scale (N, ceil(C/group)) bf16. Bytes: x twice (the second time from the cache), q and
// scale once. Determinism: a maximum of bits, then every element by itself. A warp a group, two neighbouring columns a lane, so that a lane
// writes whole bytes of int4.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/quantization.h"

namespace strait {
namespace {

constexpr int kThreads = 256;
constexpr int kGroups = kThreads / kWarp;

struct Groups {
  int64_t columns, group, groups, count;  // C, its parts, parts a row, parts in all
};

__device__ inline uint32_t warp_max_bits(uint32_t x) {
  for (int step = kWarp / 2; step > 0; step /= 2)
    x = max(x, static_cast<uint32_t>(__shfl_xor_sync(kAllLanes, x, step)));
  return x;
}

__device__ inline uint8_t rounded_code(float v, Quantization kind, const Rounding& rounding,
                                       int64_t i) {
  if (kind == Quantization::fp8) return float8_e4m3(v).bits;
  float whole = nearest_whole(v);
  if (rounding.stochastic) {
    const auto words = rounding.rng(rounding.stream, static_cast<uint64_t>(i / 4));
    whole = stochastic_whole(v, words[static_cast<size_t>(i % 4)]);
  }
  return code_bits(whole, kind);
}

template <typename T>
__global__ void quantize_kernel(uint8_t* q, int64_t q_width, bf16* scale, const T* x, Groups size,
                                Quantization kind, Rounding rounding) {
  const int64_t part = static_cast<int64_t>(blockIdx.x) * kGroups + threadIdx.x / kWarp;
  if (part >= size.count) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t n = part / size.groups, begin = part % size.groups * size.group,
                end = min(begin + size.group, size.columns);
  const T* row = x + n * size.columns;
  uint32_t largest = 0;
  for (int64_t c = begin + lane; c < end; c += kWarp)
    largest = max(largest, magnitude_bits(widen(row[c])));
  const float limit = largest_code(kind), s = scale_of(warp_max_bits(largest), limit);
  if (lane == 0) scale[part] = narrow<bf16>(s);
  uint8_t* codes = q + n * q_width;
  for (int64_t c = begin + 2 * lane; c < end; c += 2 * kWarp) {
    const bool pair = c + 1 < end;
    const auto code = [&](int64_t at) {
      return rounded_code(scaled(widen(row[at]), s, limit), kind, rounding, n * size.columns + at);
    };
    const uint8_t even = code(c), odd = pair ? code(c + 1) : uint8_t{0};
    if (kind == Quantization::int4) {
      codes[c / 2] = static_cast<uint8_t>(even | odd << 4);
    } else {
      codes[c] = even;
      if (pair) codes[c + 1] = odd;
    }
  }
}

template <typename T>
__global__ void dequantize_kernel(T* x, const uint8_t* q, int64_t q_width, const bf16* scale,
                                  Groups size, Quantization kind, int64_t n) {
  const int64_t i = global_index();
  if (i >= n) return;
  const int64_t row = i / size.columns, c = i % size.columns;
  const uint8_t* codes = q + row * q_width;
  float v = 0.0f;
  if (kind == Quantization::int8)
    v = int8_code(codes[c]);
  else if (kind == Quantization::int4)
    v = int4_code(static_cast<unsigned>(codes[c / 2]) >> (c % 2 * 4));
  else
    v = static_cast<float>(float8_e4m3::of(codes[c]));
  x[i] = narrow<T>(v * widen(scale[row * size.groups + c / size.group]));
}

Groups groups_of(const Tensor& x, const Tensor& scale, int64_t group) {
  return {x.size(1), group, scale.size(1), scale.elements()};
}

__device__ inline float widened_half(float16 x) { return static_cast<float>(x); }
template <typename T>
__device__ float widened_half(T x) {
  return widen(x);
}
__device__ inline void store_half(float16& y, float x) { y = float16(x); }
template <typename T>
__device__ void store_half(T& y, float x) {
  y = narrow<T>(x);
}

template <typename Y, typename X>
__global__ void cast_half_kernel(Y* y, RowOffsets y_rows, const X* x, RowOffsets x_rows,
                                 int64_t columns, int64_t n) {
  const int64_t i = global_index();
  if (i >= n) return;
  const int64_t row = i / columns, column = i % columns;
  store_half(y[y_rows(row) + column], widened_half(x[x_rows(row) + column]));
}

template <typename Function>
void dispatch_half(DType dtype, Function&& function) {
  if (dtype == DType::f16) return function(float16{});
  dispatch(dtype, function);
}

}  // namespace

void CudaBackend::do_quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind,
                                   int64_t group, const Rounding& rounding) {
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(quantize_kernel<T>, grid_of(blocks_for(scale.elements(), kGroups)), kThreads, 0, stream_,
           q.as<uint8_t>(), q.size(1), scale.as<bf16>(), x.as<T>(), groups_of(x, scale, group),
           kind, rounding);
  });
}

void CudaBackend::do_dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind,
                                     int64_t group) {
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(dequantize_kernel<T>, grid_of(blocks_for(x.elements(), kThreads)), kThreads, 0, stream_,
           x.as<T>(), q.as<uint8_t>(), q.size(1), scale.as<bf16>(), groups_of(x, scale, group),
           kind, x.elements());
  });
}

void CudaBackend::cast_half(Tensor y, Tensor x) {
  dispatch_half(y.dtype, [&](auto y_tag) {
    dispatch_half(x.dtype, [&](auto x_tag) {
      using Y = decltype(y_tag);
      using X = decltype(x_tag);
      launch(cast_half_kernel<Y, X>, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0,
             stream_, y.as<Y>(), RowOffsets(y), x.as<X>(), RowOffsets(x), y.size(-1), y.elements());
    });
  });
}

}  // namespace strait
