// strait crosscheck RUN_DIR...: the messages of each record over several network models, how far these disagree, and whether they
// agree on the order of the runs. docs/crosscheck.md says how to read the figures.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <variant>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/cli/crosscheck.h"
#include "sim/cli/crosscheck_report.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/progress.h"
#include "sim/cli/simulator.h"
#include "sim/cli/temporary_directory.h"
#include "sim/record/reader.h"
#include "sim/record/writer.h"
#include "sim/scenario/scenario.h"
#include "sim/trace/output_file.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// From the least detailed to the most.
constexpr std::array<std::string_view, 3> kModels = {"ideal", "fluid", "packet"};

sim::NetworkModel model_of(const std::string& name) {
  return name == "ideal"   ? sim::NetworkModel::ideal
         : name == "fluid" ? sim::NetworkModel::fluid
                           : sim::NetworkModel::packet;
}

struct Run : CheckedRun {
  fs::path directory;
  scenario::Scenario scenario;
};

std::vector<std::string> chosen_models(const std::string& list) {
  std::vector<std::string> asked;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    asked.push_back(list.substr(begin, end - begin));
    begin = end + 1;
    if (std::find(kModels.begin(), kModels.end(), asked.back()) == kModels.end())
      throw WrongInput{fmt::format("--models: found \"{}\"; allowed: {}", asked.back(),
                                   fmt::join(kModels, ", "))};
  }
  std::vector<std::string> models;
  for (const std::string_view model : kModels)
    if (std::find(asked.begin(), asked.end(), model) != asked.end()) models.emplace_back(model);
  if (models.size() < 2)
    throw WrongInput{fmt::format("--models {}: two different ones are needed; allowed: {}", list,
                                 fmt::join(kModels, ", "))};
  return models;
}

std::string method_text(const scenario::Scenario& s) {
  std::string text(s.compression.pipeline.method());
  if (const auto rank = s.compression.pipeline.rank()) text += fmt::format(" rank {}", *rank);
  if (const auto ratio = s.compression.pipeline.ratio()) text += fmt::format(" {:g}x", *ratio);
  const std::string_view keys_and_values = s.compression.context.method();
  if (keys_and_values == "none") return text;
  const std::string context =
      fmt::format("{}{}", keys_and_values == "mos" ? "" : "context ", keys_and_values);
  return text == "none" ? context : text + " + " + context;
}

Run open_run(const std::string& directory) {
  Run run;
  run.directory = directory;
  scenario::Result result = scenario::load_scenario((run.directory / "scenario.json").string());
  if (!result.ok()) throw WrongInput{result.text()};
  run.scenario = std::move(*result.scenario);
  if (!fs::exists(run.directory / "record" / "log.strait"))
    throw WrongInput{fmt::format("{}: no run directory, it holds no record/log.strait", directory)};
  fs::path path = fs::path(directory).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  run.label = path.filename().string();
  run.method = method_text(run.scenario);
  return run;
}

std::vector<Run> open_runs(const std::vector<std::string>& directories) {
  std::vector<Run> runs;
  for (const std::string& directory : directories) runs.push_back(open_run(directory));
  for (Run& run : runs) {
    const auto namesakes =
        std::count_if(runs.begin(), runs.end(), [&](const Run& r) { return r.label == run.label; });
    if (namesakes > 1) run.label = run.directory.string();
  }
  return runs;
}

// The first `steps` steps of a record, as a record that was stopped there.
void copy_record(const fs::path& from, const fs::path& to, int64_t steps) {
  fs::create_directories(to / "record");
  record::RecordReader reader((from / "record" / "log.strait").string());
  record::RecordWriter writer((to / "record" / "log.strait").string());
  while (const std::optional<record::Frame> frame = reader.next()) {
    const auto* step = std::get_if<record::StepLog>(&*frame);
    if ((step && step->step > steps) || std::holds_alternative<record::RecordFooter>(*frame))
      return;
    writer.write(*frame);
  }
}

// What strait-sim says that the packet model will take for `steps` steps (0: all), in host seconds.
double predicted_seconds(const fs::path& run, const fs::path& scenario, int64_t steps) {
  nlohmann::ordered_json answer;
  ChildProcess child(
      {sibling_program("strait-sim"), run.string(), "--scenario", scenario.string(), "--predict"},
      [&](const std::string& line) {
        answer = nlohmann::ordered_json::parse(line, nullptr, false);
      });
  if (child.wait() != 0 || !answer.is_object())
    throw std::runtime_error("strait-sim cannot read " + run.string());
  const double all = answer.value("predicted_host_seconds", 0.0);
  const double step = answer.value("per_step", 0.0);
  const auto total = answer.value("steps", int64_t{0});
  return steps == 0 || steps >= total ? all : all - step * static_cast<double>(total - steps);
}

// One simulation under way.
struct Job {
  std::string model;
  fs::path directory;
  std::unique_ptr<Simulator> simulator;
};

// Writes the scenario of `model` into its own directory below `temporary`.
Job make_job(const Run& run, const std::string& model, const fs::path& temporary) {
  Job job{model, temporary / model, nullptr};
  fs::create_directories(job.directory);
  scenario::Scenario s = run.scenario;
  s.network.model = model_of(model);
  s.output.messages = scenario::MessageLog::all;
  s.output.timeline_steps = {1, 1};
  sim::write_whole_file((job.directory / "scenario.json").string(),
                        scenario::to_json(s).dump(2) + "\n");
  return job;
}

// Waits for all; throws where one failed. False if the user interrupted.
bool finish(std::vector<Job>& jobs, const Run& run) {
  using namespace std::chrono_literals;
  const auto running = [](const Job& job) { return job.simulator->running(); };
  while (std::any_of(jobs.begin(), jobs.end(), running)) {
    if (interrupted())
      for (Job& job : jobs) job.simulator->stop();
    std::this_thread::sleep_for(20ms);
  }
  if (interrupted()) return false;
  for (Job& job : jobs)
    if (const int status = job.simulator->finish(); status != 0)
      throw std::runtime_error(fmt::format("{} under the {} model: strait-sim ended with status {}",
                                           run.label, job.model, status));
  return true;
}

// Simulates a run under every model, all at once. False if interrupted.
bool simulate(Run& run, const std::vector<std::string>& models, const CrosscheckArguments& a) {
  const TemporaryDirectory temporary("crosscheck");
  fs::path record = run.directory;
  if (a.steps > 0) {
    record = temporary.path() / "record-of-first-steps";
    copy_record(run.directory, record, a.steps);
  }
  std::vector<Job> jobs;
  for (const std::string& model : models) jobs.push_back(make_job(run, model, temporary.path()));
  fmt::print("{}: {}, {} ranks", run.label, run.method, run.scenario.parallel.ranks());
  if (models.back() == "packet")
    fmt::print(
        "; the packet model will take about {} of host time",
        duration_text(predicted_seconds(record, jobs.back().directory / "scenario.json", a.steps)));
  fmt::print("\n");
  for (Job& job : jobs)
    job.simulator = std::make_unique<Simulator>(
        Simulator::Options{record, job.directory / "scenario.json", job.directory, {}, false});
  if (!finish(jobs, run)) return false;
  for (const Job& job : jobs) run.models.push_back(read_times(job.directory, job.model));
  if (run.models.front().steps.empty())
    throw WrongInput{fmt::format("{}: its record holds no step", run.directory.string())};
  return true;
}

}  // namespace

int crosscheck_command(const CrosscheckArguments& a) {
  const std::vector<std::string> models = chosen_models(a.models);
  std::vector<Run> runs = open_runs(a.runs);
  note_interrupts();
  for (Run& run : runs)
    if (!simulate(run, models, a)) return kInterrupted;
  const std::vector<CheckedRun> checked(runs.begin(), runs.end());
  print_crosscheck(checked);
  if (a.out.empty()) return kDone;
  fmt::print("\n");
  for (const fs::path& file : write_crosscheck(checked, a.out)) fmt::print("{}\n", file.string());
  return kDone;
}

}  // namespace strait::cli
