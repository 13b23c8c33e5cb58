#include "sim/sweep/work.h"

#include <fmt/format.h>

#include <cctype>
#include <fstream>
#include <system_error>

#include "sim/trace/output_file.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;

constexpr size_t longest_error = 400;

void write_scenario(const fs::path& file, const scenario::Scenario& scenario) {
  sim::write_whole_file(file.string(), scenario::to_json(scenario).dump(2) + "\n");
}

// Where a path begins with `folder`, the folder goes.
void erase_folder(std::string& text, const std::string& folder) {
  const auto in_path = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '/' || c == '.' || c == '_' ||
           c == '-';
  };
  for (size_t at = 0; (at = text.find(folder, at)) != std::string::npos;) {
    if (at > 0 && in_path(text[at - 1]))
      ++at;
    else
      text.erase(at, folder.size());
  }
}

}  // namespace

void prepare_training(const SweepDirectory& directory, const PlannedTraining& training,
                      int host_threads) {
  fs::create_directories(directory.root / "trainings");
  scenario::Scenario scenario = training.scenario;
  scenario.devices.host_threads = host_threads;
  write_scenario(directory.training_scenario(training), scenario);
}

void prepare_point(const SweepDirectory& directory, const Plan& plan, const PlannedPoint& point) {
  const fs::path run = directory.run(point);
  fs::remove_all(run);
  fs::create_directories(run);
  write_scenario(run / "scenario.json", point.scenario);
  std::error_code ignored;  // a file system without links: only a replay of the point needs it
  fs::create_directory_symlink(
      fs::path("../../trainings") / plan.trainings[point.training].key / "record", run / "record",
      ignored);
}

std::vector<std::string> training_command(const Programs& programs, const SweepDirectory& directory,
                                          const PlannedTraining& training) {
  return {programs.strait, "run",   directory.training_scenario(training).string(), "--record-only",
          "--resume",      "--out", directory.training(training).string()};
}

std::vector<std::string> replay_command(const Programs& programs, const SweepDirectory& directory,
                                        const Plan& plan, const PlannedPoint& point) {
  const fs::path run = directory.run(point);
  return {programs.strait_sim,
          directory.training(plan.trainings[point.training]).string(),
          "--scenario",
          (run / "scenario.json").string(),
          "--out",
          run.string(),
          "--progress"};
}

std::string error_text(const SweepDirectory& directory, const fs::path& errors) {
  std::ifstream file(errors);
  std::string text;
  for (std::string line; text.size() < longest_error && std::getline(file, line);) {
    for (const std::string speaker : {"strait-sim: ", "strait: "})
      if (line.starts_with(speaker)) line.erase(0, speaker.size());
    if (!line.empty()) text += fmt::format("{}{}", text.empty() ? "" : "; ", line);
  }
  erase_folder(text, fs::absolute(directory.root).lexically_normal().string() + "/");
  erase_folder(text, directory.root.string() + "/");
  if (text.size() > longest_error) {
    size_t end = longest_error;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
    text = text.substr(0, end) + "...";  // no half of a UTF-8 character
  }
  return text;
}

void remove_if_empty(const fs::path& errors) {
  std::error_code ignored;
  if (fs::is_empty(errors, ignored)) fs::remove(errors, ignored);
}

Outcome outcome_of(const SweepDirectory& directory, const PlannedPoint& point,
                   const std::string& status) {
  Outcome outcome;
  outcome.summary = finished_summary(directory.run(point), point);
  const fs::path errors = directory.run_errors(point);
  if (outcome.summary.is_null()) {
    outcome.error = error_text(directory, errors);
    if (outcome.error.empty()) outcome.error = status;
  } else {
    remove_if_empty(errors);
  }
  return outcome;
}

std::string status_text(int status) {
  constexpr int signals = 128;
  return status > signals ? fmt::format("killed by signal {}", status - signals)
                          : fmt::format("ended with status {}", status);
}

}  // namespace strait::sweep
