// Whole trainings on shards, for tests: small configurations, data with a loss mask, and what came of them.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <mutex>
#include <variant>

#include "engine/in_process.h"
#include "engine/rank.h"
#include "tests/engine/pipeline.h"

namespace strait::testing::sharded {

struct Outcome {
  std::vector<record::StepLog> steps;
  std::vector<record::Evaluation> evaluations;
  std::vector<Snapshot> snapshots;
};

inline Outcome run(const TrainingConfig& c, const BatchSource& data,
                   const Snapshot* start = nullptr) {
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

inline TrainingConfig config(int pipeline, int shards, int replicas, DType dtype,
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

inline void expect_near(const Outcome& a, const Outcome& b, double tolerance,
                        const std::string& what) {
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

// Sums in another order: rounding of f64, which three steps of AdamW make larger, but not by six orders.
constexpr double kRounding = 1e-9;

inline TrainingConfig mixture(int shards, const std::string& theta, DType dtype = DType::f64) {
  TrainingConfig c = config(1, shards, 1, dtype);
  c.context.method = "mos";
  c.context.mixture.rho_k = 0.75;
  c.context.mixture.rho_v = 0.5;
  c.context.mixture.uncompressed_layers = "none";
  c.context.mixture.theta_source = theta;
  return c;
}

}  // namespace strait::testing::sharded
