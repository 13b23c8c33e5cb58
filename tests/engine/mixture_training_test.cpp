// Mixtures of subspaces in whole trainings: on any number of shards, from phase to phase, with absorbed projections, from bases of activations
// (specs/mixture_of_subspaces.md 8 and 13, M19, M20, M22).
#include "tests/engine/shards_support.h"

namespace strait::testing {
namespace {

using namespace sharded;

// M22 in whole steps: projections that are absorbed into bases train as those that are not, in every grid and from every source of angles.
void expect_absorbed_trains_as_direct(TrainingConfig c, const std::string& what) {
  const Masked data(c.shape);
  const Outcome direct = run(c, data);
  c.context.mixture.projection = "absorbed";
  expect_near(run(c, data), direct, kRounding, what);
}

// The function does not depend on who computes: with an angle that no piece chooses, any number of shards trains the same model.
TEST(MixtureTraining, MixturesOfSubspacesTrainAsOnOneRank) {
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

TEST(MixtureTraining, M22_AbsorbedProjectionsTrainAsDirectOnesDo) {
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
TEST(MixtureTraining, AbsorbedProjectionsSaveMemoryAndArithmetic) {
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
TEST(MixtureTraining, BasesOfActivationsAreGatheredWhereTheMethodBegins) {
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

// The same on a processor, where f64 is for statistics alone.
TEST(MixtureTraining, BasesOfActivationsInSinglePrecision) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    TrainingConfig c = mixture(2, "prev_piece", dtype);
    c.pipeline = 2;
    c.context.mixture.basis_source = "activations";
    c.context.mixture.projection = "absorbed";
    const Masked data(c.shape);
    const Outcome o = run(c, data), rest = run(c, data, &o.snapshots.at(0));
    ASSERT_EQ(rest.steps.size(), 1U);
    EXPECT_EQ(rest.steps[0].loss, o.steps.at(2).loss);
    EXPECT_TRUE(std::isfinite(o.steps[2].loss));
  }
}

// M20: a layer that is not compressed works as in plain context parallelism.
TEST(MixtureTraining, M20_UncompressedLayersAreThoseOfPlainAttention) {
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
TEST(MixtureTraining, MixturesBeginAndEndInPhases) {
  for (const auto& [theta, source] :
       {std::pair{"prev_piece", "weights"}, std::pair{"prev_piece", "activations"},
        std::pair{"zero", "weights"}}) {
    const bool causal = std::string(theta) == "prev_piece";
    TrainingConfig plain = config(1, 2, 1, DType::f64), mixed = mixture(2, theta), after = plain;
    mixed.context.mixture.basis_source = source;
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
TEST(MixtureTraining, PhasesOfMixturesMakeAnewWhatTheyChange) {
  const auto losses = [](int pipeline, const std::function<void(MixtureOptions&)>& change,
                         const std::string& source = "weights") {
    TrainingConfig first = mixture(2, "prev_piece"), second = first;
    first.context.mixture.basis_source = second.context.mixture.basis_source = source;
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
  // One stage's layer begins and sees activations, the other's has its basis: both compute.
  const auto more = [](MixtureOptions& o) { o.uncompressed_layers = "none"; };
  const auto one = losses(1, more, "activations"), two = losses(2, more, "activations");
  ASSERT_EQ(two.size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(two[i], one[i], kRounding);
}

}  // namespace
}  // namespace strait::testing
