// Runs all ranks of a training run in one process and hands on what they did, step by step: the record. Also the dry run on
// the meta backend, which sizes memory and gives the log of a step without any arithmetic.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/rank.h"
#include "engine/training.h"
#include "sim/record/log.h"

namespace strait {

enum class BackendKind { cpu, cuda, meta, reference };

// Throws std::invalid_argument with the reason where the backend is not to be had. `threads`: inside one op.
std::unique_ptr<Backend> make_backend(BackendKind kind, int threads);

struct DryRun {
  std::vector<RankPlan> ranks;
  record::StepLog step;  // the log of one step; measured times 0, loss NaN
};
DryRun dry_run(const TrainingConfig& config);

// What a run hands on while it runs. Called from the ranks' threads, one call at a time, in the order of the record.
struct TrainingObserver {
  std::function<void(const record::StepLog&)> step;
  std::function<void(const record::Evaluation&)> evaluation;
  std::function<void(const record::Diagnostic&)> diagnostic;
  std::function<bool()>
      stop;  // asked before each step; true: end cleanly after the steps that some rank has begun
};

struct TrainingResult {
  int64_t steps = 0;  // done; less than asked for only if stopped
  bool stopped = false;
  std::string
      parameters_hash;  // 16 hex digits over all ranks; the same for the same run, "" on the meta backend
};

// Trains from the initial parameters for config.steps steps. `host_threads`: ranks that compute at once (>= 1).
// Throws what the first failing rank threw.
TrainingResult train(const TrainingConfig& config, BackendKind kind, const BatchSource* data,
                     int host_threads, const TrainingObserver& observer);

// The record's header for this run. `producer`, `record_hash`: as the command line gives them.
record::RecordHeader make_header(const TrainingConfig& config, BackendKind kind,
                                 const std::vector<RankPlan>& plan, std::string producer,
                                 std::string record_hash);

}  // namespace strait
