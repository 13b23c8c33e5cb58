// Mixtures of subspaces that never form keys and values (specs/mixture_of_subspaces.md 2.1 and 13, M22): C = X (W U) beside C = (X W) U.
#include "tests/engine/mixture_matrices.h"

namespace strait::testing {
namespace {

std::vector<MixtureCase> cases() {
  using A = ContextAlgorithm;
  using L = TokenLayout;
  std::vector<MixtureCase> all;
  const auto add = [&](int shards, A algorithm, L layout, const std::string& scope,
                       const std::string& rotation, const std::string& source) -> MixtureCase& {
    MixtureCase c;
    c.shards = shards;
    c.columns = 3 * c.head_width;
    c.options.algorithm = algorithm;
    c.options.layout = layout;
    c.mixture.scope = scope;
    if (scope == "per_head") c.mixture.rank_k = 2, c.mixture.rank_v = 3;
    c.mixture.rotation = rotation;
    c.mixture.theta_source = source;
    if (rotation != "none" && rotation != "random") c.with_heads(0.25);
    c.qkv = random_qkv(c);
    all.push_back(c);
    return all.back();
  };
  for (const char* scope : {"layer", "per_head"})
    for (const char* source : {"chunk_mean", "prev_piece", "constant", "zero", "random"})
      add(2, A::ring, L::zigzag, scope, "taylor2", source);
  add(1, A::ring, L::zigzag, "layer", "taylor2", "chunk_mean");
  add(3, A::allgather, L::contiguous, "layer", "exp", "prev_piece");
  add(2, A::ring, L::zigzag, "per_head", "cayley", "chunk_mean").mixture.clip = "tanh";
  add(3, A::ring, L::striped, "layer", "plane", "chunk_mean").options.bwd_schedule =
      RingBackward::reverse;
  add(2, A::allgather, L::zigzag, "layer", "random", "chunk_mean").options.kv_send =
      KeyValueSend::needed;
  add(2, A::ring, L::zigzag, "layer", "none", "prev_piece");
  for (const char* scope : {"layer", "per_head"})
    add(2, A::ring, L::zigzag, scope, "none", "prev_piece").mixture.basis_opt = "stiefel";
  return all;
}

// What the absorbed path is given: the same X and W.
ContextInputs absorbed_inputs(MixtureCase& c, const Projected& p) {
  c.mixture.projection = "absorbed";
  ContextInputs in = p.in;
  in.x = p.x;
  in.qkv = c.qkv;
  return in;
}

// dX and dW through keys and values, from dZ.
struct OfInput {
  Values dx, dqkv;
};
OfInput through_projection(const MixtureCase& c, const Projected& p, const ContextResult& r) {
  OfInput sums{Values(p.x.size(), 0.0), Values(c.qkv.size(), 0.0)};
  const int64_t width = int64_t{c.kv_heads} * c.head_width, first = int64_t{c.heads} * c.head_width;
  for (int64_t z = 0; z < 2; ++z)
    for (int64_t t = 0; t < c.sequences * c.tokens; ++t)
      for (int64_t i = 0; i < width; ++i)
        for (int64_t j = 0; j < c.columns; ++j) {
          const double dz = (z == 0 ? r.dk : r.dv)[static_cast<size_t>(t * width + i)];
          const auto at_x = static_cast<size_t>(t * c.columns + j),
                     at_w = static_cast<size_t>((first + z * width + i) * c.columns + j);
          sums.dx[at_x] += dz * c.qkv[at_w];
          sums.dqkv[at_w] += dz * p.x[at_x];
        }
  return sums;
}

void expect_near(const Values& actual, const Values& expected, double tolerance,
                 const std::string& what) {
  double most = 1;
  for (double x : expected) most = std::max(most, std::abs(x));
  EXPECT_LE(largest_difference(actual, expected), tolerance * most) << what;
}

Values sum_of_ranks(const std::vector<Values>& parts) {
  Values sum(parts.at(0).size(), 0.0);
  for (const Values& part : parts)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  return sum;
}

void expect_same(MixtureCase c, DType dtype, double tolerance) {
  SCOPED_TRACE(text_of(c));
  const Projected p = projected(c, c.qkv);
  const MixtureRun direct = run_mixture(c, p.in);
  const OfInput expected = through_projection(c, p, direct.result);
  const ContextInputs in = absorbed_inputs(c, p);
  c.dtype = dtype;
  const MixtureRun run = run_mixture(c, in);
  expect_near(run.result.o, direct.result.o, tolerance, "o");
  expect_near(run.result.dq, direct.result.dq, tolerance, "dq");
  expect_near(run.result.dx, expected.dx, tolerance, "dX");
  expect_near(sum_of_ranks(run.result.dqkv), expected.dqkv, tolerance, "dW");
  ASSERT_EQ(run.gradients.size(), direct.gradients.size());
  for (const auto& [name, gradient] : run.gradients)
    expect_near(gradient, direct.gradients.at(name), tolerance, name);
}

TEST(MixtureOfSubspaces, Invariant22_AbsorbedProjectionsAreTheDirectOnes) {
  for (const MixtureCase& c : cases()) expect_same(c, DType::f64, 1e-11);
}

TEST(MixtureOfSubspaces, Invariant22_InSinglePrecision) {
  for (const MixtureCase& c : cases()) {
    // Drawn in the type of the run, another draw is another function.
    if (c.mixture.theta_source == "random" || c.mixture.rotation == "random") continue;
    // M8's bound: some 100 roundings of sums of a few hundred terms.
    expect_same(c, DType::f32, 1e-5);
  }
}

// Rounding X, W U and dX instead of Z and dZ: not further from the exact function than twice what the direct path is. Of
// heads all cases together: their gradients are few numbers that nearly cancel.
TEST(MixtureOfSubspaces, Invariant22_InBfloat16RoundsAsTheDirectPathDoes) {
  double heads = 0, rough_heads = 0;
  for (MixtureCase c : cases()) {
    if (c.mixture.theta_source == "random" || c.mixture.rotation == "random") continue;
    SCOPED_TRACE(text_of(c));
    for (double& w : c.qkv) w = rounded_to(w, DType::bf16);
    const Projected p = projected(c, c.qkv, DType::bf16);
    const MixtureRun exact = run_mixture(c, p.in);
    const OfInput of_exact = through_projection(c, p, exact.result);
    MixtureCase direct = c;
    direct.dtype = DType::bf16;
    const MixtureRun rough = run_mixture(direct, p.in);
    const OfInput of_rough = through_projection(c, p, rough.result);
    const ContextInputs in = absorbed_inputs(c, p);
    c.dtype = DType::bf16;
    const MixtureRun run = run_mixture(c, in);
    EXPECT_LE(nrmse(run.result.o, exact.result.o), 2 * nrmse(rough.result.o, exact.result.o));
    EXPECT_LE(nrmse(run.result.dx, of_exact.dx), 2 * nrmse(of_rough.dx, of_exact.dx));
    EXPECT_LE(nrmse(sum_of_ranks(run.result.dqkv), of_exact.dqkv),
              2 * nrmse(of_rough.dqkv, of_exact.dqkv));
    for (const auto& [name, gradient] : exact.gradients) {
      if (std::none_of(gradient.begin(), gradient.end(), [](double x) { return x != 0; })) continue;
      heads += nrmse(run.gradients.at(name), gradient);
      rough_heads += nrmse(rough.gradients.at(name), gradient);
    }
  }
  EXPECT_LE(heads, 2 * rough_heads);
}

TEST(MixtureOfSubspaces, Invariant22_AbsorbedGradientsAreFiniteDifferences) {
  for (MixtureCase c : cases()) {
    if (c.mixture.basis_opt == "stiefel") continue;  // its basis is compared above
    SCOPED_TRACE(text_of(c));
    const Projected p = projected(c, c.qkv);
    ContextInputs in = absorbed_inputs(c, p);
    const MixtureRun run = run_mixture(c, in);
    c.frames = run.frames;
    const Values dqkv = sum_of_ranks(run.result.dqkv);
    // h^2 times third derivatives and 1e-15 / h are both below 1e-8.
    const auto expect = [&](const std::string& name, Values& x, const Values& gradient,
                            size_t begin) {
      for (size_t i = begin; i < x.size(); i += std::max<size_t>(1, (x.size() - begin) / 4)) {
        const double before = x[i], h = 2e-5;
        x[i] = before + h;
        const double up = loss_of(run_mixture(c, in, false).result.o, in.dout);
        x[i] = before - h;
        const double down = loss_of(run_mixture(c, in, false).result.o, in.dout);
        x[i] = before;
        const double d = (up - down) / (2 * h);
        EXPECT_NEAR(gradient[i], d, 1e-6 * std::max(1.0, std::abs(d))) << name << " " << i;
      }
    };
    const auto queries = static_cast<size_t>(int64_t{c.heads} * c.head_width * c.columns);
    expect("x", in.x, run.result.dx, 5);
    expect("W", in.qkv, dqkv, queries + 3);
    for (auto& [name, values] : c.parameters) expect(name, values, run.gradients.at(name), 0);
    for (size_t i = 0; i < queries; ++i) EXPECT_EQ(dqkv[i], 0);
  }
}

TEST(MixtureOfSubspaces, AbsorbedProjectionsRefuseExactOwnBlocks) {
  MixtureCase c;
  c.mixture.projection = "absorbed";
  c.mixture.local_block = "exact";
  try {
    validate(c.mixture, c.shape(), TokenLayout::zigzag, 1, DType::f32);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find("projection: absorbed"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace strait::testing
