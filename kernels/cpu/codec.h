// The ops of codecs, compiled once for the baseline instruction set. quantize.cpp: codes and scales; entries.cpp: the largest entries of
// a row, chosen columns, the inverse of a Cholesky factor.
#pragma once

#include "kernels/cpu/parallel.h"

namespace strait::cpu {

void quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                   const Rounding& rounding, int threads);
void dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind, int64_t group,
                     int threads);
// float <-> f16, rows may be strided.
void cast_half(Tensor y, Tensor x, int threads);

void topk_rows(Tensor values, Tensor indices, Tensor x, int threads);
void gather_entries(Tensor values, Tensor x, Tensor indices, int threads);
void scatter_entries(Tensor x, Tensor values, Tensor indices, int threads);
void column_sum_squares(Tensor sums, Tensor x, int threads);
void pack_columns(Tensor bits, Tensor columns);
void unpack_columns(Tensor columns, Tensor bits);
void inverse_cholesky(Tensor inverse, Tensor gram);

// Calls body with a float or a bfloat16, by the storage type.
template <class Body>
void by_storage(DType t, const Body& body) {
  t == DType::bf16 ? body(bfloat16{}) : body(float{});
}
// ... with a uint8_t or a uint16_t.
template <class Body>
void by_index(DType t, const Body& body) {
  t == DType::u8 ? body(uint8_t{}) : body(uint16_t{});
}

}  // namespace strait::cpu
