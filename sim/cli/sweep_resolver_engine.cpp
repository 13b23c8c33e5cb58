#include <fmt/format.h>

#include <chrono>
#include <stdexcept>

#include "sim/cli/commands.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/finished_trainings.h"
#include "sim/cli/load.h"
#include "sim/cli/prediction.h"
#include "sim/cli/sweep_resolver.h"
#include "sim/cli/training_job.h"

namespace strait::cli {
namespace {

// Host time of a replay over fluid or ideal on a core of 2020: measured by tests/bench/sweep_cost.py. Within 2x.
constexpr double kReplayStart = 0.02;       // seconds
constexpr double kReplayPerMessage = 2e-6;  // seconds

// The meta backend's steps cost what its dry run has cost.
double training_seconds(const TrainingConfig& config, BackendKind backend, const DryRun& plan,
                        double dry_run_seconds) {
  switch (backend) {
    case BackendKind::cpu:
      return predict_training_seconds(config, plan.step, 1);
    case BackendKind::meta:
      return dry_run_seconds * static_cast<double>(config.steps);
    default:
      return 0;
  }
}

void estimate(sweep::ResolvedTraining& training, const TrainingConfig& config, BackendKind backend,
              const DryRun& plan, double dry_run_seconds) {
  const StepBytes bytes = bytes_of(plan.step);
  training.bytes_per_step = bytes.all();
  training.messages_per_step = static_cast<uint64_t>(bytes.messages);
  training.training_seconds = training_seconds(config, backend, plan, dry_run_seconds);
  training.replay_seconds =
      kReplayStart + kReplayPerMessage * static_cast<double>(bytes.messages * config.steps);
}

BackendKind kind_of(const scenario::Scenario& scenario, const std::string& place) {
  try {
    return to_backend(scenario.devices.backend);
  } catch (const std::invalid_argument& e) {
    throw WrongInput{fmt::format("{}: {}", place, e.what())};
  }
}

}  // namespace

sweep::Resolver training_resolver(const std::string& file, bool with_data, bool quiet) {
  return [=](const scenario::Scenario& written) {
    const std::string place = fmt::format("{} (point {})", file, written.name);
    const scenario::Scenario shaped = with_shape(written, place);
    sweep::ResolvedTraining training;
    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    if (with_data) {
      const TrainingJob job = prepare_training(shaped, place, [&](const std::string& line) {
        if (!quiet) fmt::print("{}\n", line);
      });
      training.scenario = job.scenario;
      training.data_hash = job.data_hash;
      training.cached = FinishedTrainings(job, true).has();
      estimate(training, job.config(), job.backend, job.plan, seconds());
    } else {
      training.scenario = shaped;
      const TrainingConfig config = planned_training(shaped, place);
      const DryRun plan = dry_run(config);
      estimate(training, config, kind_of(shaped, place), plan, seconds());
    }
    return training;
  };
}

}  // namespace strait::cli
