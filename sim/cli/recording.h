// A training run that writes its record: the engine's observer on one side, sim/record's writer on the other.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "engine/trainer.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

struct Recording {
  TrainingResult result;
  double host_seconds = 0;
};

// Trains `config` into DIRECTORY/record/log.strait. The footer is written unless the run was stopped.
// `on_step` sees every step after it is in the record; `stop` as in TrainingObserver. Throws what training and the writer throw.
Recording train_into(const std::filesystem::path& directory, const scenario::Scenario& scenario,
                     const TrainingConfig& config, BackendKind kind, const BatchSource* data,
                     const std::string& data_hash, const std::vector<RankPlan>& plan,
                     const std::function<void(const record::StepLog&)>& on_step,
                     const std::function<bool()>& stop);

// DIRECTORY/scenario.json, whole or not at all.
void write_scenario(const std::filesystem::path& directory, const scenario::Scenario& scenario);

}  // namespace strait::cli
