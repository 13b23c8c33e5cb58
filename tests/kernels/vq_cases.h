// Cases of vector quantisation: a number of codes that is and is not a multiple of sixteen, groups of one column and of several, a
// codebook that does not fit a kernel's piece of shared memory.
#pragma once

#include <cmath>

#include "tests/kernels/harness.h"

namespace strait::testing {

inline std::vector<Case> vq_search_cases() {
  std::vector<Case> cases;
  for (const auto& [N, G, s, K] : std::vector<std::array<int64_t, 4>>{
           {1, 1, 1, 1}, {37, 3, 4, 16}, {70, 2, 5, 300}, {300, 5, 1, 33}}) {
    const int64_t r = G * s;
    const std::string sizes = text(" N G s K", {N, G, s, K});
    const Shape index{N, G};
    std::vector<int> codes;
    for (int64_t i = 0; i < N * G; ++i) codes.push_back(static_cast<int>((i * i * 7 + i) % K));
    cases.push_back({Op::vq_encode, "vq_encode" + sizes, [=](Runner& run) {
                       const Tensor z = run.input({N, r}, Kind::statistic),
                                    codebook = run.input({K, r}, Kind::statistic);
                       run.ops.vq_encode(run.stored_output("index", index, DType::u16), z,
                                         codebook);
                     }});
    // Of equal codes the lowest: every code is there twice, and latents are codes.
    cases.push_back({Op::vq_encode, "vq_encode ties" + sizes, [=](Runner& run) {
                       std::vector<double> rows(static_cast<size_t>(K * r)), z;
                       for (int64_t k = 0; k < K; ++k)
                         for (int64_t c = 0; c < r; ++c)
                           rows[static_cast<size_t>(k * r + c)] =
                               static_cast<double>((k / 2 * 3 + c) % 11);
                       for (int64_t i = 0; i < N * r; ++i)
                         z.push_back(rows[static_cast<size_t>((i / r * 5 % K) * r + i % r)]);
                       run.ops.vq_encode(run.stored_output("index", index, DType::u16),
                                         run.input({N, r}, Kind::statistic, z),
                                         run.input({K, r}, Kind::statistic, rows));
                     }});
    for (double alpha : {1.0, -1.0})
      cases.push_back(
          {Op::vq_decode, "vq_decode" + sizes + (alpha > 0 ? " +" : " -"), [=](Runner& run) {
             const Tensor y = run.output("y", {N, r}, Kind::statistic, {1e-7, 1e-7}, true);
             run.ops.vq_decode(y, run.integers(index, codes, DType::u16),
                               run.input({K, r}, Kind::statistic), alpha);
           }});
    cases.push_back({Op::vq_statistics, "vq_statistics" + sizes, [=](Runner& run) {
                       const Tensor z = run.input({N, r}, Kind::statistic);
                       run.ops.vq_statistics(
                           run.output("count", {K, G}, Kind::statistic, kExact),
                           run.output("sum", {K, r}, Kind::statistic, {3e-6, 3e-6}), z,
                           run.integers(index, codes, DType::u16));
                     }});
  }
  return cases;
}

inline std::vector<Case> vq_codebook_cases() {
  std::vector<Case> cases;
  for (const auto& [K, G, s] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {33, 3, 4}, {300, 2, 40}}) {
    const int64_t r = G * s;
    const std::string sizes = text(" K G s", {K, G, s});
    // Some counts fall below the threshold, some do not.
    const auto counts = [=](Runner& run) {
      std::vector<double> values = run.random({K, G}, Kind::statistic, 1);
      for (double& v : values) v = rounded(std::abs(v) + 0.01, DType::f32);
      return values;
    };
    cases.push_back(
        {Op::vq_update, "vq_update" + sizes, [=](Runner& run) {
           const Tensor count = run.watch("count", run.input({K, G}, Kind::statistic, counts(run)),
                                          {1e-7, 1e-7}),
                        sum = run.output("sum", {K, r}, Kind::statistic, {1e-6, 1e-6}, true),
                        more = run.input({K, G}, Kind::statistic, counts(run)),
                        batch = run.input({K, r}, Kind::statistic),
                        donors = run.input({K, r}, Kind::statistic);
           run.ops.vq_update(count, sum, more, batch, donors, 0.75, 0.5);
         }});
    cases.push_back({Op::vq_centroids, "vq_centroids" + sizes, [=](Runner& run) {
                       std::vector<int> rows;
                       for (int64_t i = 0; i < (K + 1) / 2; ++i)
                         rows.push_back(static_cast<int>((i * 5 + 2) % K));
                       const Tensor sum = run.input({K, r}, Kind::statistic),
                                    count = run.input({K, G}, Kind::statistic, counts(run));
                       run.ops.vq_centroids(
                           run.output("y", {(K + 1) / 2, r}, Kind::statistic, {1e-6, 1e-6}), sum,
                           count, run.integers({(K + 1) / 2}, rows));
                     }});
    for (int kinds = 0; kinds < 4; ++kinds)
      cases.push_back(
          {Op::put_rows, "put_rows" + sizes + text("", {kinds}), [=](Runner& run) {
             const Kind to = kinds & 1 ? Kind::statistic : Kind::element,
                        from = kinds & 2 ? Kind::statistic : Kind::element;
             std::vector<int> ids;  // all different, in no order
             for (int64_t i = 0; i < (K + 1) / 2; ++i)
               ids.push_back(static_cast<int>(K - 1 - 2 * i >= 0 ? K - 1 - 2 * i : 0));
             const Tensor x = run.input({(K + 1) / 2, r}, from);
             // Only f32 to bf16 rounds.
             run.ops.put_rows(
                 run.output("table", {K, r}, to, kinds == 2 ? Tolerance{0, 3e-3} : kExact, true), x,
                 run.integers({(K + 1) / 2}, ids));
           }});
  }
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}})
    for (int bits : {1, 3, 8, 11, 16}) {
      std::vector<int> values, bytes;
      for (int64_t i = 0; i < n; ++i)
        values.push_back(
            static_cast<int>((i * i * 2654435761LL + 12345 * i + 99) & ((1LL << bits) - 1)));
      for (int64_t i = 0; i < (n * bits + 7) / 8; ++i)
        bytes.push_back(static_cast<int>((i * 73 + 11) & 255));
      const auto size = static_cast<int64_t>(bytes.size());
      cases.push_back({Op::pack_bits, text("pack_bits n bits", {n, bits}), [=](Runner& run) {
                         run.ops.pack_bits(run.stored_output("bytes", {size}, DType::u8),
                                           run.integers({n}, values, DType::u16), bits);
                       }});
      cases.push_back({Op::unpack_bits, text("unpack_bits n bits", {n, bits}), [=](Runner& run) {
                         run.ops.unpack_bits(run.stored_output("values", {n}, DType::u16),
                                             run.integers({size}, bytes, DType::u8), bits);
                       }});
    }
  return cases;
}

}  // namespace strait::testing
