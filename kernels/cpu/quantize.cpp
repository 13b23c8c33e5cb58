// quantize_rows, dequantize_rows and casts of f16: row-local, group by group, in pieces of 256 columns so that the compiler's vectors have
// plain loops. One pass for the largest magnitude, one for the codes.
#include <algorithm>

#include "kernels/cpu/codec.h"
#include "kernels/cpu/plain.h"
#include "kernels/quantization.h"

namespace strait::cpu {
namespace {

constexpr int64_t kPiece = 256;  // even, so that int4 pairs never meet its end

// body(n) for every row, in chunks fixed by the shape.
template <class Body>
void for_rows(int threads, int64_t N, int64_t C, const Body& body) {
  const int64_t rows = rows_per_chunk(C);
  parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, rows, N);
    for (int64_t n = range.begin; n < range.end; ++n) body(n);
  });
}

template <class T>
uint32_t largest_magnitude(const T* x, int64_t count) {
  uint32_t largest = 0;
  for (int64_t c = 0; c < count; ++c)
    largest = std::max(largest, magnitude_bits(static_cast<float>(x[c])));
  return largest;
}

// v[c] becomes whole; v[0] is element `first` of the tensor.
void round_piece(float* v, int64_t count, uint64_t first, const Rounding& rounding) {
  if (!rounding.stochastic) {
    for (int64_t c = 0; c < count; ++c) v[c] = nearest_whole(v[c]);
    return;
  }
  std::array<uint32_t, 4> words{};
  for (int64_t c = 0; c < count; ++c) {
    const uint64_t i = first + static_cast<uint64_t>(c);
    if (c == 0 || i % 4 == 0) words = rounding.rng(rounding.stream, i / 4);
    v[c] = stochastic_whole(v[c], words[i % 4]);
  }
}

// The codes of v, which begins at an even column, behind `q`.
void store_codes(uint8_t* q, const float* v, int64_t count, Quantization kind) {
  if (kind == Quantization::fp8) {
    for (int64_t c = 0; c < count; ++c) q[c] = float8_e4m3(v[c]).bits;
    return;
  }
  if (kind == Quantization::int8) {
    for (int64_t c = 0; c < count; ++c) q[c] = code_bits(v[c], kind);
    return;
  }
  for (int64_t c = 0; c < count; c += 2) {
    const unsigned odd = c + 1 < count ? code_bits(v[c + 1], kind) : 0u;
    q[c / 2] = static_cast<uint8_t>(code_bits(v[c], kind) | odd << 4);
  }
}

}  // namespace

void quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                   const Rounding& rounding, int threads) {
  const int64_t N = x.size(0), C = x.size(1), groups = scale.size(1),
                per_byte = kind == Quantization::int4 ? 2 : 1;
  const float limit = largest_code(kind);
  by_storage(x.dtype, [&](auto element) {
    using T = decltype(element);
    for_rows(threads, N, C, [&](int64_t n) {
      const T* row = x.as<const T>() + n * C;
      uint8_t* codes = q.as<uint8_t>() + n * q.size(1);
      for (int64_t g = 0; g < groups; ++g) {
        const Range range = chunk_range(g, group, C);
        const float s =
            scale_of(largest_magnitude(row + range.begin, range.end - range.begin), limit);
        scale.as<bfloat16>()[n * groups + g] = bfloat16(s);
        float v[kPiece];
        for (int64_t begin = range.begin; begin < range.end; begin += kPiece) {
          const int64_t count = std::min(kPiece, range.end - begin);
          for (int64_t c = 0; c < count; ++c)
            v[c] = scaled(static_cast<float>(row[begin + c]), s, limit);
          if (kind != Quantization::fp8)
            round_piece(v, count, static_cast<uint64_t>(n * C + begin), rounding);
          store_codes(codes + begin / per_byte, v, count, kind);
        }
      }
    });
  });
}

void dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind, int64_t group,
                     int threads) {
  const int64_t N = x.size(0), C = x.size(1), groups = scale.size(1);
  by_storage(x.dtype, [&](auto element) {
    using T = decltype(element);
    for_rows(threads, N, C, [&](int64_t n) {
      T* row = x.as<T>() + n * C;
      const uint8_t* codes = q.as<const uint8_t>() + n * q.size(1);
      for (int64_t g = 0; g < groups; ++g) {
        const Range range = chunk_range(g, group, C);
        const auto s = static_cast<float>(scale.as<const bfloat16>()[n * groups + g]);
        for (int64_t c = range.begin; c < range.end; ++c) {
          const float v = kind == Quantization::int8 ? int8_code(codes[c])
                          : kind == Quantization::int4
                              ? int4_code(static_cast<unsigned>(codes[c / 2]) >> (c % 2 * 4))
                              : static_cast<float>(float8_e4m3::of(codes[c]));
          row[c] = T(v * s);
        }
      }
    });
  });
}

void cast_half(Tensor y, Tensor x, int threads) {
  const auto with = [](DType t, const auto& body) {
    t == DType::f16 ? body(float16{}) : t == DType::bf16 ? body(bfloat16{}) : body(float{});
  };
  const int64_t C = y.size(-1), N = y.elements() / C;
  with(y.dtype, [&](auto y_element) {
    with(x.dtype, [&](auto x_element) {
      for_rows(threads, N, C, [&](int64_t n) {
        auto* out = y.as<decltype(y_element)>() + row_offset(y, n);
        const auto* in = x.as<const decltype(x_element)>() + row_offset(x, n);
        for (int64_t c = 0; c < C; ++c) out[c] = decltype(y_element)(static_cast<float>(in[c]));
      });
    });
  });
}

}  // namespace strait::cpu
