// Copies, statistics, random numbers and angles (kernels/cpu/plain.h). Row-local and element-local.
#include "kernels/cpu/plain.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace strait::cpu {

void gather_rows(Tensor y, Tensor table, Tensor ids, int threads) {
  check_ids(Op::gather_rows, "ids", ids, 0, table.size(0));
  const int64_t N = y.size(0), rows = rows_per_chunk(y.size(1));
  const size_t row_bytes = static_cast<size_t>(y.size(1)) * size_of(y.dtype);
  parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, rows, N);
    for (int64_t n = range.begin; n < range.end; ++n)
      std::memcpy(
          y.as<std::byte>() + static_cast<size_t>(n) * row_bytes,
          table.as<const std::byte>() + static_cast<size_t>(ids.as<const int32_t>()[n]) * row_bytes,
          row_bytes);
  });
}

void add_statistics(Tensor y, Tensor a, Tensor b) {
  for (int64_t i = 0; i < y.elements(); ++i) {
    const double x = a.as<const double>()[i];
    y.as<double>()[i] = b.defined() ? x + b.as<const double>()[i] : x;
  }
}

void clip_factor(Tensor factor, Tensor sum_squares, double max_norm) {
  const double norm = std::sqrt(*sum_squares.as<const double>());
  *factor.as<float>() = static_cast<float>(norm > max_norm ? max_norm / norm : 1.0);
}

void random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev, int threads) {
  parallel_for(threads, chunks_of(y.elements(), kChunkElements), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, kChunkElements, y.elements());
    for (int64_t i = range.begin; i < range.end; ++i) {
      const auto value =
          static_cast<float>(stddev * normal_at(rng, stream, static_cast<uint64_t>(i)));
      if (y.dtype == DType::bf16)
        y.as<bfloat16>()[i] = bfloat16(value);
      else
        y.as<float>()[i] = value;
    }
  });
}

namespace {

// Element i of a contiguous f32 or bf16 tensor, as a float, and back.
float load_float(const Tensor& t, int64_t i) {
  return t.dtype == DType::bf16 ? static_cast<float>(t.as<const bfloat16>()[i])
                                : t.as<const float>()[i];
}
void store_float(const Tensor& t, int64_t i, float x) {
  if (t.dtype == DType::bf16)
    t.as<bfloat16>()[i] = bfloat16(x);
  else
    t.as<float>()[i] = x;
}

}  // namespace

void bound_forward(Tensor y, Tensor x, Bound bound, double limit) {
  const auto c = static_cast<float>(limit);
  for (int64_t i = 0; i < y.elements(); ++i) {
    const float value = load_float(x, i);
    store_float(y, i, bound == Bound::hard ? std::clamp(value, -c, c) : c * std::tanh(value / c));
  }
}

void bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit) {
  const auto c = static_cast<float>(limit);
  for (int64_t i = 0; i < dx.elements(); ++i) {
    const float value = load_float(x, i), gradient = load_float(dy, i);
    if (bound == Bound::hard) {
      store_float(dx, i, std::abs(value) < c ? gradient : 0.0f);
    } else {
      const float t = std::tanh(value / c);
      store_float(dx, i, gradient * (1.0f - t * t));
    }
  }
}

void rotation_coefficients(Tensor f, Tensor angle, RotationSeries series, bool derivative) {
  const int64_t J = f.size(1);
  for (int64_t n = 0; n < f.size(0); ++n) {
    float* row = f.as<float>() + n * J;
    const float a = angle.as<const float>()[n];
    if (series == RotationSeries::plane) {
      const float half = std::sin(0.5f * a);
      row[0] = derivative ? 0.0f : 1.0f;
      row[1] = derivative ? std::cos(a) : std::sin(a);
      row[2] = derivative ? std::sin(a) : 2.0f * half * half;
      continue;
    }
    float power = 1.0f;
    if (derivative) *row++ = 0.0f;
    for (int64_t j = derivative ? 1 : 0; j < J; ++j, power *= a)
      *row++ = derivative ? static_cast<float>(j) * power : power;
  }
}

int64_t row_offset(const Tensor& t, int64_t row) {
  int64_t offset = 0;
  for (int d = t.shape.rank - 2; d >= 0; --d) {
    offset += row % t.size(d) * t.stride(d);
    row /= t.size(d);
  }
  return offset;
}

}  // namespace strait::cpu
