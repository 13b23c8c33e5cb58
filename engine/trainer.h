// Runs all ranks of a training run in one process and hands on what they did, step by step: the record. Also the dry run on
// the meta backend, which sizes memory and gives the log of a step without any arithmetic.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/rank.h"
#include "engine/training.h"
#include "sim/record/log.h"

namespace strait {

enum class BackendKind { cpu, cuda, meta, reference };

// Throws std::invalid_argument with the reason where the backend is not to be had. `threads`: inside one op.
std::unique_ptr<Backend> make_backend(BackendKind kind, int threads);

// A stretch of a training with one configuration: steps config.first_step to the step before the next phase's.
struct TrainingPhase {
  TrainingConfig config;
  const BatchSource* data = nullptr;  // null only on the meta backend
};

// Where a training begins, if not at the initial parameters.
struct TrainingStart {
  const Snapshot* state = nullptr;  // step 0: parameters alone, the moments start afresh
};

struct DryRun {
  std::vector<RankPlan> ranks;
  record::StepLog step;  // the log of one step; measured times 0, loss NaN
  std::optional<record::StepLog>
      average;  // where copies average their parameters: of a step that ends so; `step` does if all do
};
DryRun dry_run(const TrainingConfig& config);

// Trainable parameters of the model, codecs included, as the ranks declare them; copies of a stage count once. The second from the ranks'
// plans.
int64_t trainable_parameters(const TrainingConfig& config);
int64_t trainable_parameters(const TrainingConfig& config, const std::vector<RankPlan>& plans);

// What a run hands on while it runs. Called from the ranks' threads, one call at a time, in the order of the record.
struct TrainingObserver {
  std::function<void(const record::StepLog&)> step;
  std::function<void(const record::Evaluation&)> evaluation;
  std::function<void(const record::Diagnostic&)> diagnostic;
  std::function<bool()>
      stop;  // asked before each step; true: end cleanly after the steps that some rank has begun
  // The state after every `checkpoint_every` steps (0: never), after the last step if checkpoint_every > 0, and where `stop` ended
  // the training. The step it names, with its evaluation, is the last thing that was handed on. Not on the meta backend.
  std::function<void(const Snapshot&)> checkpoint;
  int64_t checkpoint_every = 0;
};

struct TrainingResult {
  int64_t steps = 0;  // done; less than asked for only if stopped
  bool stopped = false;
  std::string
      parameters_hash;  // 16 hex digits over all ranks; the same for the same run, "" on the meta backend
};

// Throws std::invalid_argument where the state is of a model of other sizes: those that leave no trace in the parameters' own
// (heads, layers that nobody asks for) would go unnoticed. Another method, a longer context, another rope_theta or norm_eps are
// the user's to choose. train() asks it first.
void check_start(const Snapshot& state, const TrainingConfig& config);

// Trains up to step config.steps (the same in all phases, whose first steps rise from 1). Between two phases every parameter goes
// over by its name, with its moments; where the method changes what the parameters are held to, they are converted
// (Method::from_plain). `host_threads`: ranks that compute at once (>= 1). Throws what the first failing rank threw;
// std::invalid_argument where the start has not the parameters that are needed.
TrainingResult train(const std::vector<TrainingPhase>& phases, BackendKind kind, int host_threads,
                     const TrainingStart& start, const TrainingObserver& observer);
// One phase, from the beginning.
TrainingResult train(const TrainingConfig& config, BackendKind kind, const BatchSource* data,
                     int host_threads, const TrainingObserver& observer);

// The record's header for this run. `producer`, `record_hash`: as the command line gives them.
record::RecordHeader make_header(const TrainingConfig& config, BackendKind kind,
                                 const std::vector<RankPlan>& plan, std::string producer,
                                 std::string record_hash);

}  // namespace strait
