#include <fmt/format.h>

#include <stdexcept>

#include "sim/cli/compare.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"
#include "sim/cli/recording.h"
#include "sim/cli/simulator.h"
#include "sim/network/presets.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// The uncompressed method's steps are all alike, so a few are enough; the first opens cold
// connections.
constexpr int64_t kUncompressedSteps = 6;

std::string network_name(const sim::NetworkConfig& n) {
  return n.preset.empty() ? "as given" : n.preset;
}

scenario::Scenario on_network(const scenario::Scenario& s, const std::string& preset) {
  scenario::Scenario other = s;
  if (!sim::apply_preset(preset, other.network))
    throw std::invalid_argument("unknown network preset \"" + preset + "\"");
  other.network.overrides.clear();
  return other;
}

// Replays the record in `record_run` under `s` into `out`, for a run of `steps` steps.
ComparisonRow replay(const fs::path& record_run, const fs::path& out, const scenario::Scenario& s,
                     int64_t steps, const StepBytes& bytes, double tokens) {
  fs::create_directories(out);
  write_scenario(out, s);
  Simulator sim({record_run, out / "scenario.json", out, {}, false});
  if (sim.finish() != 0 || sim.steps() == 0)
    throw std::runtime_error("strait-sim failed on " + out.string());
  ComparisonRow row;
  row.method = std::string(s.compression.pipeline.method());
  row.network = network_name(s.network);
  row.extended = steps > sim.steps();
  row.step_seconds = mean_step_seconds(sim);
  row.virtual_seconds =
      sim.last_seconds() + row.step_seconds * static_cast<double>(steps - sim.steps());
  row.tokens_per_second = tokens / row.step_seconds;
  row.bytes_per_step = static_cast<double>(bytes.all());
  return row;
}

// Makes the record of the uncompressed method on the meta backend.
scenario::Scenario record_uncompressed(const fs::path& directory, const scenario::Scenario& s,
                                       const TrainingConfig& config, StepBytes& bytes) {
  scenario::Scenario plain = s;
  plain.compression.pipeline.options = scenario::NoneOptions{};
  plain.devices.backend = scenario::Backend::meta;
  plain.training.steps = std::min(plain.training.steps, kUncompressedSteps);
  plain.training.optimizer.warmup_steps =
      std::min(plain.training.optimizer.warmup_steps, plain.training.steps);
  plain.training.evaluate_every = 0;
  plain.training.phases.clear();
  plain.training.init_from.clear();
  plain.model.vocabulary = config.shape.vocabulary;
  const TrainingJob job = prepare_training(plain, "the uncompressed form of " + s.name, {});
  bytes = bytes_of(job.plan.step);
  fs::create_directories(directory / "record");
  write_scenario(directory, job.scenario);
  train_into(directory, job, {});
  return job.scenario;
}

}  // namespace

double mean_step_seconds(const Simulator& sim) {
  if (sim.steps() < 2) return sim.last_seconds();
  return (sim.last_seconds() - sim.first_step_seconds()) / static_cast<double>(sim.steps() - 1);
}

std::vector<ComparisonRow> compare(const fs::path& run, const scenario::Scenario& s,
                                   const TrainingConfig& config, const ComparisonRow& own) {
  std::vector<ComparisonRow> rows = {own};
  if (s.output.compare_networks.empty()) return rows;
  const double tokens = static_cast<double>(config.batch) * config.shape.context;
  const StepBytes bytes = bytes_of(dry_run(config).step);
  for (const std::string& preset : s.output.compare_networks) {
    rows.push_back(
        replay(run, run / "compare" / fmt::format("{}-{}", s.compression.pipeline.method(), preset),
               on_network(s, preset), config.steps, bytes, tokens));
    rows.back().method = own.method;
  }
  if (s.compression.pipeline.method() == "none") return rows;
  StepBytes dense;
  const fs::path directory = run / "compare" / "none";
  const scenario::Scenario plain = record_uncompressed(directory, s, config, dense);
  rows.push_back(
      replay(directory, run / "compare" / "none-own", plain, config.steps, dense, tokens));
  rows.back().network = own.network;
  for (const std::string& preset : s.output.compare_networks) {
    rows.push_back(replay(directory, run / "compare" / fmt::format("none-{}", preset),
                          on_network(plain, preset), config.steps, dense, tokens));
  }
  return rows;
}

void print_rows(const std::vector<ComparisonRow>& rows) {
  fmt::print("\n{:<16} {:<18} {:>12} {:>12} {:>12} {:>14}\n", "method", "network", "bytes/step",
             "step", "tokens/s", "virtual time");
  bool extended = false;
  for (const ComparisonRow& r : rows) {
    extended |= r.extended;
    fmt::print("{:<16} {:<18} {:>12} {:>12} {:>12.0f} {:>13}{}\n", r.method, r.network,
               bytes_text(r.bytes_per_step), duration_text(r.step_seconds), r.tokens_per_second,
               duration_text(r.virtual_seconds), r.extended ? "*" : "");
  }
  if (extended) fmt::print("* {} steps simulated, the rest at their mean\n", kUncompressedSteps);
}

}  // namespace strait::cli
