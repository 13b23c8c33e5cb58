// Grid equivalence: the same run on one rank, on four, under both schedules and on any number of
// host threads (design, sections 6 and 9.5).
#include <gtest/gtest.h>

#include <mutex>

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

Outcome run(const TrainingConfig& c, int host_threads = 2, BackendKind kind = BackendKind::cpu) {
  Outcome o;
  const HashedTokens data(c.shape);
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
  observer.evaluation = [&](const record::Evaluation& e) { o.evaluations.push_back(e); };
  o.parameters = train(c, kind, &data, host_threads, observer).parameters_hash;
  return o;
}

TrainingConfig config(int pipeline, const std::string& method = "none") {
  TrainingConfig c = tiny_run(pipeline, method, DType::f32, 3, 1);
  c.shape.layers = 4;
  c.batch = 8;
  c.microbatches = 4;
  return c;
}

// The gradient of the first step, by parameter name: AdamW's first moment is (1 - beta1) g after
// it.
std::map<std::string, std::vector<double>> first_gradient(TrainingConfig c) {
  c.steps = 1;
  c.clip_norm = 0;
  const HashedTokens data(c.shape);
  const DryRun plan = dry_run(c);
  MessagePool pool;
  InProcess hub(c.pipeline, 2);
  std::map<std::string, std::vector<double>> result;
  std::mutex mutex;
  hub.run([&](int r) {
    auto ops = make_backend(BackendKind::cpu, 1);
    RankRecorder recorder(r, *ops);
    auto communicator = hub.communicator(r, recorder);
    Rank rank(c, r, *ops, recorder, *communicator, pool, &data,
              &plan.ranks[static_cast<size_t>(r)]);
    rank.train(1, false);
    std::lock_guard lock(mutex);
    for (const Parameter& p : rank.parameters().parameters()) result[p.name] = values(p.m);
  });
  return result;
}

TEST(Grid, FourStagesEqualOneStageBitForBitInTheForward) {
  const Outcome one = run(config(1)), four = run(config(4));
  EXPECT_EQ(one.steps[0].loss,
            four.steps[0].loss);  // the same bits: before any update only the forward counts
  EXPECT_EQ(one.evaluations.size(), four.evaluations.size());
  EXPECT_EQ(one.evaluations[0].validation_loss, four.evaluations[0].validation_loss);
  for (size_t i = 0; i < one.steps.size(); ++i)
    EXPECT_NEAR(one.steps[i].loss, four.steps[i].loss, 1e-6 * one.steps[i].loss);
}

TEST(Grid, FourStagesEqualOneStageInEveryGradient) {
  const auto one = first_gradient(config(1)), four = first_gradient(config(4));
  ASSERT_EQ(one.size(), four.size());
  for (const auto& [name, g] : one)
    EXPECT_LE(nrmse(four.at(name), g), 1e-6) << name;  // design, section 6
}

TEST(Grid, GPipeEquals1F1B) {
  for (const char* method : {"none", "subspace", "mapl", "mapl+vq", "quantize", "topk",
                             "column_mask", "column_mask+anchors", "lowrank", "resbm+iota"}) {
    TrainingConfig c = config(4, method);
    c.method.rounding = "stochastic";
    c.method.error_feedback = "per_microbatch";
    const Outcome a = run(c);
    c.schedule = "gpipe";
    const Outcome b = run(c);
    for (size_t i = 0; i < a.steps.size(); ++i)
      EXPECT_EQ(a.steps[i].loss, b.steps[i].loss) << method;  // the same sums in the same order
    EXPECT_EQ(a.parameters, b.parameters) << method;
  }
}

TEST(Grid, HostThreadsChangeNothing) {
  for (const char* method : {"quantize", "topk", "column_mask", "lowrank"})
    EXPECT_EQ(run(config(4, method), 1).parameters, run(config(4, method), 4).parameters);
  const Outcome a = run(config(4, "subspace"), 1), b = run(config(4, "subspace"), 4);
  EXPECT_EQ(a.parameters, b.parameters);
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (size_t i = 0; i < a.steps.size(); ++i) {
    EXPECT_EQ(a.steps[i].loss, b.steps[i].loss);
    EXPECT_EQ(a.steps[i].grad_norm, b.steps[i].grad_norm);
    for (size_t r = 0; r < 4; ++r) {
      ASSERT_EQ(a.steps[i].ranks[r].entries.size(), b.steps[i].ranks[r].entries.size());
      for (size_t e = 0; e < a.steps[i].ranks[r].entries.size(); ++e) {
        record::Entry x = a.steps[i].ranks[r].entries[e], y = b.steps[i].ranks[r].entries[e];
        for (record::Entry* entry : {&x, &y}) {
          if (auto* compute = std::get_if<record::Compute>(&entry->action)) compute->measured = {};
        }
        EXPECT_EQ(x, y) << "step " << i << " rank " << r << " entry " << e;
      }
    }
  }
}

TEST(Grid, TheMetaBackendWritesTheSameLog) {
  struct Case {
    const char* method;
    UpdateRule rule = UpdateRule::adamw;
  };
  for (const auto& [method, rule] :
       {Case{"subspace"}, Case{"subspace", UpdateRule::muon}, Case{"cast"}, Case{"quantize"},
        Case{"topk"}, Case{"column_mask"}, Case{"column_mask+anchors"}, Case{"lowrank"},
        Case{"resbm+iota"}}) {
    TrainingConfig c = config(3, method);
    c.evaluate_every = 0;
    c.method.error_feedback = "per_microbatch";
    c.optimizer.rule = rule;
    const Outcome real = run(c), meta = run(c, 2, BackendKind::meta);
    for (size_t r = 0; r < 3; ++r) {
      record::RankLog log = real.steps[1].ranks[r];
      for (record::Entry& entry : log.entries) {
        if (auto* compute = std::get_if<record::Compute>(&entry.action)) compute->measured = {};
      }
      EXPECT_EQ(log, meta.steps[1].ranks[r]) << method << " " << r;
    }
  }
}

TEST(Grid, TrainsAndBf16Follows) {
  TrainingConfig c = config(2);
  c.steps = 30;
  c.learning_rate = {LearningRateSchedule::Kind::constant, 1e-2, 3, 30, 1};
  class OneSequence final
      : public BatchSource {  // the same 8 sequences for ever: must be learnt by heart
   public:
    explicit OneSequence(const ModelShape& s) : tokens_(s) {}
    void training(int64_t i, int32_t* ids, int32_t* targets) const override {
      tokens_.training(i % 8, ids, targets);
    }
    void validation(int64_t i, int32_t* ids, int32_t* targets) const override {
      tokens_.training(i % 8, ids, targets);
    }

   private:
    HashedTokens tokens_;
  } data(c.shape);
  double last[2] = {0, 0};
  for (const DType dtype : {DType::f32, DType::bf16}) {
    c.dtype = c.method.wire = dtype;
    TrainingObserver observer;
    observer.step = [&](const record::StepLog& s) { last[dtype == DType::bf16] = s.loss; };
    train(c, BackendKind::cpu, &data, 2, observer);
  }
  EXPECT_LT(last[0], 3.0);              // from ln 61 = 4.1
  EXPECT_NEAR(last[1], last[0], 0.05);  // bf16 rounds to 2^-9; thirty steps later the losses are
                                        // still the same to a few percent
}

TEST(Grid, DiagnosticsSayWhatHappensAtEachBoundaryAndChangeNothing) {
  TrainingConfig c = config(3, "subspace");
  const Outcome plain = run(c);
  c.diagnose_every = 2;
  const HashedTokens data(c.shape);
  std::map<std::string, std::vector<record::Diagnostic>> found;
  TrainingObserver observer;
  observer.diagnostic = [&](const record::Diagnostic& d) { found[d.name].push_back(d); };
  EXPECT_EQ(train(c, BackendKind::cpu, &data, 2, observer).parameters_hash, plain.parameters);
  for (const char* name : {"dynamic_rms", "outside_subspace", "basis_error", "basis_version",
                           "gradient_rms", "captured_gradient"}) {
    ASSERT_EQ(found[name].size(), 2u) << name;  // two boundaries, step 2 of 3
    EXPECT_EQ(found[name][1].boundary, 1) << name;
    EXPECT_EQ(found[name][0].step, 2) << name;
  }
  for (const record::Diagnostic& d : found["outside_subspace"])
    EXPECT_LE(d.value, 1e-5);  // invariant 5, fp32
  EXPECT_LT(found["captured_gradient"][1].value,
            0.5);  // rank 4 of 32 before the full-rank stage: about 1/8
  EXPECT_GT(found["captured_gradient"][0].value, 0.5);  // projected once already
}

TEST(Grid, AStopEndsAfterTheSameStepOnEveryRank) {
  TrainingConfig c = config(4);
  c.steps = 1000;
  c.evaluate_every = 0;
  const HashedTokens data(c.shape);
  int64_t seen = 0;
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& s) { seen = s.step; };
  observer.stop = [&] { return seen >= 3; };
  const TrainingResult r = train(c, BackendKind::cpu, &data, 2, observer);
  EXPECT_TRUE(r.stopped);
  EXPECT_EQ(r.steps, seen);
  EXPECT_LT(r.steps, 10);
}

TEST(Grid, RefusesBoundariesWhoseEndsDoNotShareTheirState) {
  TrainingConfig c = config(2, "subspace");
  const HashedTokens data(c.shape);
  const DryRun plan = dry_run(c);
  TrainingConfig other = c;
  other.method.basis_seed += 1;
  MessagePool pool;
  InProcess hub(2, 2);
  EXPECT_THROW(hub.run([&](int r) {
    auto ops = make_backend(BackendKind::cpu, 1);
    RankRecorder recorder(r, *ops);
    auto communicator = hub.communicator(r, recorder);
    Rank rank(r == 0 ? c : other, r, *ops, recorder, *communicator, pool, &data,
              &plan.ranks[static_cast<size_t>(r)]);
    rank.handshake();
  }),
               std::runtime_error);
}

}  // namespace
}  // namespace strait::testing
