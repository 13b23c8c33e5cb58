// What a scenario will be before it runs, from the log of a dry run: step time by replay in memory (the packet model is
// predicted with fluid, which needs no ns-3), host time of training and of a packet simulation.
#pragma once

#include "engine/trainer.h"
#include "sim/executor/timing.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

// Bytes of messages of one kind: as sent, synchronisation sections that ride along in them, and what method none would have sent.
struct KindBytes {
  uint64_t payload = 0, sections = 0, dense = 0;
  uint64_t all() const { return payload + sections; }
  KindBytes& operator+=(const KindBytes& other);
  // As in summary.json (docs/metrics.md). 1 where nothing was sent.
  double wire_ratio() const {
    return all() == 0 ? 1.0 : static_cast<double>(dense) / static_cast<double>(all());
  }
};
// Bytes of one step's messages.
struct StepBytes {
  KindBytes forward, backward, control;
  int messages = 0;
  // Columns bytes_forward, bytes_backward and bytes_sync of steps.csv are forward.payload, backward.payload and this.
  uint64_t sync() const { return forward.sections + backward.sections + control.all(); }
  KindBytes combined() const;
  KindBytes exchange() const;  // both directions, without control traffic
  uint64_t all() const { return combined().all(); }
};
StepBytes bytes_of(const record::StepLog& step);
// Of the messages between stages of one copy of the model, between shards of a replica, and between replicas (docs/metrics.md, `wire`).
struct StepTraffic {
  StepBytes pipeline, context, data;
};
StepTraffic traffic_of(const record::StepLog& step, const Grid& grid);
// Operations of one step on all ranks, codecs and update included.
double flops_of(const record::StepLog& step);

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
