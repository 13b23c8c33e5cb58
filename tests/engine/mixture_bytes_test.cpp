// Bytes of mixtures of subspaces as the ranks' logs have them, and options (specs/mixture_of_subspaces.md 6, 12, 13: M13, M20).
#include <gmock/gmock.h>

#include "tests/engine/mixture_matrices.h"

namespace strait::testing {
namespace {

using record::MessageKind;

uint64_t all_bytes(const MixtureRun& run, MessageKind kind) {
  uint64_t bytes = 0;
  for (const record::RankLog& log : run.result.logs) bytes += bytes_sent(log, kind);
  return bytes;
}

// specs/mixture_of_subspaces.md 6, summed over the ranks. That the sums are these leaves no message of width w.
TEST(MixtureOfSubspaces, Invariant13_BytesAreThoseOfCoordinatesAndAngles) {
  for (int shards : {1, 2, 4})
    for (const char* scope : {"layer", "per_head"})
      for (const char* source : {"chunk_mean", "constant", "zero"})
        for (bool small_gradients : {false, true}) {
          MixtureCase c;
          c.shards = shards;
          c.dtype = DType::bf16;
          c.kv_heads = 4;
          c.mixture.scope = scope;
          c.mixture.rank_k = 2, c.mixture.rank_v = 3;
          c.mixture.theta_source = source;
          if (small_gradients) c.mixture.gradient_wire = DType::bf16;
          SCOPED_TRACE(text_of(c));
          const auto p = static_cast<uint64_t>(shards), groups = static_cast<uint64_t>(c.groups()),
                     pieces = shards > 1 ? 2ul : 1ul, b = static_cast<uint64_t>(c.sequences),
                     tokens = static_cast<uint64_t>(c.tokens) / p,
                     angles = 4 * b * 2 * pieces * groups,
                     pi = b * tokens * groups * 5 * 2 + angles,
                     pi_g = b * tokens * groups * 5 * (small_gradients ? 2 : 4) + angles,
                     home = shards > 1 ? p * pi_g : 0;
          const auto expect = [&](uint64_t forward, uint64_t backward) {
            const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype));
            EXPECT_EQ(all_bytes(run, MessageKind::forward), p * forward);
            EXPECT_EQ(all_bytes(run, MessageKind::backward), p * backward);
          };
          expect((p - 1) * pi, (p - 1) * pi + home);
          c.options.bwd_schedule = RingBackward::reverse;
          expect((p - 1) * pi, (p - 1) * (pi + pi_g));
          c.options.bwd_schedule = RingBackward::home;
          c.options.algorithm = ContextAlgorithm::allgather;
          expect((p - 1) * pi, (p - 1) * (pi + pi_g));
          c.options.keep_gathered_kv = true;
          expect((p - 1) * pi, (p - 1) * pi_g);
        }
}

// What owners of neighbouring pieces tell each other: two angles a sequence and group, there and back, where they differ.
TEST(MixtureOfSubspaces, Invariant13_OfAnglesFromThePieceBefore) {
  for (TokenLayout layout : {TokenLayout::zigzag, TokenLayout::contiguous}) {
    MixtureCase c, plain;
    c.shards = plain.shards = 4;
    c.dtype = plain.dtype = DType::bf16;
    c.options.layout = plain.options.layout = layout;
    plain.mixture.theta_source = "constant";
    const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype)),
                     without = run_mixture(plain, context_inputs(c, c.dtype));
    // zigzag: 7 neighbours of 8 pieces, two of them on one rank.
    const uint64_t messages = layout == TokenLayout::zigzag ? 6 : 3,
                   each = 2 * 4 * static_cast<uint64_t>(c.sequences);
    for (MessageKind kind : {MessageKind::forward, MessageKind::backward})
      EXPECT_EQ(all_bytes(run, kind), all_bytes(without, kind) + messages * each);
  }
}

TEST(MixtureOfSubspaces, Invariant13_OfTheMetaBackendAreTheSame) {
  for (const char* source : {"chunk_mean", "prev_piece", "random"})
    for (const char* block : {"projected", "exact"}) {
      MixtureCase c;
      c.shards = 4;
      c.dtype = DType::bf16;
      c.mixture.theta_source = source;
      c.mixture.local_block = block;
      // Set-up asks for ops of its own, which the meta backend is spared.
      const auto logs = run_mixture(c, context_inputs(c, c.dtype)).result.logs;
      c.meta = true;
      EXPECT_EQ(run_mixture(c, context_inputs(c, c.dtype)).result.logs, logs) << text_of(c);
    }
}

TEST(MixtureOfSubspaces, Invariant20_LayersThatAreNotCompressedArePlain) {
  MixtureOptions o;
  EXPECT_TRUE(compresses(o, 0, 4) && compresses(o, 2, 4) && !compresses(o, 3, 4));
  o.uncompressed_layers = "none";
  EXPECT_TRUE(compresses(o, 3, 4));
  o.uncompressed_layers = "list";
  o.uncompressed_list = {0, 2};
  EXPECT_TRUE(!compresses(o, 0, 4) && compresses(o, 1, 4) && !compresses(o, 2, 4) &&
              compresses(o, 3, 4));
}

TEST(MixtureOptions, SayWhatIsWrongAndWhatIsAllowed) {
  const auto refusal = [](auto change, TokenLayout layout = TokenLayout::zigzag) -> std::string {
    MixtureCase c;
    MixtureOptions o;
    change(o);
    try {
      validate(o, c.shape(), layout, 4, DType::f32);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  using O = MixtureOptions;
  EXPECT_EQ(refusal([](O&) {}), "nothing was thrown");
  EXPECT_EQ(refusal([](O& o) { o.scope = "model"; }),
            "mixture of subspaces, scope: model is not possible; allowed: layer, per_head");
  EXPECT_THAT(refusal([](O& o) { o.rho_k = 1; }), ::testing::HasSubstr("rho_k: 1 is not possible"));
  EXPECT_THAT(refusal([](O& o) { o.rank_v = 9; }), ::testing::HasSubstr("allowed: 1 to 8"));
  EXPECT_THAT(refusal([](O& o) { o.rank_multiple = 0; }), ::testing::HasSubstr("rank_multiple: 0"));
  EXPECT_THAT(refusal([](O& o) { o.k = 2; }), ::testing::HasSubstr("k: 2 is not possible"));
  EXPECT_THAT(refusal([](O& o) { o.theta_clip = 0; }), ::testing::HasSubstr("theta_clip: 0"));
  EXPECT_THAT(refusal([](O& o) { o.theta_clip = 2, o.rotation = "cayley"; }),
              ::testing::HasSubstr("at most 1"));
  EXPECT_THAT(refusal([](O&) {}, TokenLayout::striped),
              ::testing::HasSubstr("in layout striped no piece lies before another"));
  EXPECT_THAT(refusal([](O& o) { o.basis_opt = "stiefel"; }),
              ::testing::HasSubstr("rotation is none, not taylor2"));
  EXPECT_THAT(refusal([](O& o) { o.uncompressed_list = {1}; }),
              ::testing::HasSubstr("it belongs to uncompressed_layers list"));
  EXPECT_THAT(refusal([](O& o) { o.uncompressed_layers = "list", o.uncompressed_list = {1}; }),
              ::testing::HasSubstr("layers are 0 to 0"));
  EXPECT_THAT(refusal([](O& o) { o.wire = DType::u8; }), ::testing::HasSubstr("wire_dtype: u8"));
  EXPECT_THAT(refusal([](O& o) { o.basis_lr_mult = 0; }), ::testing::HasSubstr("basis_lr_mult"));
}

TEST(MixtureOptions, RanksAreTheShareThatIsKept) {
  MixtureOptions o;
  ModelShape shape{8, 2048, 8, 8, 256, 8, 16, 64, 100, 1e-5};
  EXPECT_EQ(mixture_sizes(o, shape).rank_k, 41);
  EXPECT_EQ(mixture_sizes(o, shape).rank_v, 102);
  o.rank_multiple = 8;
  EXPECT_EQ(mixture_sizes(o, shape).rank_k, 40);
  EXPECT_EQ(mixture_sizes(o, shape).rank_v, 104);
  o.scope = "per_head";
  EXPECT_EQ(mixture_sizes(o, shape).width, 256);
  EXPECT_EQ(mixture_sizes(o, shape).groups, 8);
  o.rank_k = 3;
  EXPECT_EQ(mixture_sizes(o, shape).rank_k, 3);
}

}  // namespace
}  // namespace strait::testing
