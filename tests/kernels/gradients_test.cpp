// The reference's backward ops against central differences of its forward ops, in double precision:
// for a scalar L = sum w y(x), dL/dx_i = (L(x + h e_i) - L(x - h e_i)) / 2h + O(h^2). With h = 1e-5
// the truncation is 1e-10 relative and the cancellation 1e-11; the bound of 1e-6 leaves room for
// large third derivatives.
#include "kernels/reference/reference.h"
#include "tests/kernels/attention_cases.h"

namespace strait::testing {
namespace {

using Values = std::vector<double>;

class Gradient : public ::testing::Test {
 protected:
  Values random(int64_t n, double spread = 1) {
    Values x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i) x[i] = spread * normal_at(Philox{3}, stream_, i);
    ++stream_;
    return x;
  }
  static Tensor f64(Values& x, Shape shape) { return Tensor(x.data(), DType::f64, shape); }

  static void expect_gradient(const std::string& name, Values& x, const Values& gradient,
                              const std::function<double()>& loss) {
    constexpr double h = 1e-5;
    Values numeric(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const double before = x[i];
      x[i] = before + h;
      const double up = loss();
      x[i] = before - h;
      const double down = loss();
      x[i] = before;
      numeric[i] = (up - down) / (2 * h);
    }
    EXPECT_LE(nrmse(gradient, numeric), 1e-6) << name;
  }
  static double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  }

  ReferenceBackend ops_;
  uint64_t stream_ = 0;
};

TEST_F(Gradient, OfRmsnormIsItsBackward) {
  constexpr int64_t N = 3, C = 7;
  Values x = random(N * C), w = random(C), dy = random(N * C), y(N * C), rstd(N), dx(N * C),
         dw(C, 0.0);
  const auto loss = [&] {
    ops_.rmsnorm_forward(f64(y, {N, C}), f64(rstd, {N}), f64(x, {N, C}), f64(w, {C}), 1e-3);
    return dot(dy, y);
  };
  loss();
  ops_.rmsnorm_backward(f64(dx, {N, C}), f64(dw, {C}), f64(dy, {N, C}), f64(x, {N, C}), f64(w, {C}),
                        f64(rstd, {N}), false);
  expect_gradient("x", x, dx, loss);
  expect_gradient("w", w, dw, loss);
}

TEST_F(Gradient, OfSwigluIsItsBackward) {
  constexpr int64_t N = 4, F = 5;
  Values gate_up = random(N * 2 * F, 2), dy = random(N * F), y(N * F), gradient(N * 2 * F);
  ops_.swiglu_backward(f64(gradient, {N, 2 * F}), f64(dy, {N, F}), f64(gate_up, {N, 2 * F}));
  expect_gradient("gate_up", gate_up, gradient, [&] {
    ops_.swiglu_forward(f64(y, {N, F}), f64(gate_up, {N, 2 * F}));
    return dot(dy, y);
  });
}

TEST_F(Gradient, OfActivationsIsTheirBackward) {
  constexpr int64_t N = 40;
  for (const Activation a : {Activation::silu, Activation::relu, Activation::gelu}) {
    Values x = random(N, 2), dy = random(N), y(N), gradient(N);
    ops_.activation_backward(f64(gradient, {N}), f64(dy, {N}), f64(x, {N}), a);
    expect_gradient("x", x, gradient, [&] {
      ops_.activation_forward(f64(y, {N}), f64(x, {N}), a);
      return dot(dy, y);
    });
  }
}

TEST_F(Gradient, OfABoundIsItsBackward) {
  constexpr int64_t N = 40;
  for (const Bound bound : {Bound::hard, Bound::tanh}) {
    Values x = random(N, 1), dy = random(N), y(N), gradient(N);
    ops_.bound_backward(f64(gradient, {N}), f64(dy, {N}), f64(x, {N}), bound, 0.5);
    expect_gradient("x", x, gradient, [&] {
      ops_.bound_forward(f64(y, {N}), f64(x, {N}), bound, 0.5);
      return dot(dy, y);
    });
  }
}

TEST_F(Gradient, OfRotationCoefficientsIsTheirDerivative) {
  constexpr int64_t N = 7;
  for (const RotationSeries series : {RotationSeries::powers, RotationSeries::plane}) {
    const int64_t J = series == RotationSeries::plane ? 3 : 6;
    const auto count = static_cast<size_t>(N * J);
    Values angle = random(N), df = random(N * J), f(count), slope(count), gradient(N);
    ops_.rotation_coefficients(f64(slope, {N, J}), f64(angle, {N}), series, true);
    ops_.dot_rows(f64(gradient, {N}), f64(slope, {N, J}), f64(df, {N, J}), false);
    expect_gradient("angle", angle, gradient, [&] {
      ops_.rotation_coefficients(f64(f, {N, J}), f64(angle, {N}), series, false);
      return dot(df, f);
    });
  }
}

TEST_F(Gradient, OfRopeIsTheInverseRotation) {
  constexpr int64_t B = 2, T = 3, H = 2, Dh = 6, n = B * T * H * Dh;
  Values x = random(n), dy = random(n), table;
  for (int64_t p = 0; p < T; ++p)
    for (int64_t i = 0; i < Dh; ++i) {
      const double angle = 0.7 * static_cast<double>(p + 1) * static_cast<double>(i % (Dh / 2) + 1);
      table.push_back(i < Dh / 2 ? std::cos(angle) : std::sin(angle));
    }
  std::vector<int32_t> positions = {2, 0, 1};
  const Tensor where(positions.data(), DType::i32, {T});
  Values gradient = dy;
  ops_.rope(f64(gradient, {B, T, H, Dh}), f64(table, {T, Dh}), where, true);
  expect_gradient("x", x, gradient, [&] {
    Values y = x;
    ops_.rope(f64(y, {B, T, H, Dh}), f64(table, {T, Dh}), where, false);
    return dot(dy, y);
  });
}

TEST_F(Gradient, OfCrossEntropyIsWhatItLeavesInTheLogits) {
  constexpr int64_t N = 4, V = 9;
  Values logits = random(N * V, 2), loss_of_row(N);
  std::vector<int32_t> targets = {3, -1, 0, 8};
  const Tensor target(targets.data(), DType::i32, {N});
  Values gradient = logits;
  ops_.cross_entropy(f64(loss_of_row, {N}), f64(gradient, {N, V}), target, 0.25, true);
  expect_gradient("logits", logits, gradient, [&] {
    ops_.cross_entropy(f64(loss_of_row, {N}), f64(logits, {N, V}), target, 0.25, false);
    return 0.25 * dot(loss_of_row, Values(N, 1.0));
  });
}

TEST_F(Gradient, OfAttentionIsItsBackward) {
  AttentionCase grouped{"", 2, 6, 9, 4, 2, 3, 0, true, count_from(3, 6), count_from(0, 9), {}, {}};
  AttentionCase documents{"",
                          1,
                          7,
                          7,
                          2,
                          1,
                          4,
                          0,
                          true,
                          count_from(0, 7),
                          count_from(0, 7),
                          {1, 1, 2, 2, 2, 3, 3},
                          {1, 1, 2, 2, 2, 3, 3}};
  AttentionCase partly_empty{"", 1, 5, 4, 1, 1, 4, 0, true, count_from(0, 5), count_from(2, 4),
                             {}, {}};
  for (const AttentionCase& c : {grouped, documents, partly_empty}) {
    const Shape queries{c.B, c.Tq, c.H, c.Dh}, keys{c.B, c.Tk, c.Hkv, c.Dh}, rows{c.B, c.H, c.Tq};
    Values q = random(queries.elements()), k = random(keys.elements()), v = random(keys.elements()),
           dout = random(queries.elements());
    Values o(q.size()), lse(static_cast<size_t>(rows.elements())), delta(lse.size()), dq(q.size()),
        dk(k.size()), dv(v.size());
    Runner host(ops_, DType::f64, DType::f64);
    const AttentionMask mask = mask_of(host, c);
    const auto loss = [&] {
      ops_.attention_forward(f64(o, queries), f64(lse, rows), f64(q, queries), f64(k, keys),
                             f64(v, keys), mask, 0.6);
      return dot(dout, o);
    };
    loss();
    ops_.attention_delta(f64(delta, rows), f64(dout, queries), f64(o, queries));
    ops_.attention_backward(f64(dq, queries), f64(dk, keys), f64(dv, keys), f64(dout, queries),
                            f64(q, queries), f64(k, keys), f64(v, keys), f64(lse, rows),
                            f64(delta, rows), mask, 0.6, false);
    expect_gradient("q", q, dq, loss);
    expect_gradient("k", k, dk, loss);
    expect_gradient("v", v, dv, loss);
  }
}

}  // namespace
}  // namespace strait::testing
