// Context parallelism in whole training steps: shards of a sequence, alone and together with stages and replicas, train as one rank
// does (specs/context_parallelism.md, T13; design, section 9.5).
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <tuple>
#include <variant>

#include "engine/in_process.h"
#include "engine/rank.h"
#include "tests/engine/shards_support.h"

namespace strait::testing {
namespace {

using namespace shards;

struct Way {
  ContextOptions options;
  std::string name;
};

std::vector<Way> ways(int shards) {
  using A = ContextAlgorithm;
  std::vector<Way> all;
  for (const A algorithm : {A::ring, A::allgather, A::ulysses, A::hybrid})
    for (const TokenLayout layout :
         {TokenLayout::contiguous, TokenLayout::zigzag, TokenLayout::striped}) {
      ContextOptions o;
      o.algorithm = algorithm;
      o.layout = layout;
      if (algorithm == A::hybrid) {
        if (shards % 2 != 0) continue;
        o.ulysses_degree = 2;
      }
      if (algorithm == A::ulysses && 4 % shards != 0) continue;  // the model has four heads
      all.push_back({o, std::string(name_of(algorithm)) + " " + name_of(layout)});
    }
  ContextOptions reverse;
  reverse.bwd_schedule = RingBackward::reverse;
  all.push_back({reverse, "ring back"});
  ContextOptions needed;
  needed.algorithm = A::allgather;
  needed.kv_send = KeyValueSend::needed;
  needed.keep_gathered_kv = true;
  all.push_back({needed, "allgather needed, kept"});
  return all;
}

TEST(Shards, T13_TrainAsOneRankDoes) {
  const TrainingConfig one = config(1, 1, 1, DType::f64);
  const Masked data(one.shape);
  const Outcome expected = run(one, data);
  for (const int shards : {2, 3, 4, 8}) {
    for (const Way& way : ways(shards)) {
      if (shards > 4 && way.options.layout != TokenLayout::zigzag) continue;  // for time
      TrainingConfig c = config(1, shards, 1, DType::f64);
      c.context = way.options;
      expect_near(run(c, data), expected, kRounding, std::to_string(shards) + " " + way.name);
    }
  }
}

TEST(Shards, T11_KeepDocumentsApartAsOneRankDoes) {
  TrainingConfig one = config(1, 1, 1, DType::f64);
  one.shape.vocabulary = 9;  // documents of nine tokens in the mean
  one.document_mask = true;
  const Masked data(one.shape);
  const Outcome expected = run(one, data);
  TrainingConfig open = one;
  open.document_mask = false;
  EXPECT_GT(std::abs(run(open, data).steps[0].loss - expected.steps[0].loss), 1e-6);
  for (const Way& way : ways(4)) {
    TrainingConfig c = config(2, 4, 1, DType::f64);
    c.shape.vocabulary = 9;
    c.document_mask = true;
    c.context = way.options;
    expect_near(run(c, data), expected, kRounding, way.name);
  }
}

// Lengths that shards, or their pieces, do not divide; also one that leaves a shard nothing but padding.
TEST(Shards, T15_PaddingChangesNothing) {
  for (const auto& [length, shards, documents] :
       {std::tuple(47, 2, false), {45, 4, false}, {46, 3, true}, {5, 4, false}}) {
    TrainingConfig one = config(1, 1, 1, DType::f64);
    one.shape.context = length;
    one.shape.vocabulary = documents ? 9 : one.shape.vocabulary;
    one.document_mask = documents;
    const Masked data(one.shape);
    const Outcome expected = run(one, data);
    for (const Way& way : ways(shards)) {
      if (shards != 4 && way.options.layout != TokenLayout::zigzag) continue;  // for time
      TrainingConfig c = one;
      c.shards = shards;
      c.context = way.options;
      EXPECT_EQ(c.padded_context() % shards, 0);
      expect_near(run(c, data), expected, kRounding,
                  std::to_string(length) + " tokens, " + std::to_string(shards) + " " + way.name);
    }
  }
}

TEST(Shards, T13_TrainAsOneRankDoesInEveryGrid) {
  const TrainingConfig one = config(1, 1, 1, DType::f64);
  const Masked data(one.shape);
  const Outcome expected = run(one, data);
  for (const auto& [pipeline, replicas] : {std::pair{2, 1}, std::pair{1, 2}, std::pair{2, 2}}) {
    TrainingConfig c = config(pipeline, 2, replicas, DType::f64);
    expect_near(run(c, data), expected, kRounding,
                std::to_string(pipeline) + " stages, " + std::to_string(replicas) + " replicas");
  }
}

// What crosses the boundaries is coded shard by shard; methods that look at one token at a time do not notice.
TEST(Shards, GoWithTheMethodsOfTheBoundaries) {
  for (const char* method : {"subspace", "resbm", "mapl", "quantize"}) {
    const TrainingConfig one = config(2, 1, 1, DType::f64, method);
    const Masked data(one.shape);
    expect_near(run(config(2, 2, 1, DType::f64, method), data), run(one, data), kRounding, method);
  }
}

// In the first step, before errors grow: fp32 sums of a few thousand terms in another order.
TEST(Shards, T13_GradientsOfFp32) {
  std::map<std::string, std::vector<double>> moments[2];
  for (const int shards : {1, 4}) {
    TrainingConfig c = config(1, shards, 1, DType::f32);
    c.steps = 1;
    c.evaluate_every = 0;
    c.clip_norm = 0;
    const Masked data(c.shape);
    const Outcome o = run(c, data);
    for (const ParameterState& p : o.snapshots.at(0).parameters) {
      if (p.m.empty()) continue;
      const auto* m = reinterpret_cast<const float*>(p.m.data());
      moments[shards == 4][p.name].assign(m, m + p.m.size() / sizeof(float));
    }
  }
  ASSERT_GT(moments[0].size(), 10U);
  for (const auto& [name, m] : moments[0]) EXPECT_LE(nrmse(moments[1].at(name), m), 1e-5) << name;
}

TEST(Shards, BelongToNoCheckpoint) {
  const TrainingConfig one = config(1, 1, 1, DType::f64);
  const Masked data(one.shape);
  const Outcome whole = run(one, data);
  const Outcome rest = run(config(1, 4, 1, DType::f64), data, &whole.snapshots.at(0));
  ASSERT_EQ(rest.steps.size(), 1U);
  EXPECT_NEAR(rest.steps[0].loss, whole.steps[2].loss, kRounding);
}

// No rank holds more than its shard and the blocks in flight: what a rank of a ring needs does not grow with the number of shards, and grows with
// their length as that does; a matrix of tokens by tokens would grow fourfold.
TEST(Shards, HoldTheirShardAndTheBlocksInFlight) {
  const auto bytes = [](int shards, int64_t shard_tokens) {
    TrainingConfig c = config(1, shards, 1, DType::f32);
    c.shape.context = shards * shard_tokens;
    const DryRun plan = dry_run(c);
    size_t most = 0;
    for (const RankPlan& p : plan.ranks)
      most = std::max(
          most, p.frame_bytes * static_cast<size_t>(p.frames) + p.scratch_bytes + p.message_bytes);
    return static_cast<double>(most);
  };
  // Bounds: the positions of the whole sequence, 4 bytes a token of some hundreds.
  EXPECT_NEAR(bytes(8, 1024) / bytes(4, 1024), 1.0, 0.05);
  EXPECT_NEAR(bytes(8, 2048) / bytes(8, 1024), 2.0, 0.05);
}

// The record shows keys and values in flight while blocks are computed: of each layer's exchange the send comes before the block's work,
// the receive after it.
TEST(Shards, ComputeWhileKeysAndValuesTravel) {
  TrainingConfig c = config(1, 4, 1, DType::f32);
  const DryRun plan = dry_run(c);
  for (const record::RankLog& log : plan.step.ranks) {
    int hidden = 0;
    bool sent = false, computed = false;
    for (const record::Entry& e : log.entries) {
      if (const auto* send = std::get_if<record::Send>(&e.action)) {
        if (send->kind != record::MessageKind::forward) break;
        sent = true;
        computed = false;
      } else if (std::holds_alternative<record::Compute>(e.action)) {
        computed = sent;
      } else if (std::holds_alternative<record::Receive>(e.action)) {
        hidden += computed ? 1 : 0;
        sent = computed = false;
      }
    }
    EXPECT_EQ(hidden, 2 * 3);  // layers, hops; of the first microbatch at least
  }
}

TEST(Shards, RefuseWhatDoesNotGoTogether) {
  TrainingConfig c = mixture(4, "prev_piece", DType::f32);
  c.context.layout = TokenLayout::striped;
  try {
    validate(c);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_EQ(std::string(e.what()).find("/compression/context/theta_source: "), 0U) << e.what();
  }
  c = config(1, 4, 1, DType::f32);
  c.context.kv_head_group = 3;
  try {
    validate(c);
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_EQ(std::string(e.what()).find("/parallel/context_attention/kv_head_group"), 0U)
        << e.what();
  }
}

}  // namespace
}  // namespace strait::testing
