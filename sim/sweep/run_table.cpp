#include "sim/sweep/run_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "sim/sweep/file_tools.h"
#include "sim/trace/output_file.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;
using Pointer = nlohmann::ordered_json::json_pointer;

// A figure of summary.json and its column.
struct Figure {
  const char* column;
  const char* pointer;
};
constexpr Figure kBeforeTargets[] = {{"steps", "/steps"},
                                     {"tokens", "/tokens"},
                                     {"final_loss", "/final_loss"},
                                     {"final_validation_loss", "/final_validation_loss"},
                                     {"best_validation_loss", "/best_validation_loss"},
                                     {"time_s", "/time_s"}};
constexpr Figure kAfterTargets[] = {{"tokens_per_s", "/tokens_per_s"},
                                    {"mean_step_s", "/mean_step_s"},
                                    {"wire_ratio_forward", "/forward/wire_ratio"},
                                    {"wire_ratio_backward", "/backward/wire_ratio"},
                                    {"wire_ratio", "/combined/wire_ratio"},
                                    {"bytes_forward", "/bytes/forward"},
                                    {"bytes_backward", "/bytes/backward"},
                                    {"bytes_sync", "/bytes/sync"}};

std::string target_column(double target) { return fmt::format("time_to_{}_s", target); }

void add(sim::CsvFile& csv, const nlohmann::ordered_json& value) {
  if (value.is_number_unsigned())
    csv.cell(value.get<uint64_t>());
  else if (value.is_number_integer())
    csv.cell(value.get<int64_t>());
  else if (value.is_number())
    csv.cell(value.get<double>());
  else if (value.is_string())
    csv.cell(std::string_view(value.get_ref<const std::string&>()));
  else
    csv.cell(std::string_view());  // null: there is no such figure
}

nlohmann::ordered_json figure(const nlohmann::ordered_json& summary, const char* pointer) {
  const Pointer at(pointer);
  return summary.contains(at) ? summary.at(at) : nlohmann::ordered_json();
}

// What the wire ratios are of: the pipeline's boundaries, or the exchange of keys and values where there are none. The shards' sum of gradients, which is
// the same with every method, is no part of the latter.
nlohmann::ordered_json crossing(const nlohmann::ordered_json& summary) {
  const nlohmann::ordered_json pipeline = figure(summary, "/wire/pipeline");
  if (figure(pipeline, "/combined/messages") != 0) return pipeline;
  nlohmann::ordered_json context = figure(summary, "/wire/context");
  double dense = 0, sent = 0;
  for (const char* direction : {"forward", "backward"}) {
    if (!context.contains(direction)) return pipeline;
    dense += context[direction].value("dense_bytes", 0.0);
    sent += context[direction].value("bytes", 0.0);
  }
  context["combined"]["wire_ratio"] = nullptr;
  if (sent > 0) context["combined"]["wire_ratio"] = dense / sent;
  return context;
}

// "not reached" where a run did not get there, "unknown" where it has no losses; null where it did not
// ask.
nlohmann::ordered_json time_to(const nlohmann::ordered_json& summary, double target) {
  if (!summary.contains("targets")) return nullptr;
  for (const auto& row : summary["targets"])
    if (row.is_object() && row.value("loss", 0.0) == target && row.contains("time_s"))
      return row["time_s"];
  return nullptr;
}

bool seed_is_axis(const Plan& plan) {
  return std::find(plan.axes.begin(), plan.axes.end(), "seed") != plan.axes.end();
}

std::string header(const Plan& plan) {
  std::vector<std::string> columns = {"point"};
  columns.insert(columns.end(), plan.axes.begin(), plan.axes.end());
  if (!seed_is_axis(plan)) columns.emplace_back("seed");
  columns.emplace_back("status");
  for (const Figure& f : kBeforeTargets) columns.emplace_back(f.column);
  for (const double target : plan.targets()) columns.push_back(target_column(target));
  for (const Figure& f : kAfterTargets) columns.emplace_back(f.column);
  columns.emplace_back("path");
  std::string line;
  for (const std::string& column : columns)
    line += fmt::format("{}{}", line.empty() ? "" : ",", sim::csv_text(column));
  return line;
}

void write_row(const Plan& plan, const PlannedPoint& point, const Outcome& outcome,
               sim::CsvFile& csv) {
  csv.cell(std::string_view(point.name));
  for (const std::string& label : point.labels) csv.cell(std::string_view(label));
  if (!seed_is_axis(plan)) csv.cell(uint64_t{point.scenario.seed});
  csv.cell(std::string_view(outcome.error.empty() ? "ok" : outcome.error));
  for (const Figure& f : kBeforeTargets) add(csv, figure(outcome.summary, f.pointer));
  for (const double target : plan.targets()) add(csv, time_to(outcome.summary, target));
  const nlohmann::ordered_json wire = crossing(outcome.summary);
  for (const Figure& f : kAfterTargets)
    add(csv, figure(std::string_view(f.column).starts_with("wire_") ? wire : outcome.summary,
                    f.pointer));
  csv.cell(std::string_view("runs/" + point.name)).end_row();
}

}  // namespace

const std::vector<std::string>& fixed_columns() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = {"point", "seed", "status", "path"};
    for (const Figure& f : kBeforeTargets) all.emplace_back(f.column);
    for (const Figure& f : kAfterTargets) all.emplace_back(f.column);
    return all;
  }();
  return names;
}

RunTable::RunTable(const Plan& plan, fs::path file)
    : plan_(plan), file_(std::move(file)), outcomes_(plan.points.size()) {}

size_t RunTable::known() const {
  return static_cast<size_t>(std::count_if(
      outcomes_.begin(), outcomes_.end(), [](const auto& outcome) { return outcome.has_value(); }));
}

size_t RunTable::failed() const {
  return static_cast<size_t>(std::count_if(outcomes_.begin(), outcomes_.end(), [](const auto& o) {
    return o.has_value() && !o->error.empty();
  }));
}

void RunTable::write() const {
  const std::string temporary = file_.string() + ".tmp";
  {
    sim::CsvFile csv(temporary, header(plan_));
    for (size_t i = 0; i < outcomes_.size(); ++i)
      if (outcomes_[i]) write_row(plan_, plan_.points[i], *outcomes_[i], csv);
    csv.flush();
  }
  std::error_code error;
  fs::rename(temporary, file_, error);
  if (error)
    throw sim::RunFileError(fmt::format("cannot write {}: {}", file_.string(), error.message()));
}

nlohmann::ordered_json finished_summary(const fs::path& directory, const PlannedPoint& point) {
  auto summary = read_json(directory / "summary.json");
  const bool finished = figure(summary, "/complete") == true &&
                        figure(summary, "/hashes/scenario") == point.scenario_hash &&
                        figure(summary, "/steps") == point.scenario.training.steps;
  return finished ? std::move(summary) : nlohmann::ordered_json();
}

}  // namespace strait::sweep
