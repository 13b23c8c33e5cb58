// A record becomes a run directory: frames go in, the executor finds out when everything happened,
// the trace writer writes it down. Fed as the record grows or from a finished one, the files are
// the same.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "sim/executor/executor.h"
#include "sim/trace/trace_writer.h"

namespace strait::sim {

class Replay {
 public:
  // `devices`: one a rank of `header`. `network` must outlive the replay. `on_step` (may be empty)
  // is called for every step that has been written.
  Replay(const record::RecordHeader& header, std::vector<Device> devices, Network& network,
         TraceOptions options, Patience patience = {},
         std::function<void(const StepTiming&)> on_step = {});

  // The frames of a record after its header, in order. Throws what Executor and TraceWriter throw.
  void accept(record::Frame frame);

  // No frame will come any more. Simulates what is left (unless `simulate_rest` is false: an
  // interrupted simulation stops where it is), writes timeline.json and summary.json, returns the
  // summary.
  nlohmann::ordered_json finish(bool simulate_rest = true);

 private:
  void run();

  Executor executor_;
  TraceWriter writer_;
  std::function<void(const StepTiming&)> on_step_;
  std::optional<record::RecordFooter> footer_;
  double host_seconds_ = 0;  // spent simulating and writing, without waiting for frames
};

}  // namespace strait::sim
