// The cases of the four attention ops: head widths from 7 to 256, odd lengths, grouped heads,
// packed rows, and every mask that the engine makes of positions: contiguous, shards of a sequence,
// zig-zag, documents, rows without any key.
#pragma once

#include "kernels/reference/reference.h"
#include "tests/kernels/angle_cases.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/codec_cases.h"
#include "tests/kernels/step_cases.h"
#include "tests/kernels/vq_cases.h"

namespace strait::testing {

struct AttentionCase {
  std::string name;
  int64_t B, Tq, Tk, H, Hkv, Dh, pad;
  bool causal;
  std::vector<int> q_position, k_position, q_document,
      k_document;  // documents: of one batch entry, or empty
};

inline std::vector<int> count_from(int first, int64_t n, int step = 1) {
  std::vector<int> positions;
  for (int64_t i = 0; i < n; ++i) positions.push_back(first + static_cast<int>(i) * step);
  return positions;
}

inline std::vector<int> joined(std::vector<int> a, const std::vector<int>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline std::vector<AttentionCase> attention_shapes() {
  std::vector<AttentionCase> cases;
  const auto contiguous = [&](const std::string& name, int64_t B, int64_t T, int64_t H, int64_t Hkv,
                              int64_t Dh, int64_t pad, bool causal) {
    cases.push_back(
        {name, B, T, T, H, Hkv, Dh, pad, causal, count_from(0, T), count_from(0, T), {}, {}});
  };
  contiguous("one token", 1, 1, 1, 1, 16, 0, true);
  contiguous("odd length, odd width", 2, 29, 3, 1, 7, 0, true);
  contiguous("one block", 1, 64, 2, 2, 32, 0, true);
  contiguous("one more than a block", 1, 65, 2, 1, 64, 6, true);
  contiguous("three blocks, packed rows", 1, 131, 2, 1, 20, 6, true);
  contiguous("without a mask", 1, 70, 2, 2, 32, 0, false);
  contiguous("wide heads", 1, 21, 1, 1, 256, 0, true);
  contiguous("heads of 128, grouped by four", 1, 40, 4, 1, 128, 0, true);
  contiguous("three blocks of 64, whole tiles and broken ones", 2, 150, 2, 1, 64, 8, true);
  contiguous("three blocks of 128 without a mask", 1, 135, 1, 1, 128, 0, false);
  cases.push_back({"a later shard of queries",
                   1,
                   33,
                   80,
                   2,
                   1,
                   16,
                   0,
                   true,
                   count_from(40, 33),
                   count_from(0, 80),
                   {},
                   {}});
  cases.push_back({"more queries than keys, many rows empty",
                   1,
                   90,
                   20,
                   1,
                   1,
                   16,
                   0,
                   true,
                   count_from(0, 90),
                   count_from(70, 20),
                   {},
                   {}});
  cases.push_back({"no row has a key",
                   1,
                   5,
                   70,
                   2,
                   1,
                   16,
                   0,
                   true,
                   count_from(0, 5),
                   count_from(5, 70),
                   {},
                   {}});
  // Rank 0 of two in a zig-zag layout: chunks 0 and 3 of four, against the keys of rank 1, chunks 1
  // and 2.
  cases.push_back({"zig-zag, own keys",
                   1,
                   66,
                   66,
                   2,
                   1,
                   32,
                   0,
                   true,
                   joined(count_from(0, 33), count_from(99, 33)),
                   joined(count_from(0, 33), count_from(99, 33)),
                   {},
                   {}});
  cases.push_back({"zig-zag, other keys",
                   1,
                   66,
                   66,
                   2,
                   1,
                   32,
                   0,
                   true,
                   joined(count_from(0, 33), count_from(99, 33)),
                   joined(count_from(33, 33), count_from(66, 33)),
                   {},
                   {}});
  cases.push_back({"striped",
                   1,
                   70,
                   70,
                   1,
                   1,
                   16,
                   0,
                   true,
                   count_from(0, 70, 2),
                   count_from(1, 70, 2),
                   {},
                   {}});
  std::vector<int> documents;
  for (int i = 0; i < 100; ++i) documents.push_back(i < 10 ? 4 : i < 75 ? 5 : 6);
  cases.push_back({"documents", 2, 100, 100, 2, 1, 16, 0, true, count_from(0, 100),
                   count_from(0, 100), documents, documents});
  cases.push_back({"documents without causality", 1, 100, 100, 1, 1, 16, 0, false,
                   count_from(0, 100), count_from(0, 100), documents, documents});
  std::vector<int> others(100, 7);
  others[40] = others[50] =
      5;  // two, because the gradient of a weight that has no rival is rounding alone
  cases.push_back({"documents that hardly meet", 1, 100, 100, 1, 1, 16, 0, true, count_from(0, 100),
                   count_from(0, 100), documents, others});
  return cases;
}

inline AttentionMask mask_of(Runner& r, const AttentionCase& c) {
  AttentionMask mask;
  mask.causal = c.causal;
  mask.q_position = r.integers({c.Tq}, c.q_position);
  mask.k_position = r.integers({c.Tk}, c.k_position);
  if (c.q_document.empty()) return mask;
  std::vector<int> q, k;
  for (int64_t b = 0; b < c.B; ++b) {
    q = joined(q, c.q_document);
    k = joined(k, c.k_document);
  }
  mask.q_document = r.integers({c.B, c.Tq}, q);
  mask.k_document = r.integers({c.B, c.Tk}, k);
  return mask;
}

inline double scale_of(const AttentionCase& c) {
  return 1.0 / std::sqrt(static_cast<double>(c.Dh));
}

inline Case attention_forward_case(const AttentionCase& c, Kind o_kind) {
  return {Op::attention_forward, "attention_forward: " + c.name, [=](Runner& r) {
            const Tensor q = r.input({c.B, c.Tq, c.H, c.Dh}, Kind::element, 1, c.pad),
                         k = r.input({c.B, c.Tk, c.Hkv, c.Dh}, Kind::element, 1, c.pad);
            const Tensor v = r.input({c.B, c.Tk, c.Hkv, c.Dh}, Kind::element, 1, c.pad);
            const Tensor o =
                r.output("o", q.shape, o_kind, o_kind == Kind::element ? kAttention : kAttentionInS,
                         false, c.pad);
            const Tensor lse = r.output("lse", {c.B, c.H, c.Tq}, Kind::statistic, kAttentionInS);
            r.ops.attention_forward(o, lse, q, k, v, mask_of(r, c), scale_of(c));
          }};
}

inline Case attention_delta_case(const AttentionCase& c) {
  return {Op::attention_delta, "attention_delta: " + c.name, [=](Runner& r) {
            const Tensor dout = r.input({c.B, c.Tq, c.H, c.Dh}, Kind::element, 1, c.pad),
                         o = r.input({c.B, c.Tq, c.H, c.Dh}, Kind::element, 1, c.pad);
            r.ops.attention_delta(
                r.output("delta", {c.B, c.H, c.Tq}, Kind::statistic, kAttentionInS), dout, o);
          }};
}

// Rows without a key on either side, on both, and log-sum-exps that are far apart.
inline Case attention_merge_case(const AttentionCase& c, Kind block_kind) {
  return {Op::attention_merge, "attention_merge: " + c.name, [=](Runner& r) {
            const Shape queries = {c.B, c.Tq, c.H, c.Dh}, rows = {c.B, c.H, c.Tq};
            std::vector<double> mine = r.random(rows, Kind::statistic, 3),
                                other = r.random(rows, Kind::statistic, 3);
            for (size_t i = 0; i < mine.size(); ++i) {
              if (i % 7 == 2) mine[i] *= 1e4;
              if (i % 5 == 1 || i % 11 == 3) mine[i] = -std::numeric_limits<double>::infinity();
              if (i % 5 == 3 || i % 11 == 3) other[i] = -std::numeric_limits<double>::infinity();
            }
            const Tensor o = r.output("o", queries, Kind::statistic, kMerge, true, c.pad);
            const Tensor lse = r.watch("lse", r.input(rows, Kind::statistic, mine), kMerge);
            r.ops.attention_merge(o, lse, r.input(queries, block_kind, 1, c.pad),
                                  r.input(rows, Kind::statistic, other));
          }};
}

// lse and delta are the reference's own, in f64, so that only the backward is under test.
inline Case attention_backward_case(const AttentionCase& c, Kind kind, bool accumulate) {
  return {Op::attention_backward,
          text("attention_backward: " + c.name, {kind == Kind::element, accumulate}),
          [=](Runner& r) {
            const Shape queries = {c.B, c.Tq, c.H, c.Dh}, keys = {c.B, c.Tk, c.Hkv, c.Dh},
                        rows = {c.B, c.H, c.Tq};
            std::vector<double> q = r.random(queries, Kind::element, 1),
                                k = r.random(keys, Kind::element, 1),
                                v = r.random(keys, Kind::element, 1);
            std::vector<double> dout = r.random(queries, Kind::element, 1), o(q.size()),
                                lse(static_cast<size_t>(rows.elements())), delta(lse.size());
            ReferenceBackend reference;
            Runner host(reference, DType::f64, DType::f64);
            const auto f64 = [](std::vector<double>& x, Shape shape) {
              return Tensor(x.data(), DType::f64, shape);
            };
            reference.attention_forward(f64(o, queries), f64(lse, rows), f64(q, queries),
                                        f64(k, keys), f64(v, keys), mask_of(host, c), scale_of(c));
            reference.attention_delta(f64(delta, rows), f64(dout, queries), f64(o, queries));

            const Tolerance tolerance =
                kind == Kind::element ? kAttentionGradient : kAttentionGradientInS;
            const Tensor dq = r.output("dq", queries, kind, tolerance, accumulate, c.pad),
                         dk = r.output("dk", keys, kind, tolerance, accumulate, c.pad);
            const Tensor dv = r.output("dv", keys, kind, tolerance, accumulate, c.pad);
            r.ops.attention_backward(
                dq, dk, dv, r.input(queries, Kind::element, dout, c.pad),
                r.input(queries, Kind::element, q, c.pad), r.input(keys, Kind::element, k, c.pad),
                r.input(keys, Kind::element, v, c.pad), r.input(rows, Kind::statistic, lse),
                r.input(rows, Kind::statistic, delta), mask_of(r, c), scale_of(c), accumulate);
          }};
}

inline std::vector<Case> attention_cases() {
  std::vector<Case> cases;
  int turn = 0;  // every combination of the flags meets several shapes
  for (const AttentionCase& c : attention_shapes()) {
    const Kind kind = turn % 2 == 0 ? Kind::element : Kind::statistic;
    cases.push_back(attention_forward_case(c, kind));
    cases.push_back(attention_merge_case(c, kind));
    cases.push_back(attention_delta_case(c));
    cases.push_back(attention_backward_case(c, kind, turn / 2 % 2 == 0));
    ++turn;
  }
  return cases;
}

inline std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& part : {matmul_cases(),
                           rmsnorm_cases(),
                           rope_cases(),
                           swiglu_cases(),
                           activation_cases(),
                           attention_cases(),
                           row_cases(),
                           cross_entropy_cases(),
                           elementwise_cases(),
                           reduction_cases(),
                           adamw_cases(),
                           combine_cases(),
                           normalise_cases(),
                           momentum_cases(),
                           vq_search_cases(),
                           vq_codebook_cases(),
                           quantization_cases(),
                           entry_cases(),
                           inverse_cholesky_cases(),
                           bound_cases(),
                           rotation_cases(),
                           dot_cases()})
    cases.insert(cases.end(), part.begin(), part.end());
  return cases;
}

inline std::vector<Case> cases_of(Op op) {
  std::vector<Case> cases;
  for (const Case& c : all_cases())
    if (c.op == op) cases.push_back(c);
  return cases;
}

}  // namespace strait::testing
