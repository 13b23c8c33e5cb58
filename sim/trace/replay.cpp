// Replay: frames to the executor, timings to the trace writer (sim/trace/replay.h).
#include "sim/trace/replay.h"

#include <chrono>
#include <utility>

namespace strait::sim {

Replay::Replay(const record::RecordHeader& header, std::vector<Device> devices, Network& network,
               TraceOptions options, Patience patience,
               std::function<void(const StepTiming&)> on_step)
    : executor_(std::move(devices), network, patience),
      writer_(header, std::move(options)),
      on_step_(std::move(on_step)) {}

void Replay::run() {
  const auto begin = std::chrono::steady_clock::now();
  while (const std::optional<StepTiming> step = executor_.next()) {
    writer_.write_step(*step);
    if (on_step_) on_step_(*step);
  }
  host_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void Replay::accept(record::Frame frame) {
  if (auto* step = std::get_if<record::StepLog>(&frame)) {
    executor_.feed(std::move(*step));
    run();
  } else if (const auto* evaluation = std::get_if<record::Evaluation>(&frame)) {
    writer_.write_evaluation(*evaluation);
  } else if (const auto* diagnostic = std::get_if<record::Diagnostic>(&frame)) {
    writer_.write_diagnostic(*diagnostic);
  } else if (const auto* footer = std::get_if<record::RecordFooter>(&frame)) {
    footer_ = *footer;
  }
}

nlohmann::ordered_json Replay::finish(bool simulate_rest) {
  if (simulate_rest) {
    executor_.finish();
    run();
  }
  return writer_.finish(footer_, host_seconds_);
}

}  // namespace strait::sim
