// Sums, scalings, conversions and constants, element by element: y = a + b, y += alpha x, y *=
// alpha, y = round(x), y = c.
//
// Bytes: what is read and written, once each; nothing is kept. Determinism: every element by
// itself. A thread moves 16 bytes at once where the number of elements allows it: the memory is the
// limit and no tile would save a byte. Only `cast` takes strided rows; its indices then cost it two
// 64-bit divisions an element.
#include <type_traits>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

template <typename T, int kPack>
__global__ void add_kernel(T* y, const T* a, const T* b, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  auto sum = load_pack<kPack>(a + i);
  const auto other = load_pack<kPack>(b + i);
#pragma unroll
  for (int j = 0; j < kPack; ++j) sum.x[j] += other.x[j];
  store_pack(y + i, sum);
}

template <typename Y, typename X, int kPack>
__global__ void axpy_kernel(Y* y, float alpha, const X* x, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  auto sum = load_pack<kPack>(y + i);
  const auto other = load_pack<kPack>(x + i);
#pragma unroll
  for (int j = 0; j < kPack; ++j) sum.x[j] += alpha * other.x[j];
  store_pack(y + i, sum);
}

template <typename T, int kPack>
__global__ void scale_kernel(T* y, float alpha, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i >= n) return;
  auto value = load_pack<kPack>(y + i);
#pragma unroll
  for (float& x : value.x) x *= alpha;
  store_pack(y + i, value);
}

template <typename T>
__global__ void fill_kernel(T* y, T value, int64_t n) {
  const int64_t i = global_index();
  if (i < n) y[i] = value;
}

template <typename Y, typename X>
__device__ Y converted(X x) {
  if constexpr (std::is_same_v<Y, X> || std::is_integral_v<X>) {
    return static_cast<Y>(x);  // a copy keeps every bit, those of a NaN too
  } else {
    return narrow<Y>(widen(x));
  }
}

template <typename Y, typename X>
__global__ void cast_kernel(Y* y, RowOffsets y_rows, const X* x, RowOffsets x_rows, int64_t columns,
                            int64_t n) {
  const int64_t i = global_index();
  if (i >= n) return;
  const int64_t row = i / columns, column = i % columns;
  y[y_rows(row) + column] = converted<Y>(x[x_rows(row) + column]);
}

// Contiguous floats.
template <typename Y, typename X, int kPack>
__global__ void cast_all_kernel(Y* y, const X* x, int64_t n) {
  const int64_t i = global_index() * kPack;
  if (i < n) store_pack(y + i, load_pack<kPack>(x + i));
}

dim3 grid_for(int64_t n) { return grid_of(blocks_for(n, kThreads)); }

}  // namespace

void CudaBackend::do_add(Tensor y, Tensor a, Tensor b) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(y.elements(), {y.data, a.data, b.data}, [&](auto pack) {
      launch(add_kernel<T, pack()>, grid_for(y.elements() / pack()), kThreads, 0, stream_,
             y.as<T>(), a.as<T>(), b.as<T>(), y.elements());
    });
  });
}

void CudaBackend::do_axpy(Tensor y, double alpha, Tensor x) {
  dispatch(y.dtype, [&](auto y_tag) {
    dispatch(x.dtype, [&](auto x_tag) {
      using Y = decltype(y_tag);
      using X = decltype(x_tag);
      // Packs of both have the same number of elements: the wider type's 16 bytes.
      using Wider = std::conditional_t<sizeof(Y) >= sizeof(X), Y, X>;
      dispatch_pack<Wider>(y.elements(), {y.data, x.data}, [&](auto pack) {
        launch(axpy_kernel<Y, X, pack()>, grid_for(y.elements() / pack()), kThreads, 0, stream_,
               y.as<Y>(), alpha, x.as<X>(), y.elements());
      });
    });
  });
}

void CudaBackend::do_scale(Tensor y, double alpha) {
  dispatch(y.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_pack<T>(y.elements(), {y.data}, [&](auto pack) {
      launch(scale_kernel<T, pack()>, grid_for(y.elements() / pack()), kThreads, 0, stream_,
             y.as<T>(), alpha, y.elements());
    });
  });
}

void CudaBackend::do_cast(Tensor y, Tensor x) {
  if (x.dtype == DType::f16 || y.dtype == DType::f16) return cast_half(y, x);
  const auto cast = [&](auto y_tag, auto x_tag) {
    using Y = decltype(y_tag);
    using X = decltype(x_tag);
    if constexpr (!std::is_same_v<Y, X> && !std::is_integral_v<X>) {
      if (y.contiguous() && x.contiguous()) {
        dispatch_pack<float>(y.elements(), {y.data, x.data}, [&](auto pack) {
          launch(cast_all_kernel<Y, X, pack()>, grid_for(y.elements() / pack()), kThreads, 0,
                 stream_, y.as<Y>(), x.as<X>(), y.elements());
        });
        return;
      }
    }
    launch(cast_kernel<Y, X>, grid_for(y.elements()), kThreads, 0, stream_, y.as<Y>(),
           RowOffsets(y), x.as<X>(), RowOffsets(x), y.size(-1), y.elements());
  };
  if (is_float(x.dtype)) {
    dispatch(y.dtype,
             [&](auto y_tag) { dispatch(x.dtype, [&](auto x_tag) { cast(y_tag, x_tag); }); });
    return;
  }
  const auto with_ids = [](DType dtype, auto&& function) {
    return dtype == DType::u16 ? function(uint16_t{}) : function(int32_t{});
  };
  with_ids(y.dtype,
           [&](auto y_tag) { with_ids(x.dtype, [&](auto x_tag) { cast(y_tag, x_tag); }); });
}

void CudaBackend::do_fill(Tensor y, double value) {
  const auto fill = [&](auto element) {
    using T = decltype(element);
    launch(fill_kernel<T>, grid_for(y.elements()), kThreads, 0, stream_, y.as<T>(), element,
           y.elements());
  };
  switch (y.dtype) {
    case DType::i32:
      return fill(static_cast<int32_t>(value));
    case DType::f32:
      return fill(static_cast<float>(value));
    case DType::bf16:
      return fill(__float2bfloat16_rn(static_cast<float>(value)));
    default:
      unsupported(y.dtype);
  }
}

}  // namespace strait
