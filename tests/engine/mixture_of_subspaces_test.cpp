// Mixtures of subspaces: lossless cases, ranks that agree, causality, clipping (specs/mixture_of_subspaces.md 13, M1, M4 to M6, M12, M14, M15,
// M17). Gradients: mixture_gradients_test.cpp; bases and rotations: rotation_family_test.cpp; bytes and options: mixture_bytes_test.cpp;
// weights and states: mixture_state_test.cpp.
#include "tests/engine/mixture_matrices.h"

namespace strait::testing {
namespace {

TEST(MixtureOfSubspaces, Invariant01_BasesAreOrthonormal) {
  for (const char* scope : {"layer", "per_head"})
    for (const char* source : {"weights", "random"})
      for (DType dtype : {DType::f64, DType::f32}) {
        MixtureCase c;
        c.dtype = dtype;
        c.mixture.scope = scope;
        c.mixture.basis_source = source;
        c.mixture.rank_v = 4;
        const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype), false);
        for (int z = 0; z < 2; ++z)
          for (int64_t g = 0; g < c.groups(); ++g)
            EXPECT_LE(not_orthonormal(first_frame(c, run.frames, z, g)),
                      dtype == DType::f64 ? 1e-13 : 1e-6);
      }
}

TEST(MixtureOfSubspaces, Invariant04_WithoutATrainedHeadTheBasisIsUbarBitForBit) {
  for (DType dtype : {DType::f32, DType::f64}) {
    MixtureCase c;
    c.shards = 2;
    c.dtype = dtype;
    const ContextInputs in = context_inputs(c, dtype);
    Watched turning, fixed;
    watch(c, turning);
    const MixtureRun run = run_mixture(c, in);
    c.mixture.rotation = "none";
    watch(c, fixed);
    const MixtureRun none = run_mixture(c, in);
    for (double angle : turning.angles) EXPECT_EQ(angle, 0);
    EXPECT_EQ(turning.decoded, fixed.decoded);
    EXPECT_EQ(run.result.o, none.result.o);
    // The heads have gradients all the same: dU/dtheta = A Ubar.
    for (const char* name : {"k.theta_proj.weight", "v.theta_proj.weight"})
      EXPECT_GT(largest(matrix(1, 8, run.gradients.at(name))), 1e-3) << name;
  }
}

TEST(MixtureOfSubspaces, Invariant05_LosslessWhereTheWeightsLieInTheSubspace) {
  for (const char* scope : {"layer", "per_head"})
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
      MixtureCase c;
      c.shards = 3;
      c.options.algorithm = algorithm;
      c.mixture.scope = scope;
      if (c.mixture.scope == "per_head") c.mixture.rank_k = 2, c.mixture.rank_v = 3;
      c.qkv = random_qkv(c);
      const Named frames = run_mixture(c, context_inputs(c, c.dtype), false).frames;
      Values folded = c.qkv;
      fold_key_values(folded, c.mixture, c.shape(), frames.at("k.frames"), frames.at("v.frames"));
      c.frames = frames;
      const ContextInputs in = projected(c, folded).in;
      const MixtureRun run = run_mixture(c, in);
      EXPECT_LE(largest_difference(run.result.o, run_single(c, in).o), 1e-12);
      // Before folding it is not.
      const ContextInputs whole = projected(c, c.qkv).in;
      EXPECT_GT(largest_difference(run_mixture(c, whole, false).result.o, run_single(c, whole).o),
                1e-2);
    }
}

TEST(MixtureOfSubspaces, Invariant06_WithoutFewerDimensionsItIsDense) {
  for (const char* rotation : {"exp", "cayley", "plane", "none"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.rotation = rotation;
    c.mixture.theta_source = "chunk_mean";
    c.mixture.rank_k = c.mixture.rank_v = 8;
    c.with_heads(0.4);
    const ContextInputs in = context_inputs(c, c.dtype);
    const MixtureRun run = run_mixture(c, in);
    const ContextResult dense = run_single(c, in);
    EXPECT_LE(largest_difference(run.result.o, dense.o), 1e-12) << rotation;
    EXPECT_LE(largest_difference(run.result.dq, dense.dq), 1e-12) << rotation;
    EXPECT_LE(largest_difference(run.result.dk, dense.dk), 1e-11) << rotation;
    EXPECT_LE(largest_difference(run.result.dv, dense.dv), 1e-11) << rotation;
  }
}

TEST(MixtureOfSubspaces, Invariant12_AllRanksRebuildTheSameBits) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
      MixtureCase c;
      c.shards = 4;
      c.dtype = dtype;
      c.options.algorithm = algorithm;
      c.options.causal = false;  // so that all ranks need all pieces
      c.mixture.theta_source = "chunk_mean";
      c.with_heads(0.3);
      Watched seen;
      watch(c, seen);
      run_mixture(c, context_inputs(c, dtype), false);
      ASSERT_EQ(seen.decoded.size(), 8u);
      for (const auto& [piece, results] : seen.decoded) {
        ASSERT_EQ(results.size(), 4u);
        for (const auto& result : results) EXPECT_EQ(result, results[0]);
      }
    }
}

// In the setting of M5: W in the span, theta = 0, but the subspace taken after RoPE.
TEST(MixtureOfSubspaces, Invariant14_CompressionAfterRopeIsNotLossless) {
  MixtureCase c;
  c.qkv = random_qkv(c);
  const Named frames = run_mixture(c, context_inputs(c, c.dtype), false).frames;
  Values folded = c.qkv;
  fold_key_values(folded, c.mixture, c.shape(), frames.at("k.frames"), frames.at("v.frames"));
  const Values keys = projected(c, folded).in.k;
  const Matrix u = first_frame(c, frames, 0, 0), p = product(u, transposed(u));
  const int64_t half = c.head_width / 2;
  double before = 0, after = 0;
  for (int64_t t = 0; t < c.tokens; ++t) {
    Matrix row(1, c.width()), turned(1, c.width());
    for (int64_t i = 0; i < c.width(); ++i)
      row(0, i) = keys[static_cast<size_t>(t * c.width() + i)];
    for (int64_t h = 0; h < c.kv_heads; ++h)
      for (int64_t i = 0; i < half; ++i) {
        const double a = static_cast<double>(t) *
                         std::pow(c.shape().rope_theta, -2.0 * static_cast<double>(i) /
                                                            static_cast<double>(c.head_width)),
                     x = row(0, h * c.head_width + i), y = row(0, h * c.head_width + half + i);
        turned(0, h * c.head_width + i) = x * std::cos(a) - y * std::sin(a);
        turned(0, h * c.head_width + half + i) = y * std::cos(a) + x * std::sin(a);
      }
    before = std::max(before, largest(sum(product(row, p), row, -1)));
    after = std::max(after, largest(sum(product(turned, p), turned, -1)));
  }
  EXPECT_LE(before, 1e-12);
  EXPECT_GT(after, 1e-2);
}

// The gradient of one token's output in keys and values of later tokens: how much the future is looked at. Printed: its largest entry over the
// largest of all, within a chunk; the number that docs/mixture_of_subspaces.md states.
TEST(MixtureOfSubspaces, Invariant15_Causality) {
  for (const char* source : {"chunk_mean", "prev_piece", "constant", "zero"})
    for (TokenLayout layout : {TokenLayout::zigzag, TokenLayout::contiguous}) {
      MixtureCase c;
      c.shards = 2;
      c.sequences = 1;
      c.options.layout = layout;
      c.mixture.theta_source = source;
      c.with_heads(0.25);
      SCOPED_TRACE(text_of(c));
      const int64_t piece = token_layout(c.options, c.shards, c.tokens).piece_tokens();
      double within = 0, beyond = 0, allowed = 0;
      for (int64_t p = 0; p < c.tokens; p += 3) {
        ContextInputs in = context_inputs(c, c.dtype);
        const int64_t row = int64_t{c.heads} * c.head_width;
        for (int64_t i = 0; i < c.tokens * row; ++i)
          if (i / row != p) in.dout[static_cast<size_t>(i)] = 0;
        const MixtureRun run = run_mixture(c, in);
        for (const Values* d : {&run.result.dk, &run.result.dv})
          for (int64_t i = 0; i < static_cast<int64_t>(d->size()); ++i) {
            const int64_t token = i / (int64_t{c.kv_heads} * c.head_width);
            double& most = token <= p ? allowed : token / piece == p / piece ? within : beyond;
            most = std::max(most, std::abs((*d)[static_cast<size_t>(i)]));
          }
      }
      EXPECT_GT(allowed, 0.1);
      EXPECT_EQ(beyond, 0);
      if (c.mixture.theta_source == "chunk_mean") {
        EXPECT_GT(within, 1e-4);
        std::printf(
            "chunk_mean, %s, %lld tokens a chunk: largest gradient in later tokens %.2e of the "
            "largest in earlier ones\n",
            name_of(layout), static_cast<long long>(piece), within / allowed);
      } else {
        EXPECT_EQ(within, 0);
      }
    }
}

TEST(MixtureOfSubspaces, Invariant17_AnglesAreClippedAndThenHaveNoGradient) {
  for (const char* clip : {"hard", "tanh"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.theta_source = "chunk_mean";
    c.mixture.clip = clip;
    c.mixture.theta_clip = 0.5;
    c.with_heads(0.1);
    for (const char* z : {"k", "v"}) c.parameters[std::string(z) + ".theta_proj.bias"] = {3.0};
    Watched seen;
    watch(c, seen);
    const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype));
    for (double angle : seen.angles) {
      EXPECT_LE(angle, 0.5);
      EXPECT_GT(angle, 0.499);
    }
    for (const auto& [name, gradient] : run.gradients)
      for (double g : gradient) {
        if (c.mixture.clip == "hard")
          EXPECT_EQ(g, 0) << name;
        else
          EXPECT_LT(std::abs(g), 1e-2) << name;
      }
  }
}

// Random angles are those of (seed, layer, step, microbatch, piece) and the same again; no head is trained.
TEST(MixtureOfSubspaces, RandomAnglesRepeatAndAreWithinTheClip) {
  MixtureCase c;
  c.shards = 2;
  c.mixture.rotation = "random";
  Watched first, second, other;
  watch(c, first);
  const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype));
  EXPECT_TRUE(run.gradients.empty());
  watch(c, second);
  EXPECT_EQ(run_mixture(c, context_inputs(c, c.dtype)).result.dk, run.result.dk);
  c.mixture.seed = 5;
  c.frames = run.frames;
  watch(c, other);
  run_mixture(c, context_inputs(c, c.dtype));
  EXPECT_EQ(first.decoded, second.decoded);
  EXPECT_NE(first.decoded, other.decoded);
  double most = 0;
  for (double angle : first.angles) most = std::max(most, std::abs(angle));
  EXPECT_GT(most, 0.05);
  EXPECT_LE(most, 0.5);
}

// Rounded coordinates: everybody has the rounded ones, so ranks agree, and the error is of the wire's rounding.
TEST(MixtureOfSubspaces, OnANarrowerWire) {
  MixtureCase c;
  c.shards = 2;
  c.dtype = DType::f32;
  c.mixture.theta_source = "chunk_mean";
  c.with_heads(0.2);
  const ContextInputs in = context_inputs(c, c.dtype);
  const MixtureRun exact = run_mixture(c, in);
  c.mixture.wire = c.mixture.gradient_wire = DType::bf16;
  const MixtureRun rounded = run_mixture(c, in);
  // bf16 rounds by up to 2^-9; products of a few of them.
  EXPECT_LT(nrmse(rounded.result.o, exact.result.o), 1e-2);
  EXPECT_LT(nrmse(rounded.result.dk, exact.result.dk), 2e-2);
  EXPECT_GT(nrmse(rounded.result.o, exact.result.o), 1e-4);
}

}  // namespace
}  // namespace strait::testing
