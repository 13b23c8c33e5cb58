#include "kernels/cpu/vq_plain.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/lanes.h"

namespace strait::cpu {

void lay_out_codes(float* side_by_side, Tensor codebook, int64_t padded) {
  const int64_t codes = codebook.size(0), r = codebook.size(1);
  for (int64_t c = 0; c < r; ++c) {
    float* out = side_by_side + c * padded;
    for (int64_t k = 0; k < codes; ++k) out[k] = codebook.as<const float>()[k * r + c];
    std::fill(out + codes, out + padded, std::numeric_limits<float>::infinity());
  }
}

void put_rows(Tensor table, Tensor x, Tensor ids, int threads) {
  check_ids(Op::put_rows, "ids", ids, 0, table.size(0));
  const int64_t C = x.size(1), rows = rows_per_chunk(C);
  by_type(table.dtype, [&](auto table_element) {
    by_type(x.dtype, [&](auto x_element) {
      using T = decltype(table_element);
      parallel_for(threads, chunks_of(x.size(0), rows), [&](int64_t chunk, int) {
        const Range range = chunk_range(chunk, rows, x.size(0));
        for (int64_t n = range.begin; n < range.end; ++n) {
          const auto* in = x.as<const decltype(x_element)>() + n * C;
          T* out = table.as<T>() + ids.as<const int32_t>()[n] * C;
          for (int64_t c = 0; c < C; ++c) out[c] = T(static_cast<float>(in[c]));
        }
      });
    });
  });
}

void vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha, int threads) {
  const int64_t r = y.size(1), groups = index.size(1), s = r / groups, rows = rows_per_chunk(r);
  const auto factor = static_cast<float>(alpha);
  parallel_for(threads, chunks_of(y.size(0), rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, rows, y.size(0));
    for (int64_t n = range.begin; n < range.end; ++n)
      for (int64_t g = 0; g < groups; ++g) {
        const float* code =
            codebook.as<const float>() + index.as<const uint16_t>()[n * groups + g] * r + g * s;
        float* out = y.as<float>() + n * r + g * s;
        for (int64_t c = 0; c < s; ++c) out[c] += factor * code[c];
      }
  });
}

// Threads split the groups, so that every sum keeps the order of n.
void vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index, int threads) {
  const int64_t r = z.size(1), groups = index.size(1), s = r / groups, codes = sum.size(0);
  parallel_for(threads, groups, [&](int64_t g, int) {
    float* counts = count.as<float>();
    for (int64_t k = 0; k < codes; ++k) {
      counts[k * groups + g] = 0;
      std::fill_n(sum.as<float>() + k * r + g * s, s, 0.0f);
    }
    for (int64_t n = 0; n < z.size(0); ++n) {
      const int64_t k = index.as<const uint16_t>()[n * groups + g];
      counts[k * groups + g] += 1;
      const float* in = z.as<const float>() + n * r + g * s;
      float* out = sum.as<float>() + k * r + g * s;
      for (int64_t c = 0; c < s; ++c) out[c] += in[c];
    }
  });
}

void vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum, Tensor donors,
               double decay, double threshold, int threads) {
  const int64_t r = sum.size(1), groups = count.size(1), s = r / groups, rows = rows_per_chunk(r);
  const auto keep = static_cast<float>(decay), add = static_cast<float>(1 - decay),
             least = static_cast<float>(threshold);
  parallel_for(threads, chunks_of(sum.size(0), rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, rows, sum.size(0));
    for (int64_t i = range.begin * groups; i < range.end * groups; ++i) {
      const float n = keep * count.as<float>()[i] + add * batch_count.as<const float>()[i];
      const bool dead = n < least;
      count.as<float>()[i] = dead ? 1.0f : n;
      for (int64_t j = i * s; j < (i + 1) * s; ++j)
        sum.as<float>()[j] = dead
                                 ? donors.as<const float>()[j]
                                 : keep * sum.as<float>()[j] + add * batch_sum.as<const float>()[j];
    }
  });
}

void vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows, int threads) {
  check_ids(Op::vq_centroids, "rows", rows, 0, sum.size(0));
  const int64_t r = sum.size(1), groups = count.size(1), s = r / groups,
                chunk_rows = rows_per_chunk(r);
  parallel_for(threads, chunks_of(y.size(0), chunk_rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, chunk_rows, y.size(0));
    for (int64_t i = range.begin; i < range.end; ++i) {
      const int64_t k = rows.as<const int32_t>()[i];
      for (int64_t c = 0; c < r; ++c)
        y.as<float>()[i * r + c] =
            sum.as<const float>()[k * r + c] / count.as<const float>()[k * groups + c / s];
    }
  });
}

// A byte at a time: bit b of the stream is bit b % bits of value b / bits.
void pack_bits(Tensor bytes, Tensor values, int bits, int threads) {
  const int64_t total = values.elements() * bits;
  parallel_for(threads, chunks_of(bytes.elements(), kChunkElements), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, kChunkElements, bytes.elements());
    for (int64_t i = range.begin; i < range.end; ++i) {
      unsigned byte = 0;
      for (int64_t b = i * 8; b < i * 8 + 8 && b < total; ++b)
        byte |= (unsigned{values.as<const uint16_t>()[b / bits]} >> (b % bits) & 1u) << (b % 8);
      bytes.as<uint8_t>()[i] = static_cast<uint8_t>(byte);
    }
  });
}

void unpack_bits(Tensor values, Tensor bytes, int bits, int threads) {
  parallel_for(threads, chunks_of(values.elements(), kChunkElements), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, kChunkElements, values.elements());
    for (int64_t i = range.begin; i < range.end; ++i) {
      unsigned value = 0;
      for (int64_t b = 0; b < bits; ++b) {
        const int64_t at = i * bits + b;
        value |= (unsigned{bytes.as<const uint8_t>()[at / 8]} >> (at % 8) & 1u) << b;
      }
      values.as<uint16_t>()[i] = static_cast<uint16_t>(value);
    }
  });
}

}  // namespace strait::cpu
