#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "sim/cli/compare.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"
#include "sim/cli/recording.h"
#include "sim/cli/simulator.h"
#include "sim/network/presets.h"
#include "sim/scenario/devices.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// The uncompressed method does the same in every step, so some are enough; but the windows of its connections go on growing for
// tens of them: on the quickstart steps 2, 10, 40 and 200 take 2.2, 1.9, 1.5 and 1.4 s. So the steps that are left out count as
// the last quarter of those simulated (200 steps then come out 0.5 % short there).
constexpr int64_t kUncompressedSteps = 40, kLeastUncompressedSteps = 6;
constexpr double kPacketHostSeconds = 30;  // what the packet model may take for them

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

// Makes the row of a simulation whose steps ended at `ends` that of a run of `steps` steps.
void extend(ComparisonRow& row, const std::vector<double>& ends, int64_t steps) {
  const size_t simulated = ends.size(), tail = std::max<size_t>(1, simulated / 4);
  const double before = simulated > tail ? ends[simulated - tail - 1] : 0;
  const double later = (ends.back() - before) / static_cast<double>(tail);
  row.extended = static_cast<int64_t>(simulated);
  row.virtual_seconds += later * static_cast<double>(steps - row.extended);
  const double mean = (row.virtual_seconds - ends.front()) / static_cast<double>(steps - 1);
  row.tokens_per_second *= row.step_seconds / mean;
  row.step_seconds = mean;
}

// Replays the record in `record_run` under `s` into `out`, for a run of `steps` steps.
ComparisonRow replay(const fs::path& record_run, const fs::path& out, const scenario::Scenario& s,
                     int64_t steps) {
  fs::create_directories(out);
  write_scenario(out, s);
  std::vector<double> ends;  // of the steps, in virtual seconds
  Simulator sim(
      {record_run, out / "scenario.json", out, {}, false},
      [&](const nlohmann::ordered_json& line) { ends.push_back(line.value("time_s", 0.0)); });
  if (sim.finish() != 0 || sim.steps() == 0)
    throw std::runtime_error("strait-sim failed on " + out.string());
  ComparisonRow row = row_of(sim);
  row.method = std::string(s.compression.pipeline.method());
  row.network = network_name(s.network);
  if (steps > sim.steps()) extend(row, ends, steps);
  return row;
}

// devices.timing.link_free_step is of the run itself: its uncompressed form, which computes more or less, gets the machines that
// follow from it.
void keep_speed(scenario::Scenario& plain, const scenario::Scenario& s,
                const TrainingConfig& config) {
  if (!s.devices.timing.link_free_step) return;
  const DryRun plan = dry_run(config);
  const double factor = scenario::link_free_factor(
      s, make_header(config, BackendKind::meta, plan.ranks, "", ""), plan.step);
  plain.devices.timing.link_free_step.reset();
  plain.devices.ranks.clear();
  for (int r = 0; r < s.parallel.ranks(); ++r) {
    scenario::RankDevice rank{.rank = r};
    for (const scenario::RankDevice& own : s.devices.ranks)
      if (own.rank == r) rank = own;
    if (!rank.device) rank.slowdown *= factor;
    plain.devices.ranks.push_back(rank);
  }
}

// Makes the record of the uncompressed method on the meta backend.
scenario::Scenario record_uncompressed(const fs::path& directory, const scenario::Scenario& s,
                                       const TrainingConfig& config) {
  scenario::Scenario plain = uncompressed(s);
  keep_speed(plain, s, config);
  plain.devices.backend = scenario::Backend::meta;
  plain.training.steps = std::min(plain.training.steps, kUncompressedSteps);
  plain.training.optimizer.warmup_steps =
      std::min(plain.training.optimizer.warmup_steps, plain.training.steps);
  plain.training.evaluate_every = 0;
  plain.training.init_from.clear();
  plain.model.vocabulary = config.shape.vocabulary;
  const std::string what = "the uncompressed form of " + s.name;
  TrainingJob job = prepare_training(plain, what, {});
  if (plain.network.model == sim::NetworkModel::packet) {
    const double share = kPacketHostSeconds / predict_packet_seconds(plain, job.plan.step);
    if (share < 1) {
      plain.training.steps =
          std::max(std::min(plain.training.steps, kLeastUncompressedSteps),
                   static_cast<int64_t>(share * static_cast<double>(plain.training.steps)));
      plain.training.optimizer.warmup_steps =
          std::min(plain.training.optimizer.warmup_steps, plain.training.steps);
      job = prepare_training(plain, what, {});
    }
  }
  fs::create_directories(directory / "record");
  write_scenario(directory, job.scenario);
  train_into(directory, job, {});
  return job.scenario;
}

}  // namespace

ComparisonRow row_of(const Simulator& sim) {
  ComparisonRow row;
  const nlohmann::ordered_json& summary = sim.summary();
  if (sim.steps() == 0 || !summary.is_object()) return row;
  const auto steps = static_cast<double>(sim.steps());
  row.virtual_seconds = sim.last_seconds();
  row.step_seconds = sim.steps() == 1
                         ? sim.last_seconds()
                         : (sim.last_seconds() - sim.first_step_seconds()) / (steps - 1);
  row.tokens_per_second = summary.at("tokens").get<double>() / steps / row.step_seconds;
  for (const auto& bytes : summary.at("bytes")) row.bytes_per_step += bytes.get<double>() / steps;
  return row;
}

std::vector<ComparisonRow> compare(const fs::path& run, const scenario::Scenario& s,
                                   const TrainingConfig& config, const ComparisonRow& own) {
  std::vector<ComparisonRow> rows = {own};
  if (s.output.compare_networks.empty()) return rows;
  for (const std::string& preset : s.output.compare_networks) {
    rows.push_back(replay(run, run / "compare" / fmt::format("own-{}", preset),
                          on_network(s, preset), config.steps));
    rows.back().method = own.method;
  }
  // Of the uncompressed form nothing is measured: it is not computed.
  if (!compresses(s) || s.devices.timing.measured) return rows;
  const fs::path directory = run / "compare" / "none";
  const scenario::Scenario plain = record_uncompressed(directory, s, config);
  const size_t compressed = rows.size();
  rows.push_back(replay(directory, run / "compare" / "none-own", plain, config.steps));
  rows.back().network = own.network;
  for (const std::string& preset : s.output.compare_networks) {
    rows.push_back(replay(directory, run / "compare" / fmt::format("none-{}", preset),
                          on_network(plain, preset), config.steps));
  }
  if (!s.training.phases.empty())
    for (size_t r = compressed; r < rows.size(); ++r) rows[r].method += ", phase 1";
  return rows;
}

void print_rows(const std::vector<ComparisonRow>& rows) {
  size_t width = 16;
  for (const ComparisonRow& r : rows) width = std::max(width, r.method.size());
  fmt::print("\n{:<{}} {:<18} {:>12} {:>12} {:>12} {:>14}\n", "method", width, "network",
             "bytes/step", "step", "tokens/s", "virtual time");
  int64_t extended = 0;
  for (const ComparisonRow& r : rows) {
    extended = std::max(extended, r.extended);
    fmt::print("{:<{}} {:<18} {:>12} {:>12} {:>12.0f} {:>13}{}\n", r.method, width, r.network,
               bytes_text(r.bytes_per_step), duration_text(r.step_seconds), r.tokens_per_second,
               duration_text(r.virtual_seconds), r.extended > 0 ? "*" : "");
  }
  if (extended > 0)
    fmt::print("* {} steps simulated, the rest as the last quarter of them\n", extended);
}

}  // namespace strait::cli
