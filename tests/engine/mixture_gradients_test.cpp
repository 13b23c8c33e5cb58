// Mixtures of subspaces on P ranks: against plain loops over the same chunks, against finite differences, and under a change of basis
// (specs/mixture_of_subspaces.md 13, M8 to M11).
#include "tests/engine/mixture_support.h"

namespace strait::testing {
namespace {

// Rings and all-gathers, layouts, scopes, rotations and sources of angles; each value of each option at least once.
std::vector<MixtureCase> cases() {
  using A = ContextAlgorithm;
  using L = TokenLayout;
  std::vector<MixtureCase> all;
  const auto add = [&](int shards, A algorithm, L layout, const std::string& scope,
                       const std::string& rotation, const std::string& source) -> MixtureCase& {
    MixtureCase c;
    c.shards = shards;
    c.options.algorithm = algorithm;
    c.options.layout = layout;
    c.mixture.scope = scope;
    if (scope == "per_head") c.mixture.rank_k = 2, c.mixture.rank_v = 3;
    c.mixture.rotation = rotation;
    c.mixture.theta_source = source;
    if (rotation != "none") c.with_heads(0.25);
    all.push_back(c);
    return all.back();
  };
  add(1, A::ring, L::zigzag, "layer", "taylor2", "chunk_mean");
  add(3, A::ring, L::zigzag, "layer", "taylor2", "chunk_mean");
  add(3, A::ring, L::zigzag, "layer", "taylor2", "prev_piece");
  add(2, A::ring, L::zigzag, "per_head", "exp", "prev_piece").options.bwd_schedule =
      RingBackward::reverse;
  add(3, A::allgather, L::contiguous, "layer", "exp", "prev_piece");
  add(2, A::allgather, L::zigzag, "per_head", "taylor2", "chunk_mean").options.keep_gathered_kv =
      true;
  add(3, A::allgather, L::zigzag, "layer", "cayley", "prev_piece").options.kv_send =
      KeyValueSend::needed;
  add(2, A::ring, L::contiguous, "layer", "cayley", "constant");
  add(4, A::ring, L::contiguous, "per_head", "plane", "prev_piece").options.kv_send =
      KeyValueSend::needed;
  add(2, A::ring, L::striped, "layer", "taylor2", "constant");
  add(3, A::ring, L::striped, "layer", "plane", "chunk_mean");
  add(2, A::ring, L::zigzag, "layer", "none", "prev_piece");
  add(2, A::ring, L::zigzag, "layer", "taylor2", "zero");
  add(2, A::ring, L::zigzag, "layer", "taylor2", "prev_piece").mixture.clip = "tanh";
  add(2, A::allgather, L::zigzag, "per_head", "exp", "chunk_mean").mixture.clip = "tanh";
  return all;
}

void expect_near(const Values& actual, const Values& expected, double tolerance,
                 const std::string& what) {
  double largest = 1;
  for (double x : expected) largest = std::max(largest, std::abs(x));
  EXPECT_LE(largest_difference(actual, expected), tolerance * largest) << what;
}

void expect_equal(const MixtureRun& run, const MixtureRun& expected, double tolerance) {
  expect_near(run.result.o, expected.result.o, tolerance, "o");
  expect_near(run.result.dq, expected.result.dq, tolerance, "dq");
  expect_near(run.result.dk, expected.result.dk, tolerance, "dZ of keys");
  expect_near(run.result.dv, expected.result.dv, tolerance, "dZ of values");
  for (const auto& [name, gradient] : run.gradients)
    expect_near(gradient, expected.gradients.at(name), tolerance, name);
}

// dX and dW of the projections are linear in dq and dZ, and token-local: the same code as without a codec.
TEST(MixtureOfSubspaces, Invariant08_RanksAreOneProcessWithTheSameChunks) {
  for (MixtureCase& c : cases()) {
    SCOPED_TRACE(text_of(c));
    const ContextInputs in = context_inputs(c, c.dtype);
    const MixtureRun run = run_mixture(c, in);
    expect_equal(run, MixtureOracle(c, in, run.frames).run(), 1e-11);
  }
}

TEST(MixtureOfSubspaces, Invariant08_InSinglePrecision) {
  for (MixtureCase& c : cases()) {
    c.dtype = DType::f32;
    SCOPED_TRACE(text_of(c));
    const ContextInputs in = context_inputs(c, c.dtype);
    const MixtureRun run = run_mixture(c, in);
    MixtureCase exact = c;
    exact.dtype = DType::f64;
    // The basis that the ranks have, in single precision: 1e-5 is M8's bound, some 100 roundings.
    expect_equal(run, MixtureOracle(exact, in, run.frames).run(), 1e-5);
  }
}

// Of every gradient some entries: those of queries, of keys and values before RoPE, of the heads.
void expect_finite_differences(MixtureCase c) {
  SCOPED_TRACE(text_of(c));
  ContextInputs in = context_inputs(c, c.dtype);
  const MixtureRun run = run_mixture(c, in);
  c.frames = run.frames;
  // h^2 times third derivatives and 1e-15 / h are both below 1e-8.
  const auto difference = [&](double& x) {
    const double before = x, h = 2e-5;
    x = before + h;
    const double up = loss_of(run_mixture(c, in, false).result.o, in.dout);
    x = before - h;
    const double down = loss_of(run_mixture(c, in, false).result.o, in.dout);
    x = before;
    return (up - down) / (2 * h);
  };
  const auto expect = [&](const std::string& name, Values& x, const Values& gradient, size_t some) {
    for (size_t i = x.size() / (2 * some); i < x.size();
         i += std::max<size_t>(1, x.size() / some)) {
      const double d = difference(x[i]);
      EXPECT_NEAR(gradient[i], d, 1e-6 * std::max(1.0, std::abs(d))) << name << " " << i;
    }
  };
  expect("q", in.q, run.result.dq, 2);
  expect("k", in.k, run.result.dk, 4);
  expect("v", in.v, run.result.dv, 4);
  for (auto& [name, values] : c.parameters) expect(name, values, run.gradients.at(name), 3);
}

TEST(MixtureOfSubspaces, Invariant09_GradientsAreFiniteDifferences) {
  for (MixtureCase& c : cases()) expect_finite_differences(c);
}

TEST(MixtureOfSubspaces, Invariant09_WithExactOwnBlocks) {
  for (const char* source : {"chunk_mean", "prev_piece"})
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
      MixtureCase c;
      c.shards = 2;
      c.options.algorithm = algorithm;
      c.mixture.local_block = "exact";
      c.mixture.theta_source = source;
      c.with_heads(0.25);
      expect_finite_differences(c);
    }
}

TEST(MixtureOfSubspaces, Invariant10_AnglesHaveTheGradientsOfReceiversAndOwner) {
  MixtureCase c;
  c.shards = 3;
  c.mixture.theta_source = "chunk_mean";
  c.with_heads(0.25);
  const ContextInputs in = context_inputs(c, c.dtype);
  const MixtureRun run = run_mixture(c, in);
  for (const bool receivers : {false, true}) {
    const MixtureRun partial =
        MixtureOracle(c, in, run.frames).run({.receivers = receivers, .owner = !receivers});
    for (const char* name : {"k.theta_proj.weight", "v.theta_proj.weight"})
      EXPECT_GT(nrmse(partial.gradients.at(name), run.gradients.at(name)), 1e-2) << name;
    EXPECT_GT(largest_difference(partial.result.dk, run.result.dk), 1e-4);
  }
}

// Ubar -> Ubar Q, and so all M_j, with an orthogonal Q.
TEST(MixtureOfSubspaces, Invariant11_ABasisIsKnownUpToAnOrthogonalChange) {
  for (const char* rotation : {"taylor2", "exp", "plane"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.rotation = rotation;
    c.mixture.theta_source = "chunk_mean";
    c.with_heads(0.25);
    const ContextInputs in = context_inputs(c, c.dtype);
    const MixtureRun run = run_mixture(c, in);
    Named turned = run.frames;
    for (int z = 0; z < 2; ++z) {
      Values& frames = turned.at(z == 0 ? "k.frames" : "v.frames");
      const int64_t r = c.rank(z), rows = static_cast<int64_t>(frames.size()) / r;
      Matrix q(r, r), all(rows, r);
      q.x = normal_values(static_cast<size_t>(r * r), 91, 1);
      q = polar_factor(q);
      all.x = frames;
      frames = product(all, q).x;
    }
    c.frames = turned;
    expect_equal(run_mixture(c, in), run, 1e-11);
  }
}

}  // namespace
}  // namespace strait::testing
