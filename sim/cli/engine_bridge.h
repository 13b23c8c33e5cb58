// The only place where a scenario meets the engine: sizes, options and enums of one become those of the other.
#pragma once

#include "engine/trainer.h"
#include "engine/training.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

// The resolver that scenario::resolve_model() asks: presets and derived sizes. Throws std::invalid_argument.
scenario::ModelShape resolve_shape(const scenario::Model& model);

// Everything that determines the record. `vocabulary`: what the tokenizer gives, used where the model does not state one.
// Throws std::invalid_argument for what the engine cannot do.
TrainingConfig to_training(const scenario::Scenario& scenario, int vocabulary);

// The same training with method none at the run's precision and the model's own FFN width; of phases the first.
scenario::Scenario uncompressed(scenario::Scenario scenario);
// Whether the training, of phases the first, compresses anything that its uncompressed form does not.
bool compresses(const scenario::Scenario& scenario);

// Puts the FFN width that compression.match has found into the scenario; nothing where it does not match.
void write_matched_width(scenario::Scenario& scenario, const TrainingConfig& config);

// `automatic` becomes cuda where a device is, else cpu. Throws std::invalid_argument for cuda without a device.
BackendKind to_backend(scenario::Backend backend);
const char* name_of(BackendKind kind);

// devices.host_threads, or as many as the machine has.
int host_threads(const scenario::Scenario& scenario);

}  // namespace strait::cli
