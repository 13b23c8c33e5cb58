// Context parallelism in whole training steps: shards of a sequence, alone and together with stages and replicas, train as one rank
// does (specs/context_parallelism.md, T13; design, section 9.5).
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <variant>

#include "engine/in_process.h"
#include "engine/rank.h"
#include "tests/engine/pipeline.h"

namespace strait::testing {
namespace {

struct Outcome {
  std::vector<record::StepLog> steps;
  std::vector<record::Evaluation> evaluations;
  std::vector<Snapshot> snapshots;
};

Outcome run(const TrainingConfig& c, const BatchSource& data, const Snapshot* start = nullptr) {
  Outcome o;
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
  observer.evaluation = [&](const record::Evaluation& e) { o.evaluations.push_back(e); };
  observer.checkpoint = [&](const Snapshot& s) { o.snapshots.push_back(s); };
  observer.checkpoint_every = 2;
  train({{c, &data}}, c.dtype == DType::f64 ? BackendKind::reference : BackendKind::cpu, 2, {start},
        observer);
  return o;
}

// Targets of which some are ignored: a loss mask that no shard has alike.
class Masked final : public BatchSource {
 public:
  explicit Masked(const ModelShape& shape) : tokens_(shape), context_(shape.context) {}
  void training(int64_t index, int32_t* ids, int32_t* targets) const override {
    tokens_.training(index, ids, targets);
    mask(index, targets);
  }
  void validation(int64_t index, int32_t* ids, int32_t* targets) const override {
    tokens_.validation(index, ids, targets);
    mask(index, targets);
  }

  std::optional<int32_t> document_begin() const override { return 7; }

 private:
  void mask(int64_t index, int32_t* targets) const {
    if (targets == nullptr) return;
    for (int64_t t = 0; t < context_; ++t)
      if ((t + index) % 5 < 2 && t < 3 * context_ / 4) targets[t] = -1;
  }
  HashedTokens tokens_;
  int64_t context_;
};

TrainingConfig config(int pipeline, int shards, int replicas, DType dtype,
                      const std::string& method = "none") {
  TrainingConfig c = tiny_run(pipeline, method, dtype, 3, 1);
  c.shape.layers = 2;
  c.shape.context = 48;
  c.batch = 4;
  c.replicas = replicas;
  c.microbatches = 2 / replicas;
  c.evaluate_batches = 2 / replicas;
  c.shards = shards;
  return c;
}

void expect_near(const Outcome& a, const Outcome& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.steps.size(), b.steps.size()) << what;
  for (size_t i = 0; i < a.steps.size(); ++i) {
    EXPECT_NEAR(a.steps[i].loss, b.steps[i].loss, tolerance) << what << ", step " << i + 1;
    EXPECT_NEAR(a.steps[i].grad_norm, b.steps[i].grad_norm, tolerance) << what;
    EXPECT_EQ(a.steps[i].tokens, b.steps[i].tokens) << what;
  }
  ASSERT_EQ(a.evaluations.size(), b.evaluations.size()) << what;
  for (size_t i = 0; i < a.evaluations.size(); ++i)
    EXPECT_NEAR(a.evaluations[i].validation_loss, b.evaluations[i].validation_loss, tolerance)
        << what;
}

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

// Sums in another order: rounding of f64, which three steps of AdamW make larger, but not by six orders.
constexpr double kRounding = 1e-9;

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

// M22 in whole steps: projections that are absorbed into bases train as those that are not, in every grid and from every source of angles.
void expect_absorbed_trains_as_direct(TrainingConfig c, const std::string& what) {
  const Masked data(c.shape);
  const Outcome direct = run(c, data);
  c.context.mixture.projection = "absorbed";
  expect_near(run(c, data), direct, kRounding, what);
}

TrainingConfig mixture(int shards, const std::string& theta, DType dtype = DType::f64) {
  TrainingConfig c = config(1, shards, 1, dtype);
  c.context.method = "mos";
  c.context.mixture.rho_k = 0.75;
  c.context.mixture.rho_v = 0.5;
  c.context.mixture.uncompressed_layers = "none";
  c.context.mixture.theta_source = theta;
  return c;
}

// The function does not depend on who computes: with an angle that no piece chooses, any number of shards trains the same model.
TEST(Shards, MixturesOfSubspacesTrainAsOnOneRank) {
  for (const char* theta : {"zero", "constant"}) {
    const Masked data(mixture(1, theta).shape);
    const Outcome one = run(mixture(1, theta), data);
    for (const int shards : {2, 4}) {
      TrainingConfig c = mixture(shards, theta);
      expect_near(run(c, data), one, kRounding, theta);
      c.context.algorithm = ContextAlgorithm::allgather;
      c.context.layout = TokenLayout::contiguous;
      expect_near(run(c, data), one, kRounding, theta);
    }
    EXPECT_GT(std::abs(one.steps[0].loss - run(config(1, 1, 1, DType::f64), data).steps[0].loss),
              1e-6);
  }
}

TEST(Shards, M22_AbsorbedProjectionsTrainAsDirectOnesDo) {
  for (const char* theta : {"prev_piece", "chunk_mean", "constant", "zero", "random"})
    expect_absorbed_trains_as_direct(mixture(2, theta), theta);
  expect_absorbed_trains_as_direct(mixture(1, "chunk_mean"), "one rank");
  TrainingConfig heads = mixture(2, "prev_piece");
  heads.context.mixture.scope = "per_head";
  heads.context.mixture.project_at_start = true;
  heads.context.algorithm = ContextAlgorithm::allgather;
  heads.context.layout = TokenLayout::contiguous;
  expect_absorbed_trains_as_direct(heads, "per head");
  TrainingConfig stiefel = mixture(2, "zero");
  stiefel.context.mixture.rotation = "none";
  stiefel.context.mixture.basis_opt = "stiefel";
  expect_absorbed_trains_as_direct(stiefel, "stiefel");
  TrainingConfig grid = mixture(2, "prev_piece");
  grid.context.mixture.uncompressed_layers = "last";
  grid.pipeline = grid.replicas = 2;
  grid.microbatches = grid.evaluate_batches = 1;
  expect_absorbed_trains_as_direct(grid, "stages and replicas");
}

// The last layer's keys and values and their gradients stay as they are; the others' are never there.
TEST(Shards, AbsorbedProjectionsSaveMemoryAndArithmetic) {
  TrainingConfig c = mixture(2, "prev_piece", DType::f32);
  c.context.mixture.rank_k = c.context.mixture.rank_v = 1;
  const auto cost = [](const TrainingConfig& config) {
    const DryRun plan = dry_run(config);
    double flops = 0;
    for (const record::Entry& e : plan.step.ranks.at(0).entries)
      if (const auto* work = std::get_if<record::Compute>(&e.action))
        for (const record::OpWork& op : work->ops) flops += static_cast<double>(op.flops);
    return std::pair(plan.ranks.at(0).frame_bytes, flops);
  };
  const auto direct = cost(c);
  c.context.mixture.projection = "absorbed";
  const auto absorbed = cost(c);
  EXPECT_LT(absorbed.first, direct.first);
  EXPECT_LT(absorbed.second, direct.second);
}

// Bases of what keys and values are when training with the method begins: gathered before the first step by passes that nobody records, by
// all copies and through all stages together; a training that goes on has them.
TEST(Shards, BasesOfActivationsAreGatheredWhereTheMethodBegins) {
  const auto with = [](int pipeline, int shards, int replicas) {
    TrainingConfig c = mixture(shards, "zero");
    c.pipeline = pipeline;
    c.replicas = replicas;
    c.microbatches = c.evaluate_batches = 2 / replicas;
    c.context.mixture.basis_source = "activations";
    c.context.mixture.calibration_batches = 2 / replicas;
    return c;
  };
  const TrainingConfig one = with(1, 1, 1);
  const Masked data(one.shape);
  const Outcome expected = run(one, data);
  TrainingConfig weights = one;
  weights.context.mixture.basis_source = "weights";
  const Outcome other = run(weights, data);
  EXPECT_GT(std::abs(other.steps[0].loss - expected.steps[0].loss), 1e-9);
  EXPECT_EQ(other.steps[0].ranks[0].entries.size(), expected.steps[0].ranks[0].entries.size());
  for (const auto& [pipeline, shards, replicas] :
       {std::tuple{1, 2, 1}, std::tuple{2, 2, 1}, std::tuple{2, 1, 2}}) {
    TrainingConfig c = with(pipeline, shards, replicas);
    const Outcome o = run(c, data);
    expect_near(o, expected, kRounding, std::to_string(pipeline) + std::to_string(shards));
    const Outcome rest = run(c, data, &o.snapshots.at(0));
    ASSERT_EQ(rest.steps.size(), 1U);
    EXPECT_EQ(rest.steps[0].loss, o.steps[2].loss);
    c.context.mixture.projection = "absorbed";
    expect_near(run(c, data), expected, kRounding, "absorbed");
  }
}

// M20: a layer that is not compressed works as in plain context parallelism.
TEST(Shards, M20_UncompressedLayersAreThoseOfPlainAttention) {
  TrainingConfig c = mixture(2, "prev_piece", DType::f32);
  c.context.mixture.uncompressed_layers = "list";
  c.context.mixture.uncompressed_list = {0, 1};
  const Masked data(c.shape);
  const Outcome all_plain = run(c, data), plain = run(config(1, 2, 1, DType::f32), data);
  for (size_t i = 0; i < plain.steps.size(); ++i)
    EXPECT_EQ(all_plain.steps[i].loss, plain.steps[i].loss);
}

// Plain, then compressed, then plain again: the basis is made when the method begins, goes through checkpoints, and what is left of it when
// it ends is a fold (specs/mixture_of_subspaces.md 8, M19).
TEST(Shards, MixturesBeginAndEndInPhases) {
  for (const bool causal : {true, false}) {
    TrainingConfig plain = config(1, 2, 1, DType::f64),
                   mixed = mixture(2, causal ? "prev_piece" : "zero"), after = plain;
    for (TrainingConfig* c : {&plain, &mixed, &after}) {
      c->steps = 6;
      c->learning_rate.total_steps = 6;
      c->evaluate_every = 0;
    }
    const auto tokens = static_cast<uint64_t>(plain.batch * plain.shape.context);
    mixed.first_step = 3;
    mixed.tokens_before = 2 * tokens;
    after.first_step = 5;
    after.tokens_before = 4 * tokens;
    after.learning_rate.peak = 0;  // what the fold leaves is looked at
    const Masked data(plain.shape);
    const auto train_phases = [&](const Snapshot* start) {
      Outcome o;
      TrainingObserver observer;
      observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
      observer.checkpoint = [&](const Snapshot& s) { o.snapshots.push_back(s); };
      observer.checkpoint_every = 1;
      train({{plain, &data}, {mixed, &data}, {after, &data}}, BackendKind::reference, 2, {start},
            observer);
      return o;
    };
    const Outcome whole = train_phases(nullptr);
    ASSERT_EQ(whole.steps.size(), 6U);
    for (const size_t done : {2U, 3U, 4U}) {
      const Outcome rest = train_phases(&whole.snapshots.at(done - 1));
      ASSERT_EQ(rest.steps.size(), 6 - done);
      for (size_t i = 0; i < rest.steps.size(); ++i)
        EXPECT_EQ(rest.steps[i].loss, whole.steps[i + done].loss) << done;
    }
    if (causal) continue;
    // M19: at an angle of zero the folded model has the loss that the mixture would have had.
    TrainingConfig longer = mixed;
    longer.learning_rate.peak = 0;
    longer.first_step = 5;
    longer.tokens_before = 4 * tokens;
    Outcome o;
    TrainingObserver observer;
    observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
    train({{plain, &data}, {mixed, &data}, {longer, &data}}, BackendKind::reference, 2,
          {&whole.snapshots.at(3)}, observer);
    EXPECT_NEAR(o.steps.at(0).loss, whole.steps[4].loss, 1e-6);
  }
}

// A phase makes anew the bases that it would make otherwise, layer by layer, whatever the grid; the others go on.
TEST(Shards, PhasesOfMixturesMakeAnewWhatTheyChange) {
  const auto losses = [](int pipeline, const std::function<void(MixtureOptions&)>& change) {
    TrainingConfig first = mixture(2, "prev_piece"), second = first;
    first.context.mixture.uncompressed_layers = second.context.mixture.uncompressed_layers = "last";
    for (TrainingConfig* c : {&first, &second}) {
      c->pipeline = pipeline;
      c->steps = 4;
      c->evaluate_every = 0;
    }
    second.first_step = 3;
    second.tokens_before = static_cast<uint64_t>(2 * first.batch * first.shape.context);
    change(second.context.mixture);
    const Masked data(first.shape);
    std::vector<double> found;
    TrainingObserver observer;
    observer.step = [&](const record::StepLog& s) { found.push_back(s.loss); };
    train({{first, &data}, {second, &data}}, BackendKind::reference, 2, {}, observer);
    return found;
  };
  const auto same = losses(1, [](MixtureOptions&) {});
  for (const auto& [what, change] : std::map<std::string, std::function<void(MixtureOptions&)>>{
           {"rotation", [](MixtureOptions& o) { o.rotation = "plane"; }},
           {"seed", [](MixtureOptions& o) { o.basis_source = "random", o.seed = 5; }},
           {"scope", [](MixtureOptions& o) { o.scope = "per_head"; }},
           {"layers", [](MixtureOptions& o) { o.uncompressed_layers = "none"; }}}) {
    const auto one = losses(1, change), two = losses(2, change);
    ASSERT_EQ(one.size(), 4U) << what;
    EXPECT_EQ(one[1], same[1]) << what;
    EXPECT_GT(std::abs(one[3] - same[3]), 1e-9) << what;
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(two[i], one[i], kRounding) << what;
  }
}

TEST(Shards, RefuseWhatDoesNotGoTogether) {
  TrainingConfig c = config(1, 5, 1, DType::f32);
  EXPECT_THROW(validate(c), std::invalid_argument);
  c = mixture(4, "prev_piece", DType::f32);
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
