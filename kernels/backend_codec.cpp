// The ops of codecs: checked, called and booked as in backend.cpp.
#include <fmt/format.h>

#include "kernels/backend.h"
#include "kernels/contract.h"
#include "kernels/cost.h"

namespace strait {
namespace {

// What quantize_rows and dequantize_rows have in common.
void check_quantized(const Contract& c, const Tensor& q, const Tensor& scale, const Tensor& x,
                     Quantization kind, int64_t group) {
  c.rank({"x", x}, 2);
  c.is({"x", x}, c.float_type({"x", x}), x.shape);
  const int64_t N = x.size(0), C = x.size(1);
  c.require(group >= 1 && group <= C, fmt::format("group is {}; it must be in [1, {}]", group, C));
  c.is({"q", q}, kind == Quantization::fp8 ? DType::f8_e4m3 : DType::u8,
       {N, kind == Quantization::int4 ? (C + 1) / 2 : C});
  c.require(kind != Quantization::int4 || group % 2 == 0 || group == C,
            fmt::format("group is {}; int4 packs two codes a byte, so it must be even or all {}",
                        group, C));
  c.is({"scale", scale}, DType::bf16, {N, (C + group - 1) / group});
}

// Indices of columns below `columns`, of as many rows as `rows` or of one.
void check_indices(const Contract& c, const Operand& indices, int64_t rows, int64_t columns) {
  c.rank(indices, 2);
  const Tensor& t = indices.tensor;
  const int64_t limit = t.dtype == DType::u8 ? 256 : 65536;
  c.require(columns <= limit, fmt::format("{} columns do not fit into {}", columns,
                                          name_of(t.dtype == DType::u8 ? DType::u8 : DType::u16)));
  c.is(indices, t.dtype == DType::u8 ? DType::u8 : DType::u16, {rows, t.size(1)});
}

void check_entries(const Contract& c, const Tensor& values, const Tensor& x,
                   const Tensor& indices) {
  c.rank({"x", x}, 2);
  c.is({"x", x}, c.float_type({"x", x}), x.shape);
  c.rank({"indices", indices}, 2);
  check_indices(c, {"indices", indices}, indices.size(0) == 1 ? 1 : x.size(0), x.size(1));
  c.require(indices.size(1) <= x.size(1),
            fmt::format("{} entries of {} columns", indices.size(1), x.size(1)));
  c.is({"values", values}, c.float_type({"values", values}), {x.size(0), indices.size(1)});
}

}  // namespace

void Backend::quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                            const Rounding& rounding) {
  const Contract c(Op::quantize_rows, computes(), has_f64());
  check_quantized(c, q, scale, x, kind, group);
  c.require(!rounding.stochastic || kind != Quantization::fp8,
            "stochastic rounding is for int8 and int4");
  c.no_alias({"q", q}, {{"x", x}, {"scale", scale}});
  c.no_alias({"scale", scale}, {{"x", x}});
  do_quantize_rows(q, scale, x, kind, group, rounding);
  book(Op::quantize_rows, false, x.dtype, (rounding.stochastic ? 20u : 4u) * count(x.elements()),
       bytes_of({q, scale, x}));
}

void Backend::dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind, int64_t group) {
  const Contract c(Op::dequantize_rows, computes(), has_f64());
  check_quantized(c, q, scale, x, kind, group);
  c.no_alias({"x", x}, {{"q", q}, {"scale", scale}});
  do_dequantize_rows(x, q, scale, kind, group);
  book(Op::dequantize_rows, false, x.dtype, count(x.elements()), bytes_of({x, q, scale}));
}

void Backend::topk_rows(Tensor values, Tensor indices, Tensor x) {
  const Contract c(Op::topk_rows, computes(), has_f64());
  c.rank({"x", x}, 2);
  c.rank({"indices", indices}, 2);
  check_indices(c, {"indices", indices}, x.size(0), x.size(1));
  check_entries(c, values, x, indices);
  c.no_alias({"values", values}, {{"x", x}, {"indices", indices}});
  c.no_alias({"indices", indices}, {{"x", x}});
  do_topk_rows(values, indices, x);
  book(Op::topk_rows, false, x.dtype, 0, bytes_of({values, indices, x}));
}

void Backend::gather_entries(Tensor values, Tensor x, Tensor indices) {
  const Contract c(Op::gather_entries, computes(), has_f64());
  check_entries(c, values, x, indices);
  c.no_alias({"values", values}, {{"x", x}, {"indices", indices}});
  do_gather_entries(values, x, indices);
  book(Op::gather_entries, false, x.dtype, 0,
       bytes_of({values, indices}) + count(values.elements()) * size_of(x.dtype));
}

void Backend::scatter_entries(Tensor x, Tensor values, Tensor indices) {
  const Contract c(Op::scatter_entries, computes(), has_f64());
  check_entries(c, values, x, indices);
  c.no_alias({"x", x}, {{"values", values}, {"indices", indices}});
  do_scatter_entries(x, values, indices);
  book(Op::scatter_entries, false, x.dtype, 0, bytes_of({values, indices, x}));
}

void Backend::column_sum_squares(Tensor sums, Tensor x) {
  const Contract c(Op::column_sum_squares, computes(), has_f64());
  c.rank({"x", x}, 2);
  const DType t = c.float_type({"x", x});
  c.is({"x", x}, t, x.shape);
  c.is({"sums", sums}, statistics_of(t), {x.size(1)});
  c.no_alias({"sums", sums}, {{"x", x}});
  do_column_sum_squares(sums, x);
  book(Op::column_sum_squares, false, t, 2 * count(x.elements()), bytes_of({sums, x}));
}

void Backend::pack_columns(Tensor bits, Tensor columns) {
  const Contract c(Op::pack_columns, computes(), has_f64());
  c.rank({"bits", bits}, 1);
  c.rank({"columns", columns}, 2);
  c.is({"bits", bits}, DType::u8, bits.shape);
  check_indices(c, {"columns", columns}, 1, 8 * bits.size(0));
  c.no_alias({"bits", bits}, {{"columns", columns}});
  do_pack_columns(bits, columns);
  book(Op::pack_columns, false, DType::u8, 0, bytes_of({bits, columns}));
}

void Backend::unpack_columns(Tensor columns, Tensor bits) {
  const Contract c(Op::unpack_columns, computes(), has_f64());
  c.rank({"bits", bits}, 1);
  c.rank({"columns", columns}, 2);
  c.is({"bits", bits}, DType::u8, bits.shape);
  check_indices(c, {"columns", columns}, 1, 8 * bits.size(0));
  c.no_alias({"columns", columns}, {{"bits", bits}});
  do_unpack_columns(columns, bits);
  book(Op::unpack_columns, false, DType::u8, 0, bytes_of({bits, columns}));
}

void Backend::inverse_cholesky(Tensor inverse, Tensor gram) {
  const Contract c(Op::inverse_cholesky, computes(), has_f64());
  c.rank({"gram", gram}, 2);
  const DType s = statistics_of(c.float_type({"gram", gram}));
  c.is({"gram", gram}, s, {gram.size(0), gram.size(0)});
  c.is({"inverse", inverse}, s, gram.shape);
  c.no_alias({"inverse", inverse}, {{"gram", gram}});
  do_inverse_cholesky(inverse, gram);
  const uint64_t r = count(gram.size(0));
  book(Op::inverse_cholesky, false, DType::f64, r * r * r / 2, bytes_of({inverse, gram}));
}

}  // namespace strait
