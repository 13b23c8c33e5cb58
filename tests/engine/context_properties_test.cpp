// What context parallelism must not do: let tokens of other documents or later ones through, depend on the order of messages, hang,
// or see padding. specs/context_parallelism.md 15, T10 to T12, T14, T15.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "engine/context/head_exchange.h"
#include "tests/engine/context_support.h"

namespace strait::testing {
namespace {

constexpr TokenLayout kLayouts[] = {TokenLayout::contiguous, TokenLayout::zigzag,
                                    TokenLayout::striped};

// The four algorithms on four ranks, in every layout.
std::vector<ContextCase> on_four_ranks() {
  std::vector<ContextCase> cases;
  for (TokenLayout layout : kLayouts)
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather,
                                       ContextAlgorithm::ulysses, ContextAlgorithm::hybrid}) {
      ContextCase c;
      c.shards = 4;
      c.heads = 8;
      c.kv_heads = 4;
      c.tokens = 24;
      c.options.layout = layout;
      c.options.algorithm = algorithm;
      if (algorithm == ContextAlgorithm::hybrid) c.options.ulysses_degree = 2;
      cases.push_back(c);
    }
  return cases;
}

bool token_is_zero(const Values& x, int64_t token, int64_t width) {
  for (int64_t d = 0; d < width; ++d)
    if (x[static_cast<size_t>(token * width + d)] != 0.0) return false;
  return true;
}

// An inner attention that gives its queries back, and to every key the gradient 1.
class Echo final : public ContextAttention {
 public:
  void forward(Context& ctx, Frame&, ContextLink&, Tensor o, Tensor q,
               const KeyValueSource&) override {
    ctx.ops.cast(o, q);
  }
  void backward(Context& ctx, Frame&, ContextLink&, Tensor dq, const KeyValueSource& dpre,
                Tensor dout) override {
    ctx.ops.cast(dq, dout);
    ctx.ops.fill(dpre.k, 1);
    ctx.ops.fill(dpre.v, 2);
  }
  KeyValueCodec& codec() override { throw std::logic_error("it has none"); }
};

TEST(HeadExchange, Invariant10_ThereAndBackIsTheIdentityAndReplicasAreSummed) {
  constexpr int kShards = 4;
  for (int kv_heads : {8, 4, 2, 1}) {
    ContextCase c;
    c.heads = 8;
    c.kv_heads = kv_heads;
    const ContextInputs in = context_inputs(c, c.dtype);
    const SequenceLayout layout(TokenLayout::contiguous, kShards, c.tokens);
    InProcess hub(kShards, 2);
    MessagePool pool;
    hub.run([&](int rank) {
      const auto ops = c.backend();
      RankRecorder recorder(rank, *ops);
      recorder.begin_step();
      const auto communicator = hub.communicator(rank, recorder);
      TestLink link(*communicator, pool);
      const auto memory = ops->allocate(size_t{2} << 20);
      Arena scratch(memory->data(), size_t{2} << 20, "scratch");
      Context ctx{*ops, scratch};
      TensorStore store(*ops);
      Frame frame;
      frame.training = false;  // nothing is to be kept
      const auto positions = layout.positions(rank);
      const Tensor q = store.tokens(c, in.q, c.heads, positions, c.dtype),
                   k = store.tokens(c, in.k, c.kv_heads, positions, c.dtype),
                   o = store.make(q.shape, c.dtype), dk = store.make(k.shape, c.dtype),
                   dv = store.make(k.shape, c.dtype), dq = store.make(q.shape, c.dtype);
      HeadExchangeAttention exchange(kShards, 0, std::make_unique<Echo>());
      exchange.forward(ctx, frame, link, o, q, {k, k});
      EXPECT_EQ(values(o), values(q));
      exchange.backward(ctx, frame, link, dq, {dk, dv}, q);
      EXPECT_EQ(values(dq), values(q));
      const double replicas = std::max(kShards / kv_heads, 1);
      EXPECT_THAT(values(dk), ::testing::Each(replicas));
      EXPECT_THAT(values(dv), ::testing::Each(2 * replicas));
    });
  }
}

// Documents end inside of shards, and one begins anew: ids only have to differ.
TEST(ContextAttention, Invariant11_DocumentsDoNotReachEachOther) {
  for (bool causal : {true, false})
    for (ContextCase c : on_four_ranks()) {
      c.options.causal = causal;
      SCOPED_TRACE(text_of(c));
      ContextInputs in = context_inputs(c, c.dtype);
      const auto document = [](int64_t t) { return t < 5 ? 7 : t < 16 ? 3 : 9; };
      for (int64_t b = 0; b < c.sequences; ++b)
        for (int64_t t = 0; t < c.tokens; ++t) in.documents.push_back(document(t));
      const ContextResult expected = run_single(c, in);
      EXPECT_LE(largest_difference(run_context(c, in).dk, expected.dk), 1e-12);
      // The loss of document 3 alone.
      for (int64_t row = 0; row < c.sequences * c.tokens; ++row)
        if (document(row % c.tokens) != 3)
          for (int d = 0; d < c.heads * c.head_width; ++d)
            in.dout[static_cast<size_t>(row * c.heads * c.head_width + d)] = 0;
      const ContextResult result = run_context(c, in);
      for (int64_t row = 0; row < c.sequences * c.tokens; ++row) {
        const bool own = document(row % c.tokens) == 3;
        EXPECT_EQ(token_is_zero(result.dv, row, c.kv_heads * c.head_width), !own) << row;
        if (own) continue;
        EXPECT_TRUE(token_is_zero(result.dq, row, c.heads * c.head_width)) << row;
        EXPECT_TRUE(token_is_zero(result.dk, row, c.kv_heads * c.head_width)) << row;
      }
    }
}

TEST(ContextAttention, Invariant12_NothingDependsOnLaterTokens) {
  for (const ContextCase& c : on_four_ranks())
    for (int64_t p : {0, 2, 3, 5, 6, 11, 12, 17,
                      22}) {  // both sides of the borders of pieces of 3 and of 6 tokens
      SCOPED_TRACE(text_of(c) + " p=" + std::to_string(p));
      ContextInputs in = context_inputs(c, c.dtype);
      for (int64_t row = 0; row < c.sequences * c.tokens; ++row)
        if (row % c.tokens != p)
          for (int d = 0; d < c.heads * c.head_width; ++d)
            in.dout[static_cast<size_t>(row * c.heads * c.head_width + d)] = 0;
      const ContextResult result = run_context(c, in);
      for (int64_t row = 0; row < c.sequences * c.tokens; ++row) {
        const bool later = row % c.tokens > p;
        EXPECT_EQ(token_is_zero(result.dv, row, c.kv_heads * c.head_width), later) << row;
        if (!later) continue;
        EXPECT_TRUE(token_is_zero(result.dk, row, c.kv_heads * c.head_width)) << row;
      }
    }
}

// Holds messages back until its rank waits for one, then sends them in another order, each after a moment.
class LateLink final : public ContextLink {
 public:
  explicit LateLink(ContextLink& link) : link_(link) {}
  ~LateLink() override { release(); }
  int shard() const override { return link_.shard(); }
  int shards() const override { return link_.shards(); }
  void send(int shard, const Tag& tag, Message message) override {
    held_.push_back({shard, tag, std::move(message)});
  }
  Message receive(int shard, const Tag& tag) override {
    release();
    return link_.receive(shard, tag);
  }
  MessagePool& pool() override { return link_.pool(); }

 private:
  struct Held {
    int shard;
    Tag tag;
    Message message;
  };
  void release() {
    while (!held_.empty()) {
      std::this_thread::sleep_for(std::chrono::microseconds(100 * ((link_.shard() + 1) % 3)));
      Held last = std::move(held_.back());
      held_.pop_back();
      link_.send(last.shard, last.tag, std::move(last.message));
    }
  }
  ContextLink& link_;
  std::vector<Held> held_;
};

TEST(ContextAttention, Invariant14_OrderAndDelayOfMessagesChangeNothing) {
  for (ContextCase c : on_four_ranks()) {
    SCOPED_TRACE(text_of(c));
    const ContextInputs in = context_inputs(c, c.dtype);
    const ContextResult prompt = run_context(c, in);
    c.wrap = [](ContextLink& link) { return std::make_unique<LateLink>(link); };
    const ContextResult late = run_context(c, in);
    EXPECT_EQ(late.o, prompt.o);
    EXPECT_EQ(late.dq, prompt.dq);
    EXPECT_EQ(late.dk, prompt.dk);
    EXPECT_EQ(late.dv, prompt.dv);
  }
}

// A rank that is at another layer than the others: everybody is told who waits for what.
TEST(ContextAttention, Invariant14_WrongOrderIsDetected) {
  for (ContextCase c : on_four_ranks()) {
    SCOPED_TRACE(text_of(c));
    c.layer_of = [](int rank) { return rank == 2 ? 1 : 0; };
    try {
      run_context(c, context_inputs(c, c.dtype));
      ADD_FAILURE() << "nothing was thrown";
    } catch (const CommunicatorAborted& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("waits for"));
    }
  }
}

// 21 tokens and three of padding, a document of their own: the 21 are what they are alone, without causality, too.
TEST(ContextAttention, Invariant15_PaddingChangesNothing) {
  for (bool causal : {true, false})
    for (ContextCase c : on_four_ranks()) {
      c.options.causal = causal;
      c.sequences = 1;
      SCOPED_TRACE(text_of(c));
      ContextCase alone = c;
      alone.tokens = 21;
      const ContextInputs in = context_inputs(alone, c.dtype);
      const ContextResult expected = run_single(alone, in);
      ContextInputs padded = context_inputs(c, c.dtype, 77);
      for (auto x : {&ContextInputs::q, &ContextInputs::k, &ContextInputs::v, &ContextInputs::dout})
        std::copy((in.*x).begin(), (in.*x).end(), (padded.*x).begin());
      std::fill(padded.dout.begin() + static_cast<int64_t>(in.dout.size()), padded.dout.end(), 0.0);
      for (int64_t t = 0; t < c.tokens; ++t) padded.documents.push_back(t < 21 ? 0 : -1);
      const ContextResult result = run_context(c, padded);
      const auto first = [](const Values& x, const Values& like) {
        return Values(x.begin(), x.begin() + static_cast<int64_t>(like.size()));
      };
      EXPECT_LE(largest_difference(first(result.o, expected.o), expected.o), 1e-12);
      EXPECT_LE(largest_difference(first(result.dq, expected.dq), expected.dq), 1e-12);
      EXPECT_LE(largest_difference(first(result.dk, expected.dk), expected.dk), 1e-12);
      EXPECT_LE(largest_difference(first(result.dv, expected.dv), expected.dv), 1e-12);
    }
}

// A device's messages are in its own memory; skipped without one, and run in test_engine_on_host. The bounds are those
// of attention on any backend (docs/numerics.md), because the processor that it is compared with is held to them, too.
TEST(DeviceTrainingContext, EqualsOneRank) {
  std::string reason;
  if (make_cuda_backend(&reason) == nullptr) GTEST_SKIP() << reason;
  for (DType dtype : {DType::f32, DType::bf16})
    for (ContextCase c : on_four_ranks()) {
      if (c.options.layout != TokenLayout::zigzag) continue;  // the one with all kinds of views
      c.dtype = dtype;
      c.head_width = 16;
      c.sequences = 1;
      SCOPED_TRACE(text_of(c) + " " + name_of(dtype));
      ContextInputs in = context_inputs(c, dtype);
      for (int64_t t = 0; t < c.tokens; ++t) in.documents.push_back(t < 9 ? 1 : 2);
      const ContextResult one = run_single(c, in);
      c.cuda = true;
      const ContextResult result = run_context(c, in);
      const double forward = dtype == DType::f32 ? 5e-6 : 4e-3,
                   backward = dtype == DType::f32 ? 2e-5 : 8e-3;
      EXPECT_LE(nrmse(result.o, one.o), forward);
      EXPECT_LE(nrmse(result.dq, one.dq), backward);
      EXPECT_LE(nrmse(result.dk, one.dk), backward);
      EXPECT_LE(nrmse(result.dv, one.dv), backward);
    }
}

// Two microbatches in flight, as in a pipeline: what one keeps is not the other's.
TEST(ContextAttention, OfMicrobatchesInFlightIsThatOfEach) {
  for (const ContextCase& c : on_four_ranks()) {
    SCOPED_TRACE(text_of(c));
    const std::vector<ContextInputs> in = {context_inputs(c, c.dtype, 5),
                                           context_inputs(c, c.dtype, 6)};
    std::vector<ContextResult> results = {context_result(c, in[0]), context_result(c, in[1])};
    InProcess hub(c.shards, 2);
    MessagePool pool;
    hub.run([&](int index) {
      ContextRank rank(c, hub, pool, index, 2);
      for (int m : {0, 1})
        rank.forward(in[static_cast<size_t>(m)], results[static_cast<size_t>(m)], m, true);
      for (int m : {0, 1})
        rank.backward(in[static_cast<size_t>(m)], results[static_cast<size_t>(m)], m);
    });
    for (size_t m : {0u, 1u}) {
      const ContextResult alone = run_context(c, in[m]);
      EXPECT_EQ(results[m].o, alone.o);
      EXPECT_EQ(results[m].dq, alone.dq);
      EXPECT_EQ(results[m].dk, alone.dk);
      EXPECT_EQ(results[m].dv, alone.dv);
    }
  }
}

// An evaluation keeps nothing, and its frame may be used again at once.
TEST(ContextAttention, WithoutTrainingGivesTheSameOutput) {
  for (const ContextCase& c : on_four_ranks()) {
    const ContextInputs in = context_inputs(c, c.dtype);
    EXPECT_EQ(run_context(c, in, false).o, run_context(c, in).o) << text_of(c);
  }
}

}  // namespace
}  // namespace strait::testing
