// The tables and CSV files of a cross-check (crosscheck_report.h).
#include "sim/cli/crosscheck_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "sim/cli/progress.h"
#include "sim/trace/output_file.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }
std::string signed_percent(double share) { return fmt::format("{:+.2f} %", 100 * share); }

void print_times(const CheckedRun& run) {
  fmt::print("\n{} ({} steps, {} messages)\n", run.label, run.models.back().steps.size(),
             run.models.back().messages.size());
  fmt::print("  {:<8} {:>12} {:>14} {:>14}\n", "model", "first step", "later steps", "whole run");
  for (const ModelTimes& m : run.models)
    fmt::print("  {:<8} {:>12} {:>14} {:>14}\n", m.model, duration_text(m.first_step_s()),
               duration_text(m.later_steps_s()), duration_text(m.run_s()));
}

void print_disagreement(const CheckedRun& run) {
  const ModelTimes& reference = run.models.back();
  fmt::print("  against {}\n", reference.model);
  fmt::print("  {:<8} {:<9} {:>10} {:>10} {:>10} {:>10}   {}\n", "model", "of", "bias", "median",
             "p95", "worst", "where");
  for (const ModelTimes& m : run.models) {
    if (&m == &reference) continue;
    const Disagreement d = disagreement(m, reference);
    if (!m.messages.empty()) {
      const MessageTime &worst = m.messages[d.messages.worst_index],
                        &its = reference.messages[d.messages.worst_index];
      fmt::print(
          "  {:<8} {:<9} {:>10} {:>10} {:>10} {:>10}   step {}, rank {} to {}, {} of microbatch "
          "{}, {}: {}, {} {}\n",
          m.model, "messages", signed_percent(d.message_bias), percent(d.messages.median),
          percent(d.messages.percentile95), percent(d.messages.worst), worst.step, worst.from,
          worst.to, worst.kind, worst.microbatch, bytes_text(static_cast<double>(worst.bytes)),
          duration_text(worst.transfer_s), reference.model, duration_text(its.transfer_s));
    }
    fmt::print("  {:<8} {:<9} {:>10} {:>10} {:>10} {:>10}   step {}: {}, {} {}\n", m.model, "steps",
               signed_percent(d.step_bias), percent(d.steps.median), percent(d.steps.percentile95),
               percent(d.steps.worst), d.steps.worst_index + 1,
               duration_text(m.steps[d.steps.worst_index]), reference.model,
               duration_text(reference.steps[d.steps.worst_index]));
  }
}

// One thing that runs are ordered by, under each model.
struct Measure {
  std::string name;
  std::vector<std::vector<std::optional<double>>> values;  // [model][run]
};

std::vector<Measure> measures(const std::vector<CheckedRun>& runs) {
  const size_t models = runs.front().models.size();
  std::vector<Measure> result = {{"mean step time", {}}};
  for (size_t m = 0; m < models; ++m) {
    result[0].values.emplace_back();
    for (const CheckedRun& run : runs) result[0].values[m].push_back(run.models[m].later_steps_s());
  }
  for (const TargetTime& target : runs.front().models.front().targets) {
    Measure measure{fmt::format("time to loss {}", target.loss), {}};
    bool everywhere = true;
    for (size_t m = 0; m < models; ++m) {
      measure.values.emplace_back();
      for (const CheckedRun& run : runs) {
        const auto& targets = run.models[m].targets;
        const auto found = std::find_if(targets.begin(), targets.end(),
                                        [&](const TargetTime& t) { return t.loss == target.loss; });
        everywhere &= found != targets.end();
        measure.values[m].push_back(found == targets.end() ? std::nullopt : found->time_s);
      }
    }
    if (everywhere) result.push_back(std::move(measure));
  }
  return result;
}

void print_order(const std::vector<CheckedRun>& runs, const Measure& measure) {
  const std::vector<ModelTimes>& models = runs.front().models;
  fmt::print("\norder by {}, shortest first\n", measure.name);
  for (size_t m = 0; m < models.size(); ++m) {
    std::vector<std::string> names;
    for (const size_t r : order_of(measure.values[m]))
      names.push_back(
          fmt::format("{} ({})", runs[r].label,
                      measure.values[m][r] ? duration_text(*measure.values[m][r]) : "not reached"));
    fmt::print("  {:<8} {}\n", models[m].model, fmt::join(names, ", "));
  }
  bool same = true;
  for (size_t m = 0; m + 1 < models.size(); ++m)
    for (const auto& [a, b] : changed_places(measure.values[m], measure.values.back())) {
      fmt::print("  CHANGED: {} and {} change places between {} and {}\n", runs[a].label,
                 runs[b].label, models[m].model, models.back().model);
      same = false;
    }
  if (same) fmt::print("  the same under every model\n");
}

// As the traces write times.
Nanoseconds time(double seconds) { return Nanoseconds::from_seconds(seconds); }

void write_summary(const fs::path& path, const std::vector<CheckedRun>& runs) {
  sim::CsvFile csv(
      path.string(),
      "run,method,model,reference,steps,messages,first_step_s,later_steps_s,run_s,step_bias,step_"
      "median,step_p95,step_worst,worst_step,message_bias,message_median,message_p95,message_worst,"
      "worst_message_step,from,to,kind,microbatch,bytes,transfer_s,reference_transfer_s");
  for (const CheckedRun& run : runs) {
    const ModelTimes& reference = run.models.back();
    for (const ModelTimes& m : run.models) {
      const Disagreement d = disagreement(m, reference);
      csv.cell(std::string_view(run.label)).cell(std::string_view(run.method));
      csv.cell(std::string_view(m.model)).cell(std::string_view(reference.model));
      csv.cell(uint64_t{m.steps.size()}).cell(uint64_t{m.messages.size()});
      csv.cell(time(m.first_step_s()))
          .cell(time(m.later_steps_s()))
          .cell(time(m.run_s()))
          .cell(d.step_bias);
      csv.cell(d.steps.median).cell(d.steps.percentile95).cell(d.steps.worst);
      csv.cell(uint64_t{d.steps.worst_index + 1}).cell(d.message_bias).cell(d.messages.median);
      csv.cell(d.messages.percentile95).cell(d.messages.worst);
      const MessageTime none;
      const bool any = !m.messages.empty();
      const MessageTime& worst = any ? m.messages[d.messages.worst_index] : none;
      const MessageTime& its = any ? reference.messages[d.messages.worst_index] : none;
      csv.cell(worst.step).cell(worst.from).cell(worst.to).cell(std::string_view(worst.kind));
      csv.cell(worst.microbatch)
          .cell(worst.bytes)
          .cell(time(worst.transfer_s))
          .cell(time(its.transfer_s));
      csv.end_row();
    }
  }
  csv.flush();
}

void write_steps(const fs::path& path, const std::vector<CheckedRun>& runs) {
  std::string columns = "run,step";
  for (const ModelTimes& m : runs.front().models) columns += "," + m.model + "_s";
  sim::CsvFile csv(path.string(), columns);
  for (const CheckedRun& run : runs)
    for (size_t step = 0; step < run.models.front().steps.size(); ++step) {
      csv.cell(std::string_view(run.label)).cell(uint64_t{step + 1});
      for (const ModelTimes& m : run.models) csv.cell(time(m.steps[step]));
      csv.end_row();
    }
  csv.flush();
}

}  // namespace

void print_crosscheck(const std::vector<CheckedRun>& runs) {
  for (const CheckedRun& run : runs) {
    print_times(run);
    print_disagreement(run);
  }
  if (runs.size() < 2) return;
  for (const Measure& measure : measures(runs)) print_order(runs, measure);
}

std::vector<fs::path> write_crosscheck(const std::vector<CheckedRun>& runs, const fs::path& out) {
  fs::create_directories(out);
  const fs::path summary = out / "crosscheck.csv", steps = out / "crosscheck_steps.csv";
  write_summary(summary, runs);
  write_steps(steps, runs);
  return {summary, steps};
}

}  // namespace strait::cli
