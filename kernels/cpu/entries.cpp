// The largest entries of a row, entries and columns by index, and the inverse of a Cholesky factor. Row-local, but for column_sum_squares:
// rows in ascending order, columns split between threads. inverse_cholesky: one thread, in f64.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/cpu/codec.h"
#include "kernels/quantization.h"

namespace strait::cpu {
namespace {

// The k-th largest of `keys`, which are reordered.
uint32_t kth_largest(std::vector<uint32_t>& keys, int64_t k) {
  const auto at = keys.begin() + (k - 1);
  std::nth_element(keys.begin(), at, keys.end(), std::greater<>());
  return *at;
}

// Rows in chunks fixed by the shape; body(first, last, thread).
template <class Body>
void for_row_chunks(int threads, int64_t N, int64_t C, const Body& body) {
  const int64_t rows = rows_per_chunk(C);
  parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, rows, N);
    body(range.begin, range.end);
  });
}

void check_columns(const Tensor& indices, int64_t columns) {
  by_index(indices.dtype, [&](auto index) {
    const auto* first = indices.as<const decltype(index)>();
    const int64_t count = indices.elements();
    int64_t largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max<int64_t>(largest, first[i]);
    STRAIT_CHECK(largest < columns, "an index of a column that is not there");
  });
}

// body(value type, x type, index type).
template <class Body>
void by_types(const Tensor& values, const Tensor& x, const Tensor& indices, const Body& body) {
  by_storage(values.dtype, [&](auto value) {
    by_storage(x.dtype, [&](auto element) {
      by_index(indices.dtype, [&](auto index) { body(value, element, index); });
    });
  });
}

}  // namespace

void topk_rows(Tensor values, Tensor indices, Tensor x, int threads) {
  const int64_t N = x.size(0), C = x.size(1), k = indices.size(1);
  by_types(values, x, indices, [&](auto value, auto element, auto index) {
    using V = decltype(value);
    using I = decltype(index);
    for_row_chunks(threads, N, C, [&](int64_t first, int64_t last) {
      std::vector<uint32_t> keys(static_cast<size_t>(C)), order;
      for (int64_t n = first; n < last; ++n) {
        const auto* row = x.as<const decltype(element)>() + n * C;
        for (int64_t c = 0; c < C; ++c)
          keys[static_cast<size_t>(c)] = magnitude_bits(static_cast<float>(row[c]));
        order = keys;
        const uint32_t threshold = kth_largest(order, k);
        int64_t ties = k - std::count_if(order.begin(), order.begin() + k,
                                         [&](uint32_t key) { return key > threshold; });
        V* v = values.as<V>() + n * k;
        I* j = indices.as<I>() + n * k;
        for (int64_t c = 0; c < C; ++c) {
          const uint32_t key = keys[static_cast<size_t>(c)];
          if (key < threshold || (key == threshold && ties-- <= 0)) continue;
          *v++ = V(static_cast<float>(row[c]));
          *j++ = static_cast<I>(c);
        }
      }
    });
  });
}

void gather_entries(Tensor values, Tensor x, Tensor indices, int threads) {
  const int64_t N = x.size(0), C = x.size(1), k = values.size(1),
                stride = indices.size(0) == 1 ? 0 : k;
  check_columns(indices, C);
  by_types(values, x, indices, [&](auto value, auto element, auto index) {
    using V = decltype(value);
    for_row_chunks(threads, N, C, [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        V* v = values.as<V>() + n * k;
        const auto* row = x.as<const decltype(element)>() + n * C;
        const auto* j = indices.as<const decltype(index)>() + n * stride;
        for (int64_t i = 0; i < k; ++i) v[i] = V(static_cast<float>(row[j[i]]));
      }
    });
  });
}

void scatter_entries(Tensor x, Tensor values, Tensor indices, int threads) {
  const int64_t N = x.size(0), C = x.size(1), k = values.size(1),
                stride = indices.size(0) == 1 ? 0 : k;
  check_columns(indices, C);
  by_types(values, x, indices, [&](auto value, auto element, auto index) {
    using T = decltype(element);
    for_row_chunks(threads, N, C, [&](int64_t first, int64_t last) {
      for (int64_t n = first; n < last; ++n) {
        T* row = x.as<T>() + n * C;
        std::fill_n(row, C, T(0.0f));
        const auto* v = values.as<const decltype(value)>() + n * k;
        const auto* j = indices.as<const decltype(index)>() + n * stride;
        for (int64_t i = 0; i < k; ++i) row[j[i]] = T(static_cast<float>(v[i]));
      }
    });
  });
}

void column_sum_squares(Tensor sums, Tensor x, int threads) {
  const int64_t N = x.size(0), C = x.size(1),
                columns = 64;  // an element's sum is the same however the columns are split
  by_storage(x.dtype, [&](auto element) {
    parallel_for(threads, chunks_of(C, columns), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, columns, C);
      float* out = sums.as<float>() + range.begin;
      const int64_t count = range.end - range.begin;
      std::fill_n(out, count, 0.0f);
      for (int64_t n = 0; n < N; ++n) {
        const auto* row = x.as<const decltype(element)>() + n * C + range.begin;
        for (int64_t c = 0; c < count; ++c) {
          const auto v = static_cast<float>(row[c]);
          out[c] += v * v;
        }
      }
    });
  });
}

void pack_columns(Tensor bits, Tensor columns) {
  check_columns(columns, 8 * bits.size(0));
  auto* bytes = bits.as<uint8_t>();
  std::fill_n(bytes, bits.size(0), uint8_t{0});
  by_index(columns.dtype, [&](auto index) {
    const auto* c = columns.as<const decltype(index)>();
    for (int64_t i = 0; i < columns.size(1); ++i)
      bytes[c[i] / 8] = static_cast<uint8_t>(bytes[c[i] / 8] | 1u << c[i] % 8);
  });
}

void unpack_columns(Tensor columns, Tensor bits) {
  const auto* bytes = bits.as<const uint8_t>();
  by_index(columns.dtype, [&](auto index) {
    auto* out = columns.as<decltype(index)>();
    int64_t found = 0;
    for (int64_t c = 0; c < 8 * bits.size(0) && found < columns.size(1); ++c)
      if (bytes[c / 8] >> c % 8 & 1) out[found++] = static_cast<decltype(index)>(c);
    std::fill(out + found, out + columns.size(1), decltype(index){0});
  });
}

void inverse_cholesky(Tensor inverse, Tensor gram) {
  const int64_t r = gram.size(0);
  const auto rows = static_cast<size_t>(r);
  std::vector<std::vector<double>> R(rows), W(rows, std::vector<double>(rows, 0.0));
  for (size_t j = 0; j < rows; ++j)
    R[j].assign(gram.as<const float>() + j * rows, gram.as<const float>() + (j + 1) * rows);
  for (size_t j = 0; j < rows; ++j) {
    const double pivot = R[j][j], whole = static_cast<double>(gram.as<const float>()[j * rows + j]);
    const double root = pivot > 1e-6 * whole ? std::sqrt(pivot) : 0.0,
                 factor = root > 0 ? 1 / root : 0.0;
    for (size_t l = j; l < rows; ++l) R[j][l] *= factor;
    R[j][j] = root;
    for (size_t i = j + 1; i < rows; ++i)
      for (size_t l = i; l < rows; ++l) R[i][l] -= R[j][i] * R[j][l];
  }
  for (size_t j = rows; j-- > 0;) {  // row j of W from those below: R_jj W_j = e_j - sum_k R_jk W_k
    if (R[j][j] == 0) continue;
    for (size_t k = j + 1; k < rows; ++k)
      for (size_t i = k; i < rows; ++i) W[j][i] -= R[j][k] * W[k][i];
    W[j][j] = 1;
    for (size_t i = j; i < rows; ++i) W[j][i] /= R[j][j];
  }
  for (size_t j = 0; j < rows; ++j)
    for (size_t i = 0; i < rows; ++i)
      inverse.as<float>()[j * rows + i] = static_cast<float>(W[j][i]);
}

}  // namespace strait::cpu
