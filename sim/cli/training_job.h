// A scenario made ready to train: data opened, configuration of every phase, memory plan, what it depends on. Everything that can
// be wrong with the input is found here, before anything is written.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/trainer.h"
#include "sim/cli/data_source.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

struct TrainingJob {
  scenario::Scenario
      scenario;  // with the backend that runs, the vocabulary that the tokenizer gives, the FFN width that match finds
  BackendKind backend = BackendKind::cpu;
  std::vector<OpenedData> data;       // of each phase; empty on the meta backend
  std::vector<TrainingPhase> phases;  // at least one
  DryRun plan;                        // memory: the largest of all phases; step: of the first
  std::optional<Snapshot> start;      // training.init_from
  std::string start_method;           // of the boundaries of the model that it is
  std::string data_hash;  // tokens, tokenizer and the model that the training starts from

  const TrainingConfig& config() const { return phases.front().config; }
};

// `file` is named in errors; `notice` gets a line for whatever takes long. Throws WrongInput.
TrainingJob prepare_training(scenario::Scenario scenario, const std::string& file,
                             const std::function<void(const std::string&)>& notice);

// The configuration as far as it is known without touching the data. `file` is named in errors. Throws WrongInput.
TrainingConfig planned_training(const scenario::Scenario& scenario, const std::string& file);

// Throws WrongInput where training takes more memory than is free on this machine; names the largest microbatch that fits.
void check_memory(const TrainingJob& job, const std::string& file);

}  // namespace strait::cli
