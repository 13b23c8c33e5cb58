// summary.json: the final figures of a run, what compression bought in bytes, in transfer time and
// in step time, and all that is needed to tell runs apart. The fields are defined in
// docs/metrics.md.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sim/record/log.h"
#include "sim/trace/trace_writer.h"
#include "sim/trace/wire.h"

namespace strait::sim {

// What a run has added up to.
class SummaryBook {
 public:
  SummaryBook(const record::RecordHeader& header, const TraceOptions& options);

  void add(const StepTiming& step);
  void add(const record::Evaluation& evaluation, Nanoseconds time);

  // `reference`: the summary of the run to compare with, or null.
  nlohmann::ordered_json json(const std::optional<record::RecordFooter>& footer,
                              double simulation_host_seconds,
                              const nlohmann::ordered_json& reference) const;

 private:
  // When a loss was first at or below a target.
  struct Target {
    double loss = 0;
    std::optional<int64_t> training_step, validation_step;
    Nanoseconds training_time, validation_time;
  };

  nlohmann::ordered_json targets_json() const;
  nlohmann::ordered_json memory_json() const;
  nlohmann::ordered_json compare(const nlohmann::ordered_json& reference) const;
  double per_step(double sum) const { return steps_ == 0 ? 0 : sum / static_cast<double>(steps_); }

  record::RecordHeader header_;
  TraceOptions options_;
  WireBook wire_;
  int64_t steps_ = 0;
  uint64_t tokens_ = 0;
  Nanoseconds end_;
  double loss_ = 0;
  Attribution path_;
  std::optional<record::Evaluation> evaluation_;
  double best_validation_loss_ = 0;  // where there is an evaluation
  std::vector<Target> targets_;
};

}  // namespace strait::sim
