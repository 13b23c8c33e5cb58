// Rows of a table by their ids. add_gathered is row-local; scatter_add walks the rows of dy in
// ascending order and splits the columns, not the rows, between threads, so that no two threads
// meet and every sum keeps its order.
#pragma once

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

template <class V>
void scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids, int threads) {
  check_ids(Op::scatter_add_rows, "ids", ids, 0, dtable.size(0));
  by_type(dy.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t N = dy.size(0), C = dy.size(1),
                  columns = threads == 1 ? C : 64;  // an element's sum is the same either way
    parallel_for(threads, chunks_of(C, columns), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, columns, C);
      for (int64_t n = 0; n < N; ++n) {
        float* sum = dtable.as<float>() + ids.as<const int32_t>()[n] * C + range.begin;
        const T* d = dy.as<const T>() + n * C + range.begin;
        for_groups(range.end - range.begin, [&](int64_t c, auto lanes) {
          store(sum + c, load<V>(sum + c, lanes) + load<V>(d + c, lanes), lanes);
        });
      }
    });
  });
}

template <class V>
void add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha, int threads) {
  check_ids(Op::add_gathered_rows, "ids", ids, 0, table.size(0));
  const int64_t N = x.size(0), C = x.size(1), rows = rows_per_chunk(C);
  const V factor = V::set1(static_cast<float>(alpha));
  by_type(y.dtype, [&](auto y_element) {
    by_type(x.dtype, [&](auto x_element) {
      by_type(table.dtype, [&](auto table_element) {
        parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
          const Range range = chunk_range(chunk, rows, N);
          for (int64_t n = range.begin; n < range.end; ++n) {
            auto* out = y.as<decltype(y_element)>() + n * y.stride(0);
            const auto* in = x.as<const decltype(x_element)>() + n * x.stride(0);
            const auto* row =
                table.as<const decltype(table_element)>() + ids.as<const int32_t>()[n] * C;
            for_groups(C, [&](int64_t c, auto lanes) {
              store(out + c, fma(factor, load<V>(row + c, lanes), load<V>(in + c, lanes)), lanes);
            });
          }
        });
      });
    });
  });
}

}  // namespace strait::cpu
