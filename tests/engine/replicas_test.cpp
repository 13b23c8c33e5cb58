// Data parallelism: replicas of the pipeline, each with its share of the batch, take the step that one would take (specs/context_parallelism.md
// 11.1 and 11.2; design, section 9.5).
#include <gtest/gtest.h>

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
  std::string parameters;
};

Outcome run(const TrainingConfig& c, BackendKind kind = BackendKind::cpu) {
  Outcome o;
  const HashedTokens data(c.shape);
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
  observer.evaluation = [&](const record::Evaluation& e) { o.evaluations.push_back(e); };
  o.parameters = train(c, kind, &data, 2, observer).parameters_hash;
  return o;
}

// A batch of 8 in microbatches of 2 sequences.
TrainingConfig config(int pipeline, int replicas, const std::string& method, DType dtype) {
  TrainingConfig c = tiny_run(pipeline, method, dtype, 3, 1);
  c.batch = 8;
  c.replicas = replicas;
  c.microbatches = 4 / replicas;
  c.evaluate_batches = 4 / replicas;  // of 2 sequences a replica
  return c;
}

const char* const kAlikeEverywhere[] = {"none", "subspace", "resbm", "mapl",       "frozen",
                                        "cast", "quantize", "topk",  "column_mask"};

TEST(Replicas, TakeTheStepsOfOne) {
  for (const char* method : kAlikeEverywhere) {
    const Outcome one = run(config(2, 1, method, DType::f64), BackendKind::reference),
                  two = run(config(2, 2, method, DType::f64), BackendKind::reference);
    ASSERT_EQ(one.steps.size(), two.steps.size());
    // Sums in another order: rounding of f64, which three steps of AdamW make larger, but not by six orders.
    for (size_t i = 0; i < one.steps.size(); ++i) {
      EXPECT_NEAR(two.steps[i].loss, one.steps[i].loss, 1e-9) << method << " step " << i;
      EXPECT_NEAR(two.steps[i].grad_norm, one.steps[i].grad_norm, 1e-9) << method;
      EXPECT_EQ(two.steps[i].tokens, one.steps[i].tokens);
    }
    ASSERT_EQ(one.evaluations.size(), two.evaluations.size());
    for (size_t i = 0; i < one.evaluations.size(); ++i)
      EXPECT_NEAR(two.evaluations[i].validation_loss, one.evaluations[i].validation_loss, 1e-9)
          << method;
  }
}

// Codecs that remember what they have seen do so copy by copy: another training, but one that repeats, and whose copies stay equal
// (train() checks it).
TEST(Replicas, KeepEqualParametersWhereCodecsRememberOfTheirOwn) {
  for (const char* method : {"lowrank", "topk", "mapl+vq", "column_mask"}) {
    TrainingConfig c = config(2, 4, method, DType::f32);
    c.method.error_feedback = "per_microbatch";
    c.method.refresh = 2;
    EXPECT_EQ(run(c).parameters, run(c).parameters) << method;
  }
}

TEST(Replicas, MoveTheBasisByTheGradientsOfAll) {
  double losses[2][3];
  for (const int replicas : {1, 2}) {
    TrainingConfig c = config(3, replicas, "subspace", DType::f64);
    c.method.update_every = 1;
    const Outcome o = run(c, BackendKind::reference);
    for (size_t i = 0; i < 3; ++i) losses[replicas - 1][i] = o.steps[i].loss;
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(losses[1][i], losses[0][i], 1e-8);  // as above
}

TEST(Replicas, SendTheirGradientsInARing) {
  for (const int replicas : {2, 4}) {
    const TrainingConfig c = config(2, replicas, "none", DType::f32);
    const DryRun plan = dry_run(c);
    const Grid grid = c.grid();
    ASSERT_EQ(plan.step.ranks.size(), static_cast<size_t>(grid.ranks()));
    for (int r = 0; r < grid.ranks(); ++r) {
      uint64_t bytes = 0, messages = 0;
      for (const record::Entry& e : plan.step.ranks[static_cast<size_t>(r)].entries) {
        const auto* send = std::get_if<record::Send>(&e.action);
        if (send == nullptr || grid.replica(send->to) == grid.replica(r)) continue;
        EXPECT_EQ(send->kind, record::MessageKind::sync);
        EXPECT_EQ(send->dense, send->payload);
        EXPECT_EQ(send->to, grid.rank(grid.stage(r), 0, (grid.replica(r) + 1) % replicas));
        bytes += send->payload.count;
        ++messages;
      }
      EXPECT_EQ(messages, static_cast<uint64_t>(2 * (replicas - 1)));
      // 2 (G-1)/G of the flat gradient, whose parts differ by an element at most.
      const RankPlan& p = plan.ranks[static_cast<size_t>(r)];
      const double expected =
          2.0 * (replicas - 1) / replicas * 4 * static_cast<double>(p.parameters);
      EXPECT_GE(static_cast<double>(bytes), expected - 8.0 * replicas);
      EXPECT_LE(static_cast<double>(bytes), 1.05 * expected);  // with the padding between tensors
    }
  }
}

// specs/mixture_of_subspaces.md, M18: between averages copies go their own ways, after one they hold the same bits; where a training goes
// on from between two, they still do.
TEST(Replicas, M18_AverageTheirParameters) {
  for (const auto& [replicas, scope] : {std::pair(2, SynchronisedPart::all),
                                        {4, SynchronisedPart::all},
                                        {2, SynchronisedPart::attention}}) {
    TrainingConfig c = config(2, replicas, "none", DType::f32);
    c.steps = 6;
    c.evaluate_every = 0;
    c.synchronisation = {Synchronisation::parameters, 4, scope};
    const HashedTokens data(c.shape);
    const auto train_from = [&](const Snapshot* start) {
      std::pair<std::vector<Snapshot>, std::vector<double>> o;
      TrainingObserver observer;
      observer.step = [&](const record::StepLog& s) { o.second.push_back(s.loss); };
      observer.checkpoint = [&](const Snapshot& s) { o.first.push_back(s); };
      observer.checkpoint_every = 1;
      train({{c, &data}}, BackendKind::cpu, 2, {start}, observer);
      return o;
    };
    const auto [snapshots, losses] = train_from(nullptr);
    ASSERT_EQ(snapshots.size(), 6U);
    for (const Snapshot& s : snapshots) {
      // Also after the last step.
      const bool meet = s.step % 4 == 0 || s.step == c.steps;
      int compared = 0;
      for (const ParameterState& p : s.parameters)
        for (int copy = 1; copy < replicas; ++copy)
          if (const ParameterState* own = s.find(copy_name(p.name, copy))) {
            const bool met = meet && (scope == SynchronisedPart::all ||
                                      p.name.find(".self_attn.") != std::string::npos);
            EXPECT_EQ(own->master == p.master, met) << s.step << " " << own->name;
            ++compared;
          }
      EXPECT_GT(compared, 0);
    }
    const auto rest = train_from(&snapshots[2]).second;
    for (size_t i = 0; i < rest.size(); ++i) EXPECT_EQ(rest[i], losses[i + 3]);
  }
}

// Codecs that learn together go on to do so, on backends without f64 operations, too; and what differs between copies is not lost silently.
TEST(Replicas, AverageTheirParametersBesideCodecsThatLearn) {
  for (const char* method : {"subspace", "mapl"}) {
    TrainingConfig c = config(2, 2, method, DType::f32);
    c.method.update_every = 2;
    c.steps = 5;
    c.synchronisation = {Synchronisation::parameters, 3, SynchronisedPart::all};
    const HashedTokens data(c.shape);
    std::vector<Snapshot> snapshots;
    TrainingObserver observer;
    observer.checkpoint = [&](const Snapshot& s) { snapshots.push_back(s); };
    observer.checkpoint_every = 1;
    train({{c, &data}}, BackendKind::cpu, 2, {}, observer);  // at its end copies are compared
    ASSERT_EQ(snapshots.size(), 5U);
    EXPECT_EQ(copies_that_differ(snapshots[1]), 2) << method;
    EXPECT_EQ(copies_that_differ(snapshots[2]), 1) << method;
    TrainingConfig other = c;
    other.synchronisation.mode = Synchronisation::gradients;
    EXPECT_THROW(check_start(snapshots[1], other), std::invalid_argument);
    EXPECT_NO_THROW(check_start(snapshots[2], other));
    EXPECT_NO_THROW(check_start(snapshots[1], c));
  }
}

// Each copy's loss is the mean over its own tokens, padding not counted; one without tokens is refused.
TEST(Replicas, AverageTheirParametersOverTheirOwnTokens) {
  TrainingConfig c = config(1, 1, "none", DType::f32);
  c.shards = 4;
  c.context.layout = TokenLayout::contiguous;
  c.synchronisation = {Synchronisation::parameters, 3, SynchronisedPart::all};
  c.shape.context = 9;
  EXPECT_THROW(validate(c), std::invalid_argument);
  c.shape.context = 10;
  EXPECT_NO_THROW(validate(c));
}

// Any length, also one below the number of ranks; the same bits on all of them.
TEST(Replicas, RingSumsAreTheSameBitsEverywhere) {
  for (const int ranks : {2, 3, 8}) {
    for (const int64_t n : {1, 2, 7, 64}) {
      std::vector<std::vector<float>> result(static_cast<size_t>(ranks));
      MessagePool pool;
      InProcess hub(ranks, 2);
      std::vector<int> group;
      for (int r = 0; r < ranks; ++r) group.push_back(r);
      hub.run([&](int r) {
        auto ops = make_backend(BackendKind::cpu, 1);
        RankRecorder recorder(r, *ops);
        auto communicator = hub.communicator(r, recorder);
        std::vector<float>& mine = result[static_cast<size_t>(r)];
        for (int64_t i = 0; i < n; ++i) mine.push_back(1.0F / static_cast<float>(3 + r * 7 + i));
        communicator->all_reduce_ring(Tensor(mine.data(), DType::f32, {n}), group, 0, true, pool,
                                      *ops);
      });
      for (int r = 1; r < ranks; ++r) EXPECT_EQ(result[static_cast<size_t>(r)], result[0]);
      for (int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (int r = 0; r < ranks; ++r) sum += 1.0 / static_cast<double>(3 + r * 7 + i);
        EXPECT_NEAR(result[0][static_cast<size_t>(i)], sum, 1e-6);  // eight roundings of f32
      }
    }
  }
}

}  // namespace
}  // namespace strait::testing
