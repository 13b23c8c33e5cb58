// What a scenario will be before it runs, from the log of a dry run: step time by replay in memory (the packet model is
// predicted with fluid, which needs no ns-3), host time of training and of a packet simulation.
#pragma once

#include "engine/trainer.h"
#include "sim/executor/timing.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

// Bytes of one step's messages.
struct StepBytes {
  uint64_t forward = 0, backward = 0, sync = 0, dense = 0;
  int messages = 0;
  uint64_t all() const { return forward + backward + sync; }
  double wire_ratio() const {
    return all() == 0 ? 1.0 : static_cast<double>(dense) / static_cast<double>(all());
  }
};
StepBytes bytes_of(const record::StepLog& step);

struct StepPrediction {
  sim::StepTiming first, steady;  // the first step, with cold connections, and the third
};
// Throws std::invalid_argument if devices.timing is "measured": there is nothing to predict from.
StepPrediction predict_step(const scenario::Scenario& scenario, const record::RecordHeader& header,
                            const record::StepLog& step);

// Host seconds that training will take on the CPU: the step's FLOPs at the rate of a matrix product measured now. Within 2x.
double predict_training_seconds(const TrainingConfig& config, const record::StepLog& step,
                                int host_threads);
// Host seconds of the packet simulation of a run. Within 2x.
double predict_packet_seconds(const scenario::Scenario& scenario, const record::StepLog& step);

}  // namespace strait::cli
