// Writes the files of a run directory (design, section 5.3; every column is defined in
// docs/metrics.md): the CSV files grow step by step, timeline.json and summary.json are written
// once. Nothing here depends on host time but summary.json's "host" object, so two simulations of
// one record give the same bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sim/executor/timing.h"
#include "sim/record/log.h"

namespace strait::sim {

// Which steps messages.csv holds. first_steps: the first kFirstSteps steps.
enum class MessageRows { none, first_steps, all };
inline constexpr int64_t kFirstSteps = 3;

// What the traces need to know of the scenario and of the world; plain data.
struct TraceOptions {
  std::string directory = ".";  // exists
  MessageRows messages = MessageRows::first_steps;
  int64_t timeline_first = 1,
          timeline_last = 1;    // steps in timeline.json, inclusive; none if last < first
  std::vector<double> targets;  // losses whose virtual time is reported
  std::string reference;        // summary.json of a run to compare with; "" for none

  // For summary.json.
  std::string name, network_model, network_preset, scenario_hash;
  uint64_t network_seed = 0;
  std::vector<std::string> devices;  // one description a rank
};

class TraceWriter {
 public:
  // Creates the CSV files with their header lines, and removes files of an earlier simulation that
  // this one will not write. Throws RunFileError, naming the file; also for a reference that cannot
  // be read.
  TraceWriter(const record::RecordHeader& header, TraceOptions options);
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  // In the order of steps. All rows of a step are in their files on return. Throws RunFileError.
  void write_step(const StepTiming& step);
  // In the order of the record. An evaluation whose step has not ended yet is kept until it has.
  void write_evaluation(const record::Evaluation& evaluation);
  void write_diagnostic(const record::Diagnostic& diagnostic);

  // Writes timeline.json and summary.json and returns the summary. `footer` is unset where training
  // was cut short.
  nlohmann::ordered_json finish(const std::optional<record::RecordFooter>& footer,
                                double simulation_host_seconds);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strait::sim
