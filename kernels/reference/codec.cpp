// The ops of codecs: codes and scales, the largest entries of a row, chosen columns, the inverse of a Cholesky factor.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/quantization.h"
#include "kernels/reference/reference.h"

namespace strait {
namespace {

float as_float(const Tensor& x, int64_t n, int64_t c) { return static_cast<float>(get(x, n, c)); }

void set_code(const Tensor& q, Quantization kind, int64_t n, int64_t c, uint8_t code) {
  if (kind != Quantization::int4) return set(q, code, n, c);
  const auto before = c % 2 == 0 ? 0u : static_cast<unsigned>(get_id(q, n, c / 2));
  set(q, before | static_cast<unsigned>(code) << (c % 2 * 4), n, c / 2);
}

float code_at(const Tensor& q, Quantization kind, int64_t n, int64_t c) {
  if (kind == Quantization::fp8) return static_cast<float>(get(q, n, c));
  if (kind == Quantization::int8) return int8_code(static_cast<uint8_t>(get_id(q, n, c)));
  return int4_code(static_cast<unsigned>(get_id(q, n, c / 2)) >> (c % 2 * 4));
}

int64_t index_at(const Tensor& indices, int64_t n, int64_t i, int64_t columns) {
  const int64_t index = get_id(indices, indices.size(0) == 1 ? 0 : n, i);
  STRAIT_CHECK(index < columns, "an index of a column that is not there");
  return index;
}

}  // namespace

void ReferenceBackend::do_quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind,
                                        int64_t group, const Rounding& rounding) {
  const int64_t N = x.size(0), C = x.size(1);
  const float limit = largest_code(kind);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t g = 0; g < scale.size(1); ++g) {
      const int64_t begin = g * group, end = std::min(C, begin + group);
      uint32_t largest = 0;
      for (int64_t c = begin; c < end; ++c)
        largest = std::max(largest, magnitude_bits(as_float(x, n, c)));
      const float s = scale_of(largest, limit);
      set(scale, static_cast<double>(s), n, g);
      for (int64_t c = begin; c < end; ++c) {
        const float v = scaled(as_float(x, n, c), s, limit);
        if (kind == Quantization::fp8) {
          set(q, static_cast<double>(v), n, c);
          continue;
        }
        const auto i = static_cast<uint64_t>(n * C + c);
        set_code(q, kind, n, c,
                 code_bits(rounding.stochastic
                               ? stochastic_whole(v, rounding.rng(rounding.stream, i / 4)[i % 4])
                               : nearest_whole(v),
                           kind));
      }
    }
}

void ReferenceBackend::do_dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind,
                                          int64_t group) {
  for (int64_t n = 0; n < x.size(0); ++n)
    for (int64_t c = 0; c < x.size(1); ++c)
      set(x, static_cast<double>(code_at(q, kind, n, c) * as_float(scale, n, c / group)), n, c);
}

void ReferenceBackend::do_topk_rows(Tensor values, Tensor indices, Tensor x) {
  std::vector<int64_t> order(static_cast<size_t>(x.size(1)));
  for (int64_t n = 0; n < x.size(0); ++n) {
    const auto magnitude = [&](int64_t c) {
      const double v = std::abs(get(x, n, c));
      return std::pair(std::isnan(v), std::isnan(v) ? 0.0 : v);
    };
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return magnitude(a) > magnitude(b); });
    std::sort(order.begin(), order.begin() + indices.size(1));
    for (int64_t i = 0; i < indices.size(1); ++i) {
      const int64_t c = order[static_cast<size_t>(i)];
      set(indices, static_cast<double>(c), n, i);
      set(values, get(x, n, c), n, i);
    }
  }
}

void ReferenceBackend::do_gather_entries(Tensor values, Tensor x, Tensor indices) {
  for (int64_t n = 0; n < x.size(0); ++n)
    for (int64_t i = 0; i < values.size(1); ++i)
      set(values, get(x, n, index_at(indices, n, i, x.size(1))), n, i);
}

void ReferenceBackend::do_scatter_entries(Tensor x, Tensor values, Tensor indices) {
  do_fill(x, 0.0);
  for (int64_t n = 0; n < x.size(0); ++n)
    for (int64_t i = 0; i < values.size(1); ++i)
      set(x, get(values, n, i), n, index_at(indices, n, i, x.size(1)));
}

void ReferenceBackend::do_column_sum_squares(Tensor sums, Tensor x) {
  for (int64_t c = 0; c < x.size(1); ++c) {
    double sum = 0;
    for (int64_t n = 0; n < x.size(0); ++n) sum += get(x, n, c) * get(x, n, c);
    set(sums, sum, c);
  }
}

void ReferenceBackend::do_pack_columns(Tensor bits, Tensor columns) {
  for (int64_t b = 0; b < bits.size(0); ++b) set(bits, 0.0, b);
  for (int64_t i = 0; i < columns.size(1); ++i) {
    const int64_t c = index_at(columns, 0, i, 8 * bits.size(0));
    set(bits, static_cast<double>(get_id(bits, c / 8) | int64_t{1} << c % 8), c / 8);
  }
}

void ReferenceBackend::do_unpack_columns(Tensor columns, Tensor bits) {
  int64_t found = 0;
  for (int64_t c = 0; c < 8 * bits.size(0) && found < columns.size(1); ++c)
    if (get_id(bits, c / 8) >> c % 8 & 1) set(columns, static_cast<double>(c), 0, found++);
  while (found < columns.size(1)) set(columns, 0.0, 0, found++);
}

void ReferenceBackend::do_inverse_cholesky(Tensor inverse, Tensor gram) {
  const int64_t r = gram.size(0);
  const double least = gram.dtype == DType::f64 ? 1e-13 : 1e-6;
  std::vector<double> memory(static_cast<size_t>(2 * r * r));
  const Tensor R(memory.data(), DType::f64, {r, r}), W(memory.data() + r * r, DType::f64, {r, r});
  for (int64_t j = 0; j < r; ++j)
    for (int64_t i = j; i < r; ++i) {
      double rest = get(gram, j, i);
      for (int64_t k = 0; k < j; ++k) rest -= get(R, k, j) * get(R, k, i);
      if (i == j)
        set(R, rest > least * get(gram, j, j) ? std::sqrt(rest) : 0.0, j, j);
      else
        set(R, get(R, j, j) > 0 ? rest / get(R, j, j) : 0.0, j, i);
    }
  for (int64_t i = 0; i < r; ++i) {
    if (get(R, i, i) > 0) set(W, 1 / get(R, i, i), i, i);
    for (int64_t j = i - 1; j >= 0; --j) {
      double sum = 0;
      for (int64_t k = j + 1; k <= i; ++k) sum += get(R, j, k) * get(W, k, i);
      set(W, get(R, i, i) > 0 && get(R, j, j) > 0 ? -sum / get(R, j, j) : 0.0, j, i);
    }
  }
  for (int64_t i = 0; i < r; ++i)
    for (int64_t j = 0; j < r; ++j) set(inverse, get(W, i, j), i, j);
}

}  // namespace strait
