#include "sim/cli/training_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "engine/checkpoint/checkpoint.h"
#include "engine/memory_plan.h"
#include "sim/cli/commands.h"
#include "sim/cli/engine_bridge.h"
#include "sim/record/sha256.h"

namespace strait::cli {
namespace {

scenario::Scenario scenario_of_phase(const scenario::Scenario& scenario, size_t count) {
  if (count == 0) return scenario;
  scenario::Result result = scenario::phase_scenario(scenario, count);
  if (!result.ok()) throw std::invalid_argument(result.text());
  return std::move(*result.scenario);
}

void grow(std::vector<RankPlan>& plan, const std::vector<RankPlan>& other) {
  for (size_t r = 0; r < plan.size(); ++r) {
    plan[r].frames = std::max(plan[r].frames, other[r].frames);
    plan[r].parameters = std::max(plan[r].parameters, other[r].parameters);
    plan[r].persistent_bytes = std::max(plan[r].persistent_bytes, other[r].persistent_bytes);
    plan[r].frame_bytes = std::max(plan[r].frame_bytes, other[r].frame_bytes);
    plan[r].scratch_bytes = std::max(plan[r].scratch_bytes, other[r].scratch_bytes);
    plan[r].message_bytes = std::max(plan[r].message_bytes, other[r].message_bytes);
  }
}

// Phase `count` of the training; `before` is the phase that it follows.
void add_phase(TrainingJob& job, size_t count,
               const std::function<void(const std::string&)>& notice) {
  const scenario::Scenario s = scenario_of_phase(job.scenario, count);
  TrainingPhase phase;
  int vocabulary = 0;
  if (job.backend == BackendKind::meta) {
    vocabulary = stated_vocabulary(s);
  } else {
    job.data.push_back(open_data(s, notice));
    phase.data = job.data.back().source.get();
    vocabulary = job.data.back().vocabulary;
  }
  phase.config = to_training(s, vocabulary);
  if (phase.config.document_mask && phase.data != nullptr && !phase.data->document_begin())
    throw std::invalid_argument(
        "/data/document_mask is true, but which token begins a document is not known; allowed: "
        "false, or data with a tokenizer");
  if (count > 0) {
    const TrainingConfig& before = job.phases.back().config;
    phase.config.first_step = job.scenario.training.phases[count - 1].at;
    phase.config.tokens_before =
        before.tokens_before + static_cast<uint64_t>(phase.config.first_step - before.first_step) *
                                   static_cast<uint64_t>(before.batch) *
                                   static_cast<uint64_t>(before.shape.context);
  }
  const DryRun plan = dry_run(phase.config);
  if (count == 0)
    job.plan = plan;
  else
    grow(job.plan.ranks, plan.ranks);
  job.phases.push_back(std::move(phase));
}

void open_start(TrainingJob& job) {
  const std::string& from = job.scenario.training.init_from;
  if (from.empty() || job.backend == BackendKind::meta) return;
  try {
    const auto checkpoint = find_checkpoint(from);
    job.start = read_checkpoint(checkpoint, false);
    for (const Checkpoint& c : list_checkpoints(checkpoint.parent_path()))
      if (c.folder == checkpoint) job.start_method = c.manifest.method;
    job.start->step = 0;
    job.start->tokens = 0;
    job.data_hash = sha256_hex(job.data_hash + "\n" + model_hash(checkpoint));
  } catch (const CheckpointError& e) {
    throw std::invalid_argument(fmt::format("/training/init_from: {}", e.what()));
  }
}

}  // namespace

TrainingJob prepare_training(scenario::Scenario scenario, const std::string& file,
                             const std::function<void(const std::string&)>& notice) {
  TrainingJob job;
  job.scenario = std::move(scenario);
  try {
    job.backend = to_backend(job.scenario.devices.backend);
    for (size_t count = 0; count <= job.scenario.training.phases.size(); ++count)
      add_phase(job, count, notice);
    if (!job.data.empty()) job.data_hash = job.data.front().hash;
    open_start(job);
    if (job.start) check_start(*job.start, job.config());
  } catch (const std::invalid_argument& e) {
    throw WrongInput{fmt::format("{}: {}", file, e.what())};
  }
  job.scenario.devices.backend = job.backend == BackendKind::cuda   ? scenario::Backend::cuda
                                 : job.backend == BackendKind::meta ? scenario::Backend::meta
                                                                    : scenario::Backend::cpu;
  job.scenario.model.vocabulary = job.config().shape.vocabulary;
  write_matched_width(job.scenario, job.config());
  return job;
}

TrainingConfig planned_training(const scenario::Scenario& scenario, const std::string& file) {
  try {
    return to_training(scenario, stated_vocabulary(scenario));
  } catch (const std::invalid_argument& e) {
    throw WrongInput{fmt::format("{}: {}", file, e.what())};
  }
}

void check_memory(const TrainingJob& job, const std::string& file) {
  const std::string problem = memory_problem(job.config(), job.plan.ranks,
                                             make_backend(job.backend, 1)->available_memory());
  if (!problem.empty())
    throw WrongInput{fmt::format("{}: /training/microbatches: {}", file, problem)};
}

}  // namespace strait::cli
