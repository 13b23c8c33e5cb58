// Bytes of context parallelism, as the ranks' logs have them: specs/context_parallelism.md 9 and 15, T9. And options that are refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/context_support.h"

namespace strait::testing {
namespace {

using record::MessageKind;

struct Bytes2 {
  uint64_t forward = 0, backward = 0;
  bool operator==(const Bytes2&) const = default;
};
void PrintTo(const Bytes2& b, std::ostream* out) { *out << b.forward << " / " << b.backward; }

// Summed over the ranks; `dense` likewise.
struct Counted {
  Bytes2 sent, dense;
};
Counted counted(const ContextCase& c) {
  Counted all;
  for (const record::RankLog& log : run_context(c, context_inputs(c, c.dtype)).logs)
    for (const record::Entry& entry : log.entries)
      if (const auto* send = std::get_if<record::Send>(&entry.action)) {
        const bool forward = send->kind == MessageKind::forward;
        (forward ? all.sent.forward : all.sent.backward) += send->payload.count;
        (forward ? all.dense.forward : all.dense.backward) += send->dense.count;
      }
  return all;
}

ContextCase bf16_case(int shards) {
  ContextCase c;
  c.shards = shards;
  c.dtype = DType::bf16;
  c.heads = 24;
  c.kv_heads = 12;
  c.head_width = 2;
  c.sequences = 1;
  return c;
}

// beta (e = 2) and beta_g (e_g = 4, or 2): one block of keys and values, one of their gradients.
uint64_t beta(const ContextCase& c, uint64_t e) {
  return 2 *
         static_cast<uint64_t>(c.sequences * (c.tokens / c.shards) * c.kv_heads * c.head_width) * e;
}

TEST(ContextBytes, Invariant09_OfARing) {
  for (int shards : {1, 2, 3, 4, 8})
    for (bool bf16_gradients : {false, true}) {
      ContextCase c = bf16_case(shards);
      if (bf16_gradients) c.options.wire.gradient_wire = DType::bf16;
      const uint64_t p = static_cast<uint64_t>(shards), b = beta(c, 2),
                     g = beta(c, bf16_gradients ? 2 : 4), gradients_home = p > 1 ? p * g : 0;
      SCOPED_TRACE(text_of(c));
      EXPECT_EQ(counted(c).sent, (Bytes2{p * (p - 1) * b, p * ((p - 1) * b + gradients_home)}));
      c.options.bwd_schedule = RingBackward::reverse;
      EXPECT_EQ(counted(c).sent, (Bytes2{p * (p - 1) * b, p * (p - 1) * (b + g)}));
    }
}

TEST(ContextBytes, Invariant09_OfAnAllGather) {
  for (int shards : {1, 2, 3, 4, 8})
    for (int group : {0, 1, 4}) {
      ContextCase c = bf16_case(shards);
      c.options.algorithm = ContextAlgorithm::allgather;
      c.options.kv_head_group = group;
      const uint64_t p = static_cast<uint64_t>(shards), b = beta(c, 2), g = beta(c, 4);
      SCOPED_TRACE(text_of(c));
      EXPECT_EQ(counted(c).sent, (Bytes2{p * (p - 1) * b, p * (p - 1) * (b + g)}));
      c.options.keep_gathered_kv = true;
      EXPECT_EQ(counted(c).sent, (Bytes2{p * (p - 1) * b, p * (p - 1) * g}));
    }
}

// Half of it, three quarters, all of it.
TEST(ContextBytes, Invariant09_OfNeededPiecesOnly) {
  for (int shards : {2, 3, 4, 8})
    for (const auto& [layout, quarters] : std::vector<std::pair<TokenLayout, uint64_t>>{
             {TokenLayout::contiguous, 2}, {TokenLayout::zigzag, 3}, {TokenLayout::striped, 4}}) {
      ContextCase c = bf16_case(shards);
      c.options.algorithm = ContextAlgorithm::allgather;
      c.options.kv_send = KeyValueSend::needed;
      c.options.layout = layout;
      const uint64_t p = static_cast<uint64_t>(shards), b = p * (p - 1) * beta(c, 2) * quarters / 4,
                     g = p * (p - 1) * beta(c, 4) * quarters / 4;
      SCOPED_TRACE(text_of(c));
      EXPECT_EQ(counted(c).sent, (Bytes2{b, b + g}));
      // A ring leaves a piece behind only where nobody further along its way needs it: in the contiguous layout the same half; in the
      // zig-zag one every block but the first goes whole to its last rank. Gradients travel whole.
      c.options.algorithm = ContextAlgorithm::ring;
      const uint64_t ring =
          layout == TokenLayout::zigzag ? p * (p - 1) * beta(c, 2) - (p - 1) * beta(c, 2) / 2 : b;
      EXPECT_EQ(counted(c).sent, (Bytes2{ring, ring + p * p * beta(c, 4)}));
    }
}

TEST(ContextBytes, Invariant09_OfExchangedHeads) {
  for (int shards : {1, 2, 3, 4, 8}) {
    for (int kv_heads : {24, 12, 6, 3, 2, 1}) {
      ContextCase c = bf16_case(shards);
      c.kv_heads = kv_heads;
      c.options.algorithm = ContextAlgorithm::ulysses;
      if (kv_heads % shards != 0 && shards % kv_heads != 0) continue;
      const uint64_t p = static_cast<uint64_t>(shards),
                     n1 = static_cast<uint64_t>(c.sequences * (c.tokens / c.shards) * c.head_width),
                     kv = static_cast<uint64_t>(std::max(kv_heads, shards)),
                     // (P-1)/P N1 e (2h + 2h_kv') a rank
          bytes = (p - 1) * n1 * 2 * (2 * static_cast<uint64_t>(c.heads) + 2 * kv);
      SCOPED_TRACE(text_of(c));
      EXPECT_EQ(counted(c).sent, (Bytes2{bytes, bytes}));
    }
  }
}

TEST(ContextBytes, Invariant09_OfTheHybrid) {
  for (const auto& [shards, degree] :
       std::vector<std::pair<int, int>>{{4, 2}, {8, 2}, {8, 4}, {6, 3}})
    for (RingBackward schedule : {RingBackward::home, RingBackward::reverse}) {
      ContextCase c = bf16_case(shards);
      c.options.algorithm = ContextAlgorithm::hybrid;
      c.options.ulysses_degree = degree;
      c.options.bwd_schedule = schedule;
      const auto p = static_cast<uint64_t>(shards), u = static_cast<uint64_t>(degree), r = p / u;
      const uint64_t n1 = static_cast<uint64_t>(c.sequences * (c.tokens / c.shards) * c.head_width),
                     inner = p * (u - 1) * n1 * 2 *
                             (2 * static_cast<uint64_t>(c.heads) +
                              2 * static_cast<uint64_t>(c.kv_heads)) /
                             u,
                     b = beta(c, 2), g = beta(c, 4);  // n/P_r tokens of h_kv/P_u heads: the same
      const uint64_t gradients = schedule == RingBackward::home ? r * g : (r - 1) * g;
      SCOPED_TRACE(text_of(c));
      EXPECT_EQ(counted(c).sent,
                (Bytes2{inner + p * (r - 1) * b, inner + p * ((r - 1) * b + gradients)}));
    }
}

// Method none with the wire's own types is what others are compared with, whatever the algorithm; with rounded ones it is a method.
TEST(ContextBytes, DenseBytesAreThoseOfUnroundedKeysAndGradients) {
  for (ContextAlgorithm algorithm :
       {ContextAlgorithm::ring, ContextAlgorithm::allgather, ContextAlgorithm::ulysses}) {
    ContextCase c = bf16_case(4);
    c.options.algorithm = algorithm;
    if (algorithm != ContextAlgorithm::ulysses) c.options.kv_send = KeyValueSend::needed;
    const Counted plain = counted(c);
    EXPECT_EQ(plain.dense, plain.sent);
    if (algorithm == ContextAlgorithm::ulysses) continue;
    c.dtype = DType::f32;
    c.options.wire = {DType::bf16, DType::bf16};
    const Counted rounded = counted(c);
    EXPECT_EQ(rounded.dense.forward, 2 * rounded.sent.forward);
    EXPECT_EQ(rounded.dense.backward, 2 * rounded.sent.backward);
  }
}

// What the meta backend records is what the others do: messages and ops alike.
TEST(ContextBytes, OfTheMetaBackendAreTheSame) {
  for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather,
                                     ContextAlgorithm::ulysses, ContextAlgorithm::hybrid}) {
    ContextCase c = bf16_case(4);
    c.options.algorithm = algorithm;
    if (algorithm == ContextAlgorithm::hybrid) c.options.ulysses_degree = 2;
    const auto logs = run_context(c, context_inputs(c, c.dtype)).logs;
    c.meta = true;
    EXPECT_EQ(run_context(c, context_inputs(c, c.dtype)).logs, logs) << text_of(c);
  }
}

TEST(ContextOptions, SayWhatIsWrongAndWhatIsAllowed) {
  using A = ContextAlgorithm;
  const auto refusal = [](auto change, int shards = 4) -> std::string {
    ContextCase c;
    c.heads = 12;
    c.kv_heads = 6;
    c.dtype = DType::f32;
    change(c.options);
    try {
      validate(c.options, c.shape(), shards, c.dtype);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  using O = ContextOptions;
  EXPECT_EQ(
      refusal([](O& o) { o.algorithm = A::ulysses; }, 8),
      "algorithm ulysses with shards: 8 is not possible; allowed is a divisor of the 12 heads");
  EXPECT_EQ(
      refusal([](O& o) { o.algorithm = A::ulysses; }, 4),
      "algorithm ulysses with shards: 4 is not possible; allowed is a divisor or a multiple of "
      "the 6 key heads");
  EXPECT_EQ(refusal([](O& o) { o.algorithm = A::hybrid, o.ulysses_degree = 3; }),
            "ulysses_degree: 3 is not possible; allowed is a divisor of the 4 shards");
  EXPECT_EQ(refusal([](O& o) { o.algorithm = A::hybrid; }),
            "ulysses_degree: 0 is not possible; allowed is a divisor of the 4 shards");
  EXPECT_EQ(refusal([](O& o) { o.ulysses_degree = 2; }),
            "ulysses_degree: 2 is not possible; it belongs to algorithm hybrid, not ring");
  EXPECT_EQ(
      refusal([](O& o) { o.algorithm = A::allgather, o.bwd_schedule = RingBackward::reverse; }),
      "bwd_schedule: reverse is not possible; only algorithms ring and hybrid have schedules, "
      "not allgather");
  EXPECT_THAT(refusal([](O& o) {
                o.kv_send = KeyValueSend::needed, o.bwd_schedule = RingBackward::reverse;
              }),
              ::testing::StartsWith("kv_send: needed is not possible; bwd_schedule reverse"));
  EXPECT_THAT(refusal([](O& o) { o.algorithm = A::ulysses, o.kv_send = KeyValueSend::needed; }, 2),
              ::testing::StartsWith("kv_send: needed is not possible; algorithm ulysses"));
  EXPECT_EQ(
      refusal([](O& o) { o.keep_gathered_kv = true; }),
      "keep_gathered_kv: true is not possible; only algorithm allgather gathers them, not ring");
  EXPECT_EQ(refusal([](O& o) { o.algorithm = A::allgather, o.kv_head_group = 4; }),
            "kv_head_group: 4 is not possible; allowed is a divisor of the 6 key heads");
  EXPECT_EQ(
      refusal([](O& o) { o.kv_head_group = 2; }),
      "kv_head_group: 2 is not possible; only algorithm allgather has groups of heads, not ring");
  EXPECT_EQ(refusal([](O& o) { o.wire.wire = DType::f16; }),
            "kv_wire_dtype: f16 is not possible here, but f32 and bf16 are");
  EXPECT_EQ(refusal([](O& o) { o.wire.gradient_wire = DType::u8; }),
            "dkv_wire_dtype: u8 is not possible here, but f32 and bf16 are");
  EXPECT_EQ(refusal([](O& o) { o.algorithm = A::ulysses, o.wire.wire = DType::bf16; }, 2),
            "kv_wire_dtype: bf16 is not possible; algorithm ulysses sends heads in the type of the "
            "run, f32");
}

}  // namespace
}  // namespace strait::testing
