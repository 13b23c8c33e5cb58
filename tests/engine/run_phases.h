// A whole training in a test, and everything that it handed on.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "engine/checkpoint/snapshot.h"
#include "engine/trainer.h"

namespace strait::testing {

struct Outcome {
  std::vector<record::StepLog> steps;
  std::vector<record::Evaluation> evaluations;
  std::vector<Snapshot> snapshots;
  TrainingResult result;
};

struct RunOptions {
  const Snapshot* start = nullptr;
  int64_t checkpoint_every = 0;
  int64_t stop_after = 1000;  // asks to stop once this step is in the record
  int host_threads = 2;
};

inline Outcome run(const std::vector<TrainingPhase>& phases, const RunOptions& options = {},
                   BackendKind kind = BackendKind::cpu) {
  Outcome o;
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
  observer.evaluation = [&](const record::Evaluation& e) { o.evaluations.push_back(e); };
  observer.checkpoint = [&](const Snapshot& s) {
    // Whatever a checkpoint names is in the record, and nothing after it.
    if (!o.steps.empty()) {
      EXPECT_EQ(o.steps.back().step, s.step);
    }
    o.snapshots.push_back(s);
  };
  observer.checkpoint_every = options.checkpoint_every;
  observer.stop = [&] { return !o.steps.empty() && o.steps.back().step >= options.stop_after; };
  o.result = train(phases, kind, options.host_threads, {options.start}, observer);
  return o;
}

}  // namespace strait::testing
