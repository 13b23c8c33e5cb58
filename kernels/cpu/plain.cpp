// Copies, statistics and random numbers (kernels/cpu/plain.h). Row-local and element-local.
#include "kernels/cpu/plain.h"

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

int64_t row_offset(const Tensor& t, int64_t row) {
  int64_t offset = 0;
  for (int d = t.shape.rank - 2; d >= 0; --d) {
    offset += row % t.size(d) * t.stride(d);
    row /= t.size(d);
  }
  return offset;
}

}  // namespace strait::cpu
