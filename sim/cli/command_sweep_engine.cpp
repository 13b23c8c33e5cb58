// strait sweep SWEEP.json: says what it will do, trains each distinct record once, replays
// everything else, and gathers one table. Running it again goes on where it was stopped.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <set>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/cli/files.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/load.h"
#include "sim/cli/progress.h"
#include "sim/cli/recording.h"
#include "sim/cli/sweep_launcher.h"
#include "sim/cli/sweep_resolver.h"
#include "sim/sweep/cache.h"
#include "sim/sweep/file_tools.h"
#include "sim/trace/output_file.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

std::string seconds_or_unknown(double seconds) {
  return seconds > 0 ? duration_text(seconds) : "unknown";
}

// The makespan cannot be below the longest training, nor below an even share of all work.
double expected_seconds(const sweep::Plan& plan, int jobs) {
  double longest = 0;
  for (const sweep::PlannedTraining& training : plan.trainings)
    longest = std::max(longest, training.seconds);
  return std::max(longest, (plan.training_seconds() + plan.replay_seconds()) / jobs);
}

void print_points(const sweep::Plan& plan) {
  std::vector<size_t> widths;
  std::vector<std::string> titles = {"point"};
  titles.insert(titles.end(), plan.axes.begin(), plan.axes.end());
  for (const std::string& title : titles) widths.push_back(title.size());
  for (const sweep::PlannedPoint& point : plan.points) {
    widths[0] = std::max(widths[0], point.name.size());
    for (size_t a = 0; a < point.labels.size(); ++a)
      widths[a + 1] = std::max(widths[a + 1], point.labels[a].size());
  }
  const auto row = [&](const std::vector<std::string>& cells, const std::string& training,
                       const std::string& replay) {
    for (size_t c = 0; c < cells.size(); ++c) fmt::print("{:<{}}  ", cells[c], widths[c]);
    fmt::print("{:>8}  {:>10}\n", training, replay);
  };
  row(titles, "training", "replay");
  for (const sweep::PlannedPoint& point : plan.points) {
    std::vector<std::string> cells = {point.name};
    cells.insert(cells.end(), point.labels.begin(), point.labels.end());
    row(cells, fmt::format("{}", point.training + 1), duration_text(point.seconds));
  }
  fmt::print("\n{:>8}  {:>8}  {:>14}\n", "training", "steps", "on one core");
  for (size_t t = 0; t < plan.trainings.size(); ++t)
    fmt::print("{:>8}  {:>8}  {:>14}\n", t + 1, plan.trainings[t].scenario.training.steps,
               seconds_or_unknown(plan.trainings[t].seconds));
  fmt::print("\n");
}

void print_plan(const sweep::Plan& plan, int jobs) {
  const auto cached = std::count_if(plan.trainings.begin(), plan.trainings.end(),
                                    [](const auto& training) { return training.cached; });
  fmt::print("sweep             {}: {} points over {}\n", plan.name, plan.points.size(),
             fmt::join(plan.axes, ", "));
  fmt::print("trainings         {}{}, about {} of one core\n", plan.trainings.size(),
             cached > 0 ? fmt::format(" ({} in the cache)", cached) : "",
             seconds_or_unknown(plan.training_seconds()));
  fmt::print("replays           {}, about {} of one core\n", plan.points.size(),
             duration_text(plan.replay_seconds()));
  fmt::print("host time         about {} with {} at once\n",
             duration_text(expected_seconds(plan, jobs)), jobs);
}

// Names of what a sweep directory may hold.
bool is_ours(const fs::path& path) {
  static const std::set<std::string> names = {"plan.json", "sweep.json", "runs.csv", "trainings",
                                              "runs",      "slurm",      "plots"};
  std::string name = path.filename().string();
  if (name.ends_with(".tmp")) name.resize(name.size() - 4);
  return names.contains(name);
}

[[noreturn]] void refuse_directory(const fs::path& root, const std::string& what) {
  throw WrongInput{
      fmt::format("{}: {}; allowed: a new directory, or the one in which this sweep was begun",
                  root.string(), what)};
}

// Without a "/" at its end, so that it has one name in texts and hashes however it was written.
fs::path directory_of(const SweepArguments& a, const sweep::Plan& plan) {
  if (a.out.empty()) return fs::path("sweeps") / directory_name(plan.name);
  const fs::path root = fs::path(a.out).lexically_normal();
  return root.has_filename() ? root : root.parent_path();
}

// An empty directory, or one that holds a part of this sweep: points may be added, not changed.
void check_directory(const fs::path& root, const sweep::Plan& plan) {
  const auto refuse = [&](const std::string& what) { refuse_directory(root, what); };
  for (const auto& item : fs::directory_iterator(root))
    if (!is_ours(item.path()))
      refuse(fmt::format("holds {}, which is of no sweep", item.path().filename().string()));
  const auto begun = sweep::read_json(root / "plan.json");
  if (!begun.is_object() || !begun.contains("points")) return;
  std::map<std::string, std::string> hashes;
  for (const sweep::PlannedPoint& point : plan.points) hashes[point.name] = point.scenario_hash;
  for (const auto& point : begun["points"]) {
    const auto known = hashes.find(point.value("name", ""));
    if (known == hashes.end() || known->second != point.value("scenario_hash", ""))
      refuse(fmt::format("holds another sweep: its point {} is not in this one",
                         point.value("name", "?")));
  }
  std::map<std::string, std::string> data;
  for (const sweep::PlannedTraining& training : plan.trainings)
    data[training.key] = training.data_hash;
  for (const auto& training : begun.value("trainings", sweep::Json::array())) {
    const auto known = data.find(training.value("key", ""));
    if (known != data.end() && known->second != training.value("data_hash", known->second))
      refuse(fmt::format("was begun with other data (training {})", known->first));
  }
  const std::string program = begun.value("program", "");
  if (program != sweep::program_identity())
    fmt::print(stderr, "strait: {} was begun by another build ({}); what it has finished is kept\n",
               root.string(), program);
}

// What earlier sessions have finished goes into the table, the rest into the lists of what to do.
void look_at_what_is_there(SweepState& state) {
  std::set<size_t> needed;
  for (size_t p = 0; p < state.plan.points.size(); ++p) {
    const sweep::PlannedPoint& point = state.plan.points[p];
    auto summary = sweep::finished_summary(state.directory.run(point), point);
    if (!summary.is_null()) {
      sweep::remove_if_empty(state.directory.run_errors(point));
      state.table.set(p, {std::move(summary), ""});
    } else {
      state.points.push_back(p);
      needed.insert(point.training);
    }
  }
  for (const size_t t : needed)
    if (!state.has_record(t)) state.trainings.push_back(t);
}

int finish(const SweepState& state, const fs::path& root, bool whole) {
  // Here nobody writes them any more; a kill may have left empty ones.
  if (whole)
    for (const sweep::PlannedTraining& training : state.plan.trainings)
      sweep::remove_if_empty(state.directory.training_errors(training));
  const size_t failed = state.table.failed();
  fmt::print("points            {} of {}{}\n", state.table.known() - failed,
             state.plan.points.size(),
             failed > 0 ? fmt::format("; {} failed: see the column status", failed) : "");
  fmt::print("                  {}\n", (root / "runs.csv").string());
  if (!whole) {
    fmt::print("interrupted: the same command goes on\n");
    return kInterrupted;
  }
  return failed > 0 ? kFailed : kDone;
}

}  // namespace

int sweep_command(const SweepArguments& a) {
  const LoadedSweep loaded = load_sweep(a.sweep);
  const sweep::Plan plan = sweep::make_plan(loaded.sweep, loaded.points,
                                            training_resolver(a.sweep, !a.dry_run, a.quiet));
  const int jobs = a.jobs > 0 ? a.jobs : default_jobs();
  if (a.dry_run) {
    print_points(plan);
    print_plan(plan, jobs);
    return kDone;
  }
  const fs::path root = directory_of(a, plan);
  if (fs::exists(root) && !fs::is_directory(root)) refuse_directory(root, "no directory");
  fs::create_directories(root);
  const DirectoryLock lock(root, std::chrono::seconds(5));
  check_directory(root, plan);
  if (!a.quiet) print_plan(plan, jobs);
  sim::write_whole_file((root / "sweep.json").string(), plan.sweep.dump(2) + "\n");
  sim::write_whole_file((root / "plan.json").string(), to_json(plan).dump(2) + "\n");

  SweepState state{plan,
                   {root},
                   sweep::RunTable(plan, root / "runs.csv"),
                   {sibling_program("strait"), sibling_program("strait-sim")},
                   [&](size_t t) {
                     return has_finished_record(root / "trainings" / plan.trainings[t].key,
                                                plan.trainings[t].record_hash);
                   },
                   {},
                   {},
                   a.jobs,
                   a.quiet};
  look_at_what_is_there(state);
  state.table.write();
  if (const size_t there = plan.points.size() - state.points.size(); there > 0 && !a.quiet)
    fmt::print("there already     {} points; left to do: {} trainings, {} points\n", there,
               state.trainings.size(), state.points.size());
  note_interrupts();
  bool whole = true;
  if (!state.points.empty())
    whole = a.launcher == "slurm" ? run_on_slurm(state) : run_locally(state);
  return finish(state, root, whole);
}

}  // namespace strait::cli
