// y = op(a) op(b) [+ y] on oneDNN's matmul with a plain `a` on one thread, whose rows are independent of each other bit for bit
// (kernels/cpu/onednn_matmul.cpp). A transposed `a` is copied into place first, rows are split between threads, and where
// oneDNN has no bf16 the operands are widened to f32, which is exact. So neither threads nor row splits change a bit.
#pragma once

#include <algorithm>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/onednn_matmul.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/transpose.h"

namespace strait::cpu {

// A dense copy of a matrix, transposed or not, in another float type or the same.
template <class V, class From, class To>
void copy_matrix(To* out, const Tensor& in, bool transposed) {
  const int64_t rows = in.size(0), columns = in.size(1), stride = in.stride(0);
  if (transposed) return transpose<V>(out, rows, in.as<const From>(), stride, rows, columns);
  for (int64_t i = 0; i < rows; ++i)
    for_groups(columns, [&](int64_t j, auto lanes) { store(out + i * columns + j, load<V>(in.as<const From>() + i * stride + j, lanes), lanes); });
}

template <class V>
class Matmul {
 public:
  Matmul(int threads, bool native_bf16)
      : threads_(threads), onednn_(threads), native_bf16_(native_bf16 && onednn_.has_bf16()), scratch_(threads), shared_(1) {}

  void multiply(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b, bool accumulate) {
    const bool widen = a.dtype == DType::bf16 && !native_bf16_;
    const int64_t M = y.size(0), N = y.size(1), K = a.size(transpose_a ? 0 : 1);
    // Pieces of whole groups of sixteen rows, one a thread; products of less than a million FLOPs are not worth a fork.
    const int64_t pieces = 2 * M * N * K < 1'000'000 ? 1 : threads_;
    const int64_t rows = std::min(M, chunks_of(chunks_of(M, pieces), 16) * 16);
    if (widen) {
      shared_.reserve(b.bytes() * 2);
      copy_matrix<V, bfloat16>(shared_.of_thread<float>(0), b, false);
      b = Tensor(shared_.of_thread<float>(0), DType::f32, b.shape);
    }
    const size_t copy_bytes = transpose_a || widen ? static_cast<size_t>(rows * K) * (widen ? 4 : size_of(a.dtype)) : 0;
    const size_t y_bytes = widen && y.dtype == DType::bf16 ? static_cast<size_t>(rows * N) * 4 : 0;
    scratch_.reserve(copy_bytes + y_bytes + 64);

    const int64_t chunks = chunks_of(M, rows);
    const auto product_of = [&](int64_t chunk, int thread) {
      const Range range = chunk_range(chunk, rows, M);
      const int64_t m = range.end - range.begin;
      OneDnnMatmul::Product p{y.slice(0, range.begin, m), a.slice(transpose_a ? 1 : 0, range.begin, m), b, transpose_b, accumulate};
      auto* memory = scratch_.template of_thread<std::byte>(thread);
      if (copy_bytes > 0) p.a = Tensor(memory, b.dtype, {m, K});
      if (y_bytes > 0) p.y = Tensor(memory + copy_bytes, DType::f32, {m, N});
      if (y_bytes > 0) p.accumulate = false;
      return p;
    };
    for (int64_t chunk : {int64_t{0}, chunks - 1}) onednn_.prepare(product_of(chunk, 0));
    parallel_for(threads_, chunks, [&](int64_t chunk, int thread) {
      const OneDnnMatmul::Product p = product_of(chunk, thread);
      const Range range = chunk_range(chunk, rows, M);
      const int64_t m = range.end - range.begin;
      if (copy_bytes > 0) copy_a(p.a, a.slice(transpose_a ? 1 : 0, range.begin, m), transpose_a);
      onednn_.run(p, thread);
      if (y_bytes > 0) round_to_bf16(y.slice(0, range.begin, m), p.y, accumulate);
    });
  }

 private:
  static void copy_a(Tensor out, Tensor a, bool transposed) {
    if (a.dtype == DType::f32)
      copy_matrix<V, float>(out.as<float>(), a, transposed);
    else if (out.dtype == DType::bf16)
      copy_matrix<V, bfloat16>(out.as<bfloat16>(), a, transposed);
    else
      copy_matrix<V, bfloat16>(out.as<float>(), a, transposed);
  }

  static void round_to_bf16(Tensor y, Tensor product, bool accumulate) {
    for (int64_t m = 0; m < y.size(0); ++m) {
      bfloat16* out = y.as<bfloat16>() + m * y.stride(0);
      const float* in = product.as<const float>() + m * product.stride(0);
      for_groups(y.size(1), [&](int64_t n, auto lanes) {
        V v = load<V>(in + n, lanes);
        if (accumulate) v = v + load<V>(out + n, lanes);
        store(out + n, v, lanes);
      });
    }
  }

  int threads_;
  OneDnnMatmul onednn_;
  bool native_bf16_;
  Scratch scratch_;  // copies of pieces of a and y, per thread
  Scratch shared_;   // the widened b
};

}  // namespace strait::cpu
