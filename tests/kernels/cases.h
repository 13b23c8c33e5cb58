// The cases of every op: sizes that are odd, 1, or no multiple of 16 beside regular ones, strided
// operands where an op takes them, every flag on and off. Adding an op means adding its cases here;
// the consistency test fails until that is done.
#pragma once

#include "tests/kernels/harness.h"

namespace strait::testing {

// nrmse bounds; the reasons stand in docs/numerics.md.
inline constexpr Tolerance kElementwise{
    1e-6, 3e-3};  // bf16: the output's rounding (1.66e-3), less than twice
inline constexpr Tolerance kStatistic{1e-6, 1e-6};    // f32 results of already rounded inputs
inline constexpr Tolerance kSumOverRows{3e-6, 3e-6};  // f32 sums over many rows
inline constexpr Tolerance kProduct{3e-6, 2e-3};  // f32 accumulation; bf16: the output's rounding
inline constexpr Tolerance kProductInS{3e-6, 3e-6};
inline constexpr Tolerance kAttention{5e-6, 4e-3};
inline constexpr Tolerance kAttentionInS{5e-6, 5e-6, 3e-3};
inline constexpr Tolerance kMerge{2e-6, 2e-6};  // f32 exp, log1p and fma of already rounded inputs
inline constexpr Tolerance kAttentionGradient{2e-5, 8e-3};
inline constexpr Tolerance kAttentionGradientInS{2e-5, 2e-5, 3e-3};

// "matmul M N K", {1, 2, 3} -> "matmul M N K 1 2 3"
inline std::string text(std::string name, std::initializer_list<int64_t> numbers) {
  for (int64_t n : numbers) name.append(1, ' ').append(std::to_string(n));
  return name;
}

inline std::vector<Case> matmul_cases() {
  std::vector<Case> cases;
  const std::vector<std::array<int64_t, 3>> shapes = {{37, 53, 29}, {64, 64, 64},  {5, 7, 3},
                                                      {1, 33, 17},  {70, 40, 130}, {48, 1, 40}};
  for (const auto& [M, N, K] : shapes)
    for (int flags = 0; flags < 16; ++flags)
      for (int64_t pad : {int64_t{0}, int64_t{6}}) {
        const bool ta = flags & 1, tb = flags & 2, accumulate = flags & 4, y_in_s = flags & 8;
        cases.push_back(
            {Op::matmul, text("matmul M N K flags pad", {M, N, K, flags, pad}), [=](Runner& r) {
               const Kind kind = y_in_s ? Kind::statistic : Kind::element;
               const Tensor a = r.input(ta ? Shape{K, M} : Shape{M, K}, Kind::element, 1, pad);
               const Tensor b = r.input(tb ? Shape{N, K} : Shape{K, N}, Kind::element, 1, pad);
               const Tensor y =
                   r.output("y", {M, N}, kind, y_in_s ? kProductInS : kProduct, accumulate, pad);
               r.ops.matmul(y, a, ta, b, tb, accumulate);
             }});
      }
  return cases;
}

inline std::vector<Case> rmsnorm_cases() {
  std::vector<Case> cases;
  for (const auto& [N, C] :
       std::vector<std::array<int64_t, 2>>{{1, 1}, {3, 16}, {129, 72}, {65, 257}, {2, 1000}}) {
    cases.push_back({Op::rmsnorm_forward, text("rmsnorm_forward N C", {N, C}), [=](Runner& r) {
                       const Tensor x = r.input({N, C}), w = r.input({C});
                       r.ops.rmsnorm_forward(r.output("y", {N, C}, Kind::element, kElementwise),
                                             r.output("rstd", {N}, Kind::statistic, kStatistic), x,
                                             w, 1e-5);
                     }});
    for (int alias : {0, 1, 2})
      cases.push_back(
          {Op::add_rmsnorm_forward, text("add_rmsnorm_forward N C alias", {N, C, alias}),
           [=](Runner& r) {
             const Tensor x = r.input({N, C}), delta = r.input({N, C}), w = r.input({C});
             const Tensor sum = alias == 1   ? r.watch("sum", x, kElementwise)
                                : alias == 2 ? r.watch("sum", delta, kElementwise)
                                             : r.output("sum", {N, C}, Kind::element, kElementwise);
             // The statistic sees the sum as rounded to T; for a single bf16 element that is one
             // rounding, 2^-9 at most.
             r.ops.add_rmsnorm_forward(sum, r.output("y", {N, C}, Kind::element, kElementwise),
                                       r.output("rstd", {N}, Kind::statistic, {1e-6, 3e-3}), x,
                                       delta, w, 1e-5);
           }});
    for (bool accumulate : {false, true})
      cases.push_back({Op::rmsnorm_backward,
                       text("rmsnorm_backward N C accumulate", {N, C, accumulate}), [=](Runner& r) {
                         const Tensor dy = r.input({N, C}), x = r.input({N, C}), w = r.input({C});
                         std::vector<double> values = r.random({N}, Kind::statistic, 0.1);
                         for (double& v : values) v = 1.0 + std::abs(v);
                         const Tensor rstd = r.input({N}, Kind::statistic, values);
                         // With one channel dx cancels to nothing: its error is measured against
                         // the terms, not the difference.
                         r.ops.rmsnorm_backward(
                             r.output("dx", {N, C}, Kind::element,
                                      C == 1 ? Tolerance{1e-5, 3e-3} : kElementwise, accumulate),
                             r.output("dw", {C}, Kind::statistic, kSumOverRows, true), dy, x, w,
                             rstd, accumulate);
                       }});
  }
  return cases;
}

inline std::vector<Case> rope_cases() {
  std::vector<Case> cases;
  for (const auto& [B, T, H, Dh] : std::vector<std::array<int64_t, 4>>{
           {1, 1, 1, 2}, {2, 5, 3, 32}, {1, 33, 2, 20}, {2, 7, 4, 128}})
    for (bool inverse : {false, true})
      for (int64_t pad : {int64_t{0}, int64_t{6}})
        cases.push_back({Op::rope, text("rope B T H Dh inverse pad", {B, T, H, Dh, inverse, pad}),
                         [=](Runner& r) {
                           const int64_t P = 3 * T;
                           std::vector<double> table;
                           for (int64_t p = 0; p < P; ++p)
                             for (int64_t i = 0; i < Dh; ++i) {
                               const double angle =
                                   static_cast<double>(p) *
                                   std::pow(1e4, -2.0 * static_cast<double>(i % (Dh / 2)) /
                                                     static_cast<double>(Dh));
                               table.push_back(i < Dh / 2 ? std::cos(angle) : std::sin(angle));
                             }
                           std::vector<int> positions;
                           for (int64_t t = 0; t < T; ++t)
                             positions.push_back(static_cast<int>((7 * t + 2) % P));
                           const Tensor x =
                               r.output("x", {B, T, H, Dh}, Kind::element, kElementwise, true, pad);
                           r.ops.rope(x, r.input({P, Dh}, Kind::statistic, table),
                                      r.integers({T}, positions), inverse);
                         }});
  return cases;
}

inline std::vector<Case> swiglu_cases() {
  std::vector<Case> cases;
  for (const auto& [N, F] :
       std::vector<std::array<int64_t, 2>>{{1, 1}, {3, 16}, {65, 171}, {4, 704}})
    for (double spread : {1.0, 30.0}) {  // 30: gates beyond the range of exp
      cases.push_back(
          {Op::swiglu_forward,
           text("swiglu_forward N F spread", {N, F, static_cast<int64_t>(spread)}), [=](Runner& r) {
             const Tensor gate_up = r.input({N, 2 * F}, Kind::element, spread);
             r.ops.swiglu_forward(r.output("y", {N, F}, Kind::element, kElementwise), gate_up);
           }});
      for (bool in_place : {false, true})
        cases.push_back({Op::swiglu_backward,
                         text("swiglu_backward N F spread in_place",
                              {N, F, static_cast<int64_t>(spread), in_place}),
                         [=](Runner& r) {
                           const Tensor dy = r.input({N, F}),
                                        gate_up = r.input({N, 2 * F}, Kind::element, spread);
                           const Tensor dgate_up =
                               in_place
                                   ? r.watch("dgate_up", gate_up, kElementwise)
                                   : r.output("dgate_up", {N, 2 * F}, Kind::element, kElementwise);
                           r.ops.swiglu_backward(dgate_up, dy, gate_up);
                         }});
    }
  return cases;
}

inline std::vector<Case> activation_cases() {
  std::vector<Case> cases;
  for (const Activation a : {Activation::silu, Activation::relu, Activation::gelu})
    for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}})
      for (double spread : {1.0, 30.0})  // 30: beyond the range of exp
        for (bool in_place : {false, true}) {
          const std::string what =
              text("kind n spread in_place",
                   {static_cast<int64_t>(a), n, static_cast<int64_t>(spread), in_place});
          cases.push_back({Op::activation_forward, "activation_forward " + what, [=](Runner& r) {
                             const Tensor x = r.input({n}, Kind::element, spread);
                             r.ops.activation_forward(
                                 in_place ? r.watch("y", x, kElementwise)
                                          : r.output("y", {n}, Kind::element, kElementwise),
                                 x, a);
                           }});
          cases.push_back({Op::activation_backward, "activation_backward " + what, [=](Runner& r) {
                             const Tensor x = r.input({n}, Kind::element, spread),
                                          dy = r.input({n});
                             r.ops.activation_backward(
                                 in_place ? r.watch("dx", dy, kElementwise)
                                          : r.output("dx", {n}, Kind::element, kElementwise),
                                 dy, x, a);
                           }});
        }
  return cases;
}

inline std::vector<Case> row_cases() {
  std::vector<Case> cases;
  for (const auto& [N, V, C] :
       std::vector<std::array<int64_t, 3>>{{1, 1, 1}, {70, 13, 33}, {9, 300, 160}}) {
    std::vector<int> ids;  // with repeats, and in no order
    for (int64_t n = 0; n < N; ++n) ids.push_back(static_cast<int>((n * n * 5 + 3 * n) % V));
    cases.push_back({Op::gather_rows, text("gather_rows N V C", {N, V, C}), [=](Runner& r) {
                       const Tensor table = r.input({V, C});
                       r.ops.gather_rows(r.output("y", {N, C}, Kind::element, kExact), table,
                                         r.integers({N}, ids));
                     }});
    cases.push_back(
        {Op::scatter_add_rows, text("scatter_add_rows N V C", {N, V, C}), [=](Runner& r) {
           const Tensor dy = r.input({N, C});
           r.ops.scatter_add_rows(r.output("dtable", {V, C}, Kind::statistic, kSumOverRows, true),
                                  dy, r.integers({N}, ids));
         }});
    for (int kinds = 0; kinds < 8; ++kinds)
      for (bool in_place : {false, true}) {
        const auto kind = [kinds](int bit) {
          return kinds & bit ? Kind::statistic : Kind::element;
        };
        if (in_place && kind(1) != kind(2)) continue;
        const int64_t pad = in_place ? 0 : 6;
        cases.push_back(
            {Op::add_gathered_rows,
             text("add_gathered_rows N V C kinds in_place", {N, V, C, kinds, in_place}),
             [=](Runner& r) {
               const Tolerance tolerance = kind(1) == Kind::element ? kElementwise : kStatistic;
               const Tensor x = r.input({N, C}, kind(2), 1, pad), table = r.input({V, C}, kind(4));
               const Tensor y = in_place ? r.watch("y", x, tolerance)
                                         : r.output("y", {N, C}, kind(1), tolerance, false, pad);
               r.ops.add_gathered_rows(y, x, table, r.integers({N}, ids), -0.75);
             }});
      }
  }
  return cases;
}

inline std::vector<Case> cross_entropy_cases() {
  std::vector<Case> cases;
  for (const auto& [N, V] :
       std::vector<std::array<int64_t, 2>>{{1, 1}, {5, 97}, {33, 64}, {3, 4099}})
    for (bool gradient : {false, true})
      for (double spread : {1.0, 20.0})
        cases.push_back({Op::cross_entropy,
                         text("cross_entropy N V gradient spread",
                              {N, V, gradient, static_cast<int64_t>(spread)}),
                         [=](Runner& r) {
                           std::vector<int> targets;
                           for (int64_t n = 0; n < N; ++n)
                             targets.push_back(n % 4 == 3 ? -1
                                                          : static_cast<int>((n * 31 + 5) % V));
                           Tensor logits = r.input({N, V}, Kind::element, spread);
                           if (gradient) logits = r.watch("logits", logits, kElementwise);
                           r.ops.cross_entropy(r.output("loss", {N}, Kind::statistic, kStatistic),
                                               logits, r.integers({N}, targets), 0.125, gradient);
                         }});
  return cases;
}

inline std::vector<Case> elementwise_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}}) {
    for (int alias : {0, 1, 2})
      cases.push_back({Op::add, text("add n alias", {n, alias}), [=](Runner& r) {
                         const Tensor a = r.input({n}), b = r.input({n});
                         const Tensor y = alias == 1 ? r.watch("y", a, kElementwise)
                                          : alias == 2
                                              ? r.watch("y", b, kElementwise)
                                              : r.output("y", {n}, Kind::element, kElementwise);
                         r.ops.add(y, a, b);
                       }});
    for (int kinds = 0; kinds < 4; ++kinds)
      cases.push_back(
          {Op::axpy, text("axpy n kinds", {n, kinds}), [=](Runner& r) {
             const Tensor x = r.input({n}, kinds & 1 ? Kind::statistic : Kind::element);
             const Kind kind = kinds & 2 ? Kind::statistic : Kind::element;
             r.ops.axpy(
                 r.output("y", {n}, kind, kind == Kind::element ? kElementwise : kStatistic, true),
                 0.3, x);
           }});
    for (Kind kind : {Kind::element, Kind::statistic})
      cases.push_back(
          {Op::scale, text("scale n kind", {n, kind == Kind::element}), [=](Runner& r) {
             r.ops.scale(
                 r.output("y", {n}, kind, kind == Kind::element ? kElementwise : kStatistic, true),
                 -1.7);
           }});
    for (int kinds = 0; kinds < 4; ++kinds)
      for (int64_t pad : {int64_t{0}, int64_t{6}})
        cases.push_back(
            {Op::cast, text("cast n kinds pad", {n, kinds, pad}), [=](Runner& r) {
               const Kind to = kinds & 2 ? Kind::statistic : Kind::element;
               const Tensor x =
                   r.input({2, n}, kinds & 1 ? Kind::statistic : Kind::element, 1, pad);
               // Only f32 to bf16 rounds.
               r.ops.cast(
                   r.output("y", {2, n}, to, kinds == 1 ? Tolerance{0, 2e-3} : kExact, false, pad),
                   x);
             }});
    cases.push_back({Op::fill, text("fill n", {n}), [=](Runner& r) {
                       r.ops.fill(r.output("y", {n}, Kind::element, kExact), 1.5);
                     }});
    cases.push_back({Op::random_normal, text("random_normal n", {n}), [=](Runner& r) {
                       r.ops.random_normal(r.output("y", {n}, Kind::element, {1e-7, 2e-3}),
                                           Philox{11}, 5, 0.02);
                     }});
  }
  return cases;
}

inline std::vector<Case> reduction_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{77}})
    for (int form : {0, 1, 2, 3})  // y apart, y = a, y = b, no b
      cases.push_back(
          {Op::add_statistics, text("add_statistics n form", {n, form}), [=](Runner& r) {
             const Tensor a = r.input({n}, Kind::f64), b = r.input({n}, Kind::f64);
             const Tensor y = form == 1   ? r.watch("y", a, kExact)
                              : form == 2 ? r.watch("y", b, kExact)
                                          : r.output("y", {n}, Kind::f64, kExact);
             r.ops.add_statistics(y, a, form == 3 ? Tensor{} : b);
           }});
  for (double squares : {0.0, 3.0, 4.0, 5.0, 1e30})  // the norm's limit is 2
    cases.push_back({Op::clip_factor,
                     text("clip_factor squares", {static_cast<int64_t>(std::min(squares, 1e18))}),
                     [=](Runner& r) {
                       // One rounding to S.
                       r.ops.clip_factor(r.output("factor", {1}, Kind::statistic, {1e-7, 1e-7}),
                                         r.input({1}, Kind::f64, std::vector<double>{squares}),
                                         2.0);
                     }});
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{4096}, int64_t{70001}})
    for (Kind kind : {Kind::element, Kind::statistic}) {
      const int64_t k = kind == Kind::element;
      cases.push_back({Op::sum, text("sum n kind", {n, k}), [=](Runner& r) {
                         // Positive terms: the error of a sum is relative to the sum of magnitudes.
                         std::vector<double> values = r.random({n}, kind, 1);
                         for (double& v : values) v = std::abs(v);
                         r.ops.sum(r.output("out", {1}, Kind::statistic, kStatistic),
                                   r.input({n}, kind, values));
                       }});
      cases.push_back({Op::sum_squares, text("sum_squares n kind", {n, k}), [=](Runner& r) {
                         r.ops.sum_squares(r.output("out", {1}, Kind::statistic, kStatistic),
                                           r.input({n}, kind));
                       }});
    }
  return cases;
}

inline std::vector<Case> adamw_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}})
    for (int64_t step : {int64_t{1}, int64_t{1000}})
      for (bool one_buffer : {false, true})
        cases.push_back(
            {Op::adamw, text("adamw n step one_buffer", {n, step, one_buffer}), [=](Runner& r) {
               const Tensor master = r.output("master", {n}, Kind::statistic, kStatistic, true);
               const bool shared = one_buffer && r.stored() == DType::f32;
               const Tensor compute =
                   shared ? master : r.output("compute", {n}, Kind::element, kElementwise);
               const Tensor m = r.output("m", {n}, Kind::statistic, kStatistic, true);
               std::vector<double> squares = r.random({n}, Kind::statistic, 1);
               for (double& v : squares) v = v * v;
               const Tensor v = r.watch("v", r.input({n}, Kind::statistic, squares), kStatistic);
               const Tensor grad = r.input({n}, Kind::statistic),
                            clip = r.input({1}, Kind::statistic, std::vector<double>{0.5});
               AdamWParameters p;
               p.lr = 1e-2, p.beta2 = 0.95, p.weight_decay = 0.1, p.step = step;
               r.ops.adamw(master, compute, m, v, grad, clip, p);
             }});
  for (const auto& [R, C] :
       std::vector<std::array<int64_t, 2>>{{1, 1}, {3, 77}, {65, 1000}, {300, 64}})
    for (int64_t step : {int64_t{1}, int64_t{1000}})
      for (bool one_buffer : {false, true})
        cases.push_back(
            {Op::adamw_rows, text("adamw_rows R C step one_buffer", {R, C, step, one_buffer}),
             [=](Runner& r) {
               const Tensor master = r.output("master", {R, C}, Kind::statistic, kStatistic, true);
               const bool shared = one_buffer && r.stored() == DType::f32;
               const Tensor compute =
                   shared ? master : r.output("compute", {R, C}, Kind::element, kElementwise);
               const Tensor m = r.output("m", {R, C}, Kind::statistic, kStatistic, true);
               std::vector<double> squares = r.random({R}, Kind::statistic, 1);
               for (double& v : squares) v = v * v;
               const Tensor v = r.watch("v", r.input({R}, Kind::statistic, squares), kStatistic);
               const Tensor grad = r.input({R, C}, Kind::statistic),
                            clip = r.input({1}, Kind::statistic, std::vector<double>{0.5});
               AdamWParameters p;
               p.lr = 1e-2, p.beta2 = 0.95, p.weight_decay = 0.1, p.step = step;
               r.ops.adamw_rows(master, compute, m, v, grad, clip, p);
             }});
  return cases;
}

}  // namespace strait::testing
