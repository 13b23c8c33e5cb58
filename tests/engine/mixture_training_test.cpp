// Mixtures of subspaces in whole trainings: on any number of shards, from phase to phase, with absorbed projections, from bases of activations
// (specs/mixture_of_subspaces.md 8 and 13, M19, M20, M22).
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "tests/engine/shards_support.h"

namespace strait::testing {
namespace {

using namespace shards;

// M22 in whole steps: projections that are absorbed into bases train as those that are not, in every grid and from every source of angles.
void expect_absorbed_trains_as_direct(TrainingConfig c, const std::string& what) {
  const Masked data(c.shape);
  const Outcome direct = run(c, data);
  c.context.mixture.projection = "absorbed";
  expect_near(run(c, data), direct, kRounding, what);
}

TEST(MixtureTraining, M22_AbsorbedProjectionsTrainAsDirectOnesDo) {
  for (const char* theta : {"prev_piece", "chunk_mean", "constant"})
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

}  // namespace
}  // namespace strait::testing
