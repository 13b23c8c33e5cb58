// y = op(a) op(b) [+ y]. Where oneDNN has a kernel whose rows are independent of each other bit for
// bit (dense operands, plain a, one thread; kernels/cpu/onednn_matmul.cpp), it is used: a
// transposed or strided operand is copied into place first, and the rows are split between threads.
// Elsewhere the product of own_matmul.h. Either way neither threads nor row splits change a bit.
#pragma once

#include <algorithm>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/onednn_matmul.h"
#include "kernels/cpu/own_matmul.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/transpose.h"

namespace strait::cpu {

// out = in or its transpose, both of one dtype; rows may be strided.
template <class V>
void copy_matrix(const Tensor& out, const Tensor& in, bool transposed) {
  by_type(in.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t rows = in.size(0), columns = in.size(1);
    if (transposed)
      return transpose<V>(out.as<T>(), out.stride(0), in.as<const T>(), in.stride(0), rows,
                          columns);
    for (int64_t i = 0; i < rows; ++i)
      for_groups(columns, [&](int64_t j, auto lanes) {
        store(out.as<T>() + i * out.stride(0) + j,
              load<V>(in.as<const T>() + i * in.stride(0) + j, lanes), lanes);
      });
  });
}

template <class V>
class Matmul {
 public:
  Matmul(int threads, bool use_onednn)
      : threads_(threads),
        use_onednn_(use_onednn),
        onednn_(threads),
        own_(threads),
        copies_(threads),
        shared_(1) {}

  void multiply(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b, bool accumulate) {
    const int64_t M = y.size(0), N = y.size(1), K = a.size(transpose_a ? 0 : 1);
    // Pieces of whole groups of sixteen rows, one a thread; products of less than a million FLOPs
    // are not worth a fork.
    const int64_t pieces = 2 * M * N * K < 1'000'000 ? 1 : threads_;
    const int64_t rows = std::min(M, chunks_of(chunks_of(M, pieces), 16) * 16),
                  chunks = chunks_of(M, rows);
    const OneDnnMatmul::Shape shape{M, N, K, a.dtype, y.dtype, transpose_b, accumulate};
    if (!use_onednn_ || !onednn_.prepare(shape.with_rows(rows)) ||
        !onednn_.prepare(shape.with_rows(M - (chunks - 1) * rows)))
      return own_.multiply(y, a, transpose_a, b, transpose_b, accumulate);

    const bool copy_a = transpose_a || !a.contiguous(), copy_y = !y.contiguous();
    if (!b.contiguous()) b = dense(b);
    const size_t a_bytes =
        copy_a ? static_cast<size_t>(rows * K) * size_of(a.dtype) / 64 * 64 + 64 : 0;
    copies_.reserve(a_bytes + (copy_y ? static_cast<size_t>(rows * N) * size_of(y.dtype) : 0) + 64);
    parallel_for(threads_, chunks, [&](int64_t chunk, int thread) {
      const Range range = chunk_range(chunk, rows, M);
      const int64_t m = range.end - range.begin;
      const Tensor y_rows = y.slice(0, range.begin, m),
                   a_rows = a.slice(transpose_a ? 1 : 0, range.begin, m);
      auto* memory = copies_.template of_thread<std::byte>(thread);
      const Tensor left = copy_a ? Tensor(memory, a.dtype, {m, K}) : a_rows,
                   out = copy_y ? Tensor(memory + a_bytes, y.dtype, {m, N}) : y_rows;
      if (copy_a) copy_matrix<V>(left, a_rows, transpose_a);
      if (copy_y && accumulate) copy_matrix<V>(out, y_rows, false);
      onednn_.run(shape.with_rows(m), out.data, left.data, b.data, thread);
      if (copy_y) copy_matrix<V>(y_rows, out, false);
    });
  }

 private:
  Tensor dense(const Tensor& b) {
    shared_.reserve(b.bytes());
    const Tensor copy(shared_.of_thread<std::byte>(0), b.dtype, b.shape);
    copy_matrix<V>(copy, b, false);
    return copy;
  }

  int threads_;
  bool use_onednn_;
  OneDnnMatmul onednn_;
  OwnMatmul<V> own_;
  Scratch copies_;  // of pieces of a and y, per thread
  Scratch shared_;  // of b
};

}  // namespace strait::cpu
