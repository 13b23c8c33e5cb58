// The cases of the codecs' ops. Codes, scales, chosen entries and bits are compared for equality: every backend does the same operations.
#pragma once

#include "tests/kernels/cases.h"

namespace strait::testing {

// Rows as a codec meets them: numbers of several sizes, an outlier, a row of zeros.
inline std::vector<double> uneven_rows(Runner& r, int64_t N, int64_t C) {
  std::vector<double> values = r.random({N, C}, Kind::element, 1);
  for (int64_t i = 0; i < N * C; ++i) {
    double& v = values[static_cast<size_t>(i)];
    const int64_t n = i / C;
    v *= n % 3 == 1 ? 0x1p-30 : 1.0;
    if (i % C == n % C) v *= 16;
    if (n % 4 == 2) v = 0;
  }
  return values;
}

inline std::vector<Case> quantization_cases() {
  std::vector<Case> cases;
  for (const auto& [N, C, group] : std::vector<std::array<int64_t, 3>>{
           {1, 1, 1}, {5, 7, 7}, {9, 64, 16}, {6, 70, 32}, {3, 600, 600}})
    for (const Quantization kind : {Quantization::int8, Quantization::int4, Quantization::fp8}) {
      const Shape codes = {N, kind == Quantization::int4 ? (C + 1) / 2 : C},
                  scales = {N, (C + group - 1) / group};
      const DType dtype = kind == Quantization::fp8 ? DType::f8_e4m3 : DType::u8;
      const std::string what = text(" N C group kind", {N, C, group, static_cast<int64_t>(kind)});
      for (const bool stochastic : {false, true}) {
        if (stochastic && kind == Quantization::fp8) continue;
        cases.push_back({Op::quantize_rows,
                         text("quantize_rows" + what + " stochastic", {stochastic}),
                         [=](Runner& r) {
                           const Tensor x = r.input({N, C}, Kind::element, uneven_rows(r, N, C));
                           r.ops.quantize_rows(r.stored_output("q", codes, dtype),
                                               r.stored_output("scale", scales, DType::bf16), x,
                                               kind, group, {stochastic, Philox{5}, 77});
                         }});
      }
      cases.push_back({Op::dequantize_rows, "dequantize_rows" + what, [=](Runner& r) {
                         std::vector<double> q(static_cast<size_t>(codes.elements())),
                             scale(static_cast<size_t>(scales.elements()));
                         for (size_t i = 0; i < q.size(); ++i)
                           q[i] = kind == Quantization::fp8 ? static_cast<double>(i % 28) - 14
                                                            : static_cast<double>(i * 37 % 256);
                         for (size_t i = 0; i < scale.size(); ++i)
                           scale[i] = std::ldexp(1.0 + static_cast<double>(i % 8) / 8,
                                                 static_cast<int>(i % 20) - 15);
                         // One rounding of an exact product where x is bf16.
                         r.ops.dequantize_rows(r.output("x", {N, C}, Kind::element, {0, 3e-3}),
                                               r.stored(codes, dtype, q),
                                               r.stored(scales, DType::bf16, scale), kind, group);
                       }});
    }
  for (int64_t n : {int64_t{1}, int64_t{77}})
    for (int64_t pad : {int64_t{0}, int64_t{6}}) {
      cases.push_back({Op::cast, text("cast to f16 n pad", {n, pad}), [=](Runner& r) {
                         r.ops.cast(r.stored_output("y", {2, n}, DType::f16),
                                    r.input({2, n}, Kind::element, 1e-3, pad));
                       }});
      cases.push_back({Op::cast, text("cast from f16 n pad", {n, pad}), [=](Runner& r) {
                         // f16 has more digits than bf16.
                         r.ops.cast(
                             r.output("y", {2, n}, Kind::element, {0, 3e-3}, false, pad),
                             r.stored({2, n}, DType::f16, r.random({2, n}, Kind::element, 1)));
                       }});
    }
  return cases;
}

inline std::vector<Case> entry_cases() {
  std::vector<Case> cases;
  for (const auto& [N, C, k] : std::vector<std::array<int64_t, 3>>{
           {1, 1, 1}, {4, 9, 9}, {7, 33, 5}, {3, 256, 17}, {2, 700, 300}}) {
    for (const DType index : {DType::u8, DType::u16}) {
      if (index == DType::u8 && C > 256) continue;
      const std::string what =
          text(" N C k index", {N, C, k, static_cast<int64_t>(size_of(index))});
      for (const bool ties : {false, true})
        for (const Kind kind : {Kind::element, Kind::statistic})
          cases.push_back({Op::topk_rows,
                           text("topk_rows" + what + " ties kind", {ties, kind == Kind::element}),
                           [=](Runner& r) {
                             std::vector<double> x = r.random({N, C}, Kind::element, 1);
                             for (double& v : x)
                               if (ties) v = std::round(2 * v);
                             r.ops.topk_rows(r.output("values", {N, k}, kind, kExact),
                                             r.stored_output("indices", {N, k}, index),
                                             r.input({N, C}, Kind::element, x));
                           }});
      for (const int64_t rows : {int64_t{1}, N}) {
        std::vector<double> indices;  // different ones in each row
        for (int64_t n = 0; n < rows; ++n)
          for (int64_t i = 0; i < k; ++i)
            indices.push_back(static_cast<double>((i * (C / k) + n) % C));
        cases.push_back(
            {Op::gather_entries, text("gather_entries" + what + " rows", {rows}), [=](Runner& r) {
               r.ops.gather_entries(r.output("values", {N, k}, Kind::element, kExact),
                                    r.input({N, C}), r.stored({rows, k}, index, indices));
             }});
        cases.push_back(
            {Op::scatter_entries, text("scatter_entries" + what + " rows", {rows}), [=](Runner& r) {
               r.ops.scatter_entries(r.output("x", {N, C}, Kind::element, kExact), r.input({N, k}),
                                     r.stored({rows, k}, index, indices));
             }});
      }
      std::vector<double> columns, bits(static_cast<size_t>((C + 7) / 8));
      for (int64_t i = 0; i < k; ++i) {
        const int64_t c = (i + 1) * C / k - 1;
        columns.push_back(static_cast<double>(c));
        bits[static_cast<size_t>(c / 8)] += static_cast<double>(1 << c % 8);
      }
      const Shape bytes = {(C + 7) / 8};
      cases.push_back({Op::pack_columns, "pack_columns" + what, [=](Runner& r) {
                         r.ops.pack_columns(r.stored_output("bits", bytes, DType::u8),
                                            r.stored({1, k}, index, columns));
                       }});
      for (const bool fewer : {false, true})
        cases.push_back(
            {Op::unpack_columns, text("unpack_columns" + what + " fewer", {fewer}), [=](Runner& r) {
               std::vector<double> set = bits;
               if (fewer) set.back() = 0;
               r.ops.unpack_columns(r.stored_output("columns", {1, k}, index),
                                    r.stored(bytes, DType::u8, set));
             }});
    }
    cases.push_back({Op::column_sum_squares, text("column_sum_squares N C", {100 * N, C}),
                     [N = N, C = C](Runner& r) {
                       const Tensor x = r.input({100 * N, C});
                       r.ops.column_sum_squares(
                           r.output("sums", {C}, Kind::statistic, kSumOverRows), x);
                     }});
  }
  return cases;
}

inline std::vector<Case> inverse_cholesky_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{5}, int64_t{40}})
    cases.push_back(
        {Op::inverse_cholesky, text("inverse_cholesky r", {n}), [n](Runner& r) {
           const int64_t rows = 2 * n;
           const std::vector<double> a = r.random({rows, n}, Kind::f64, 1);
           std::vector<double> gram;
           for (int64_t i = 0; i < n; ++i)
             for (int64_t j = 0; j < n; ++j) {
               double sum = 0;
               for (int64_t t = 0; t < rows; ++t)
                 sum += a[static_cast<size_t>(t * n + i)] * a[static_cast<size_t>(t * n + j)];
               gram.push_back(sum);
             }
           r.ops.inverse_cholesky(r.output("inverse", {n, n}, Kind::statistic, kStatistic),
                                  r.input({n, n}, Kind::statistic, gram));
         }});
  // Of dependent columns only the first lives: exact in every precision, because the numbers are small and whole.
  const std::vector<std::vector<double>> singular = {
      {4, 2, 0, 2, 1, 0, 0, 0, 9}, {0, 0, 0, 0, 0, 0, 0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 5}};
  for (size_t i = 0; i < singular.size(); ++i)
    cases.push_back(
        {Op::inverse_cholesky, text("inverse_cholesky singular", {static_cast<int64_t>(i)}),
         [gram = singular[i]](Runner& r) {
           r.ops.inverse_cholesky(r.output("inverse", {3, 3}, Kind::statistic, kStatistic),
                                  r.input({3, 3}, Kind::statistic, gram));
         }});
  return cases;
}

}  // namespace strait::testing
