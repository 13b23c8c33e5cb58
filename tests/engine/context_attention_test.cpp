// Attention over several ranks is that of one: specs/context_parallelism.md 15, T2 to T4, T6, T8.
#include <gtest/gtest.h>

#include "engine/context/piece_attention.h"
#include "tests/engine/context_support.h"

namespace strait::testing {
namespace {

constexpr TokenLayout kLayouts[] = {TokenLayout::contiguous, TokenLayout::zigzag,
                                    TokenLayout::striped};

// Every algorithm, with every option that leaves the result alone, that `c` allows.
std::vector<ContextCase> ways(ContextCase c) {
  std::vector<ContextCase> all;
  const auto add = [&](auto change) {
    ContextCase way = c;
    change(way.options);
    try {
      validate(way.options, way.shape(), way.shards, way.dtype);
    } catch (const std::invalid_argument&) {
      return;
    }
    all.push_back(way);
  };
  using O = ContextOptions;
  using A = ContextAlgorithm;
  add([](O&) {});
  add([](O& o) { o.bwd_schedule = RingBackward::reverse; });
  add([](O& o) { o.kv_send = KeyValueSend::needed; });
  add([](O& o) { o.algorithm = A::allgather; });
  add([](O& o) { o.algorithm = A::allgather, o.keep_gathered_kv = true, o.kv_head_group = 1; });
  add([](O& o) { o.algorithm = A::allgather, o.kv_send = KeyValueSend::needed; });
  add([](O& o) { o.algorithm = A::ulysses; });
  add([](O& o) { o.algorithm = A::hybrid, o.ulysses_degree = 2; });
  add([](O& o) {
    o.algorithm = A::hybrid, o.ulysses_degree = 2, o.bwd_schedule = RingBackward::reverse;
  });
  add([](O& o) {
    o.algorithm = A::hybrid, o.ulysses_degree = 4, o.kv_send = KeyValueSend::needed;
  });
  return all;
}

void expect_equal(const ContextCase& c, const ContextResult& result, const ContextResult& expected,
                  double forward, double backward) {
  SCOPED_TRACE(text_of(c));
  const auto differ = [&](const Values& a, const Values& b) {
    return c.dtype == DType::f64 ? largest_difference(a, b) : nrmse(a, b);
  };
  EXPECT_LE(differ(result.o, expected.o), forward);
  EXPECT_LE(differ(result.dq, expected.dq), backward);
  EXPECT_LE(differ(result.dk, expected.dk), backward);
  EXPECT_LE(differ(result.dv, expected.dv), backward);
}

// 12 query heads can be divided by every P; 8 and 4 key heads are replicated for some.
void every_way(int shards, DType dtype, double forward, double backward) {
  for (int group : {1, 2, 4})
    for (bool causal : {true, false}) {
      if (!causal && group != 2) continue;  // grouped heads and the mask do not know of each other
      ContextCase c;
      c.dtype = dtype;
      c.shards = shards;
      c.heads = shards == 3 ? 12 : 8;
      c.kv_heads = c.heads / group;
      c.head_width = 4;
      c.sequences = dtype == DType::f64 ? 1 : 2;
      c.options.causal = causal;
      const ContextInputs in = context_inputs(c, dtype);
      const ContextResult expected = run_single(c, in);
      for (TokenLayout layout : kLayouts) {
        c.options.layout = layout;
        for (const ContextCase& way : ways(c))
          expect_equal(way, run_context(way, in), expected, forward, backward);
      }
    }
}

class ContextAttentionOn : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ContextAttentionOn, ::testing::Values(1, 2, 3, 4, 8));

// Values and gradients of order 1, a hundred terms each: some roundings of 1e-16.
TEST_P(ContextAttentionOn, Invariants02And04_EqualsOneRankInDoublePrecision) {
  every_way(GetParam(), DType::f64, 1e-12, 1e-12);
}

// docs/numerics.md: context-parallel against one rank.
TEST_P(ContextAttentionOn, Invariants02And04_EqualsOneRankInSinglePrecision) {
  every_way(GetParam(), DType::f32, 2e-6, 1e-5);
}

// bf16: the distance from f32 is at most twice that of one rank in bf16, because blocks are merged in f32 and rounded once.
TEST(ContextAttention, Invariant02_InBf16IsAsNearToSinglePrecisionAsOneRank) {
  for (TokenLayout layout : kLayouts)
    for (ContextAlgorithm algorithm :
         {ContextAlgorithm::ring, ContextAlgorithm::allgather, ContextAlgorithm::ulysses}) {
      ContextCase c;
      c.shards = 4;
      c.options.layout = layout;
      c.options.algorithm = algorithm;
      c.dtype = DType::f32;
      const ContextInputs in = context_inputs(c, DType::bf16);
      const ContextResult exact = run_single(c, in);
      c.dtype = DType::bf16;
      const ContextResult one = run_single(c, in), several = run_context(c, in);
      SCOPED_TRACE(text_of(c));
      EXPECT_LE(nrmse(several.o, exact.o), 2 * nrmse(one.o, exact.o));
      EXPECT_LE(nrmse(several.dq, exact.dq), 2 * nrmse(one.dq, exact.dq));
      EXPECT_LE(nrmse(several.dk, exact.dk), 2 * nrmse(one.dk, exact.dk));
      EXPECT_LE(nrmse(several.dv, exact.dv), 2 * nrmse(one.dv, exact.dv));
    }
}

// The log-sum-exp that the backward is given is that of the whole sequence.
TEST(PieceForward, Invariant03_LogSumExpIsThatOfOneRank) {
  for (TokenLayout kind : kLayouts)
    for (int shards : {1, 2, 3, 4, 8}) {
      ContextCase c;
      const auto ops = make_reference_backend();
      const SequenceLayout layout(kind, shards, c.tokens);
      ParameterList parameters(c.dtype);
      const auto order = layout.order();
      const Buffer* positions =
          parameters.declare_constant("positions", {c.tokens}, DType::i32,
                                      [&](Values& v) { v.assign(order.begin(), order.end()); });
      parameters.allocate(*ops);
      TensorStore store(*ops);
      const ContextInputs in = context_inputs(c, c.dtype);
      const SequenceLayout natural(TokenLayout::contiguous, 1, c.tokens);
      const auto tensor = [&](const Values& x, int heads, const std::vector<int32_t>& where) {
        return store.tokens(c, x, heads, where, c.dtype);
      };
      const Tensor whole = store.make({c.sequences, c.heads, c.tokens}, c.dtype);
      const Tensor where = store.integers({c.tokens}, natural.order());
      const auto all = natural.order();
      ops->attention_forward(store.make({c.sequences, c.tokens, c.heads, c.head_width}, c.dtype),
                             whole, tensor(in.q, c.heads, all), tensor(in.k, c.kv_heads, all),
                             tensor(in.v, c.kv_heads, all), {where, where, {}, {}, true},
                             c.scale());
      const auto memory = ops->allocate(size_t{1} << 20);
      Arena scratch(memory->data(), size_t{1} << 20, "scratch");
      Context ctx{*ops, scratch};
      const PieceSetting setting{layout, true, c.scale(), c.dtype, positions};
      for (int i = 0; i < shards; ++i) {
        const Tensor q = tensor(in.q, c.heads, layout.positions(i));
        std::vector<Tensor> lse;
        for (int piece = 0; piece < layout.pieces(); ++piece)
          lse.push_back(store.make({c.sequences, c.heads, layout.piece_tokens()}, c.dtype));
        PieceForward forward(ctx, Frame{}, setting, i, store.make(q.shape, c.dtype), lse, q);
        for (int j = 0; j < shards; ++j)
          for (int piece = 0; piece < layout.pieces(); ++piece)
            forward.add(ctx, Frame{}, j, piece,
                        {setting.piece_of(tensor(in.k, c.kv_heads, layout.positions(j)), piece),
                         setting.piece_of(tensor(in.v, c.kv_heads, layout.positions(j)), piece)});
        forward.finish(ctx);
        const auto held = layout.positions(i);
        for (int64_t row = 0; row < c.sequences * c.heads; ++row)
          for (int64_t t = 0; t < layout.shard_tokens(); ++t) {
            const int64_t piece = t / layout.piece_tokens(), u = t % layout.piece_tokens();
            EXPECT_NEAR(at(lse[static_cast<size_t>(piece)], row * layout.piece_tokens() + u),
                        at(whole, row * c.tokens + held[static_cast<size_t>(t)]), 1e-12);
          }
      }
    }
}

// Central differences of sum(dout o) over single elements of q (after RoPE), k and v (before it), f64: h^2 and 1e-16 / h are both
// below 1e-8 with h = 1e-4.
TEST(ContextAttention, Invariant04_GradientsAreFiniteDifferences) {
  ContextCase base;
  base.tokens = 12;
  base.sequences = 1;
  base.heads = 6;
  base.kv_heads = 3;
  base.shards = 3;
  std::vector<ContextCase> cases(4, base);
  cases[1].options.bwd_schedule = RingBackward::reverse;
  cases[1].options.layout = TokenLayout::striped;
  cases[2].options.algorithm = ContextAlgorithm::allgather;
  cases[3].options.algorithm = ContextAlgorithm::ulysses;
  for (const ContextCase& c : cases) {
    SCOPED_TRACE(text_of(c));
    ContextInputs in = context_inputs(c, c.dtype);
    const ContextResult result = run_context(c, in);
    const auto loss = [&] {
      const Values o = run_context(c, in, false).o;
      double sum = 0;
      for (size_t i = 0; i < o.size(); ++i) sum += o[i] * in.dout[i];
      return sum;
    };
    const auto check = [&](Values& x, const Values& gradient, const char* name) {
      for (size_t i = 3; i < x.size(); i += x.size() / 5) {
        const double before = x[i], h = 1e-4;
        x[i] = before + h;
        const double up = loss();
        x[i] = before - h;
        const double down = loss();
        x[i] = before;
        EXPECT_NEAR(gradient[i], (up - down) / (2 * h), 1e-7) << name << " " << i;
      }
    };
    check(in.q, result.dq, "q");
    check(in.k, result.dk, "k");
    check(in.v, result.dv, "v");
  }
}

TEST(ContextAttention, Invariant06_OnOneRankIsPlainAttentionBitForBit) {
  for (DType dtype : {DType::f64, DType::f32, DType::bf16})
    for (TokenLayout layout : kLayouts)
      for (ContextAlgorithm algorithm :
           {ContextAlgorithm::ring, ContextAlgorithm::allgather, ContextAlgorithm::ulysses}) {
        ContextCase c;
        c.dtype = dtype;
        c.options.layout = layout;
        c.options.algorithm = algorithm;
        const ContextInputs in = context_inputs(c, dtype);
        const ContextResult one = run_single(c, in), result = run_context(c, in);
        SCOPED_TRACE(text_of(c));
        EXPECT_EQ(result.o, one.o);
        EXPECT_EQ(result.dq, one.dq);
        EXPECT_EQ(result.dk, one.dk);
        EXPECT_EQ(result.dv, one.dv);
      }
}

TEST(ContextAttention, Invariant08_AllAlgorithmsAgree) {
  ContextCase c;
  c.shards = 4;
  c.heads = 8;
  c.kv_heads = 4;
  const ContextInputs in = context_inputs(c, c.dtype);
  const ContextResult ring = run_context(c, in);
  const std::vector<ContextCase> others = ways(c);
  ASSERT_EQ(others.size(), 10u);
  for (const ContextCase& way : others) expect_equal(way, run_context(way, in), ring, 1e-12, 1e-12);
}

// Keys and values rounded to the wire are the ones that everybody computes with, their owner included, so the result is that
// of one rank with rounded ones.
TEST(ContextAttention, KeysRoundedToTheWireAreRoundedEverywhere) {
  ContextCase c;
  c.dtype = DType::f32;
  c.shards = 4;
  const ContextInputs in = context_inputs(c, c.dtype);
  const ContextResult rounded = run_single(c, in, DType::bf16), exact = run_single(c, in);
  c.options.wire.wire = DType::bf16;
  for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
    c.options.algorithm = algorithm;
    const ContextResult result = run_context(c, in);
    expect_equal(c, result, rounded, 2e-6, 1e-5);  // as in single precision
    EXPECT_GT(nrmse(result.o, exact.o), 1e-4);
  }
}

// One rounding to bf16 (1.66e-3) where gradients go straight to their owner, one a hop in a ring: at most P of them.
TEST(ContextAttention, GradientsRoundedToTheWireAreOffByTheirRoundings) {
  ContextCase c;
  c.dtype = DType::f32;
  c.shards = 4;
  const ContextInputs in = context_inputs(c, c.dtype);
  const ContextResult exact = run_single(c, in);
  c.options.wire.gradient_wire = DType::bf16;
  for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
    c.options.algorithm = algorithm;
    const ContextResult result = run_context(c, in);
    EXPECT_LE(nrmse(result.dq, exact.dq), 1e-5);
    EXPECT_GT(nrmse(result.dk, exact.dk), 1e-4);
    EXPECT_LE(nrmse(result.dk, exact.dk),
              1.66e-3 * (algorithm == ContextAlgorithm::ring ? c.shards : 1));
    EXPECT_LE(nrmse(result.dv, exact.dv),
              1.66e-3 * (algorithm == ContextAlgorithm::ring ? c.shards : 1));
  }
}

}  // namespace
}  // namespace strait::testing
