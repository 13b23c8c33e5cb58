// strait replay RUN_DIR: the record of a run over another network or on other devices. Needs neither
// engine nor data; what would change the record is refused, key by key.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>

#include "sim/cli/commands.h"
#include "sim/cli/files.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/progress.h"
#include "sim/cli/simulator.h"
#include "sim/scenario/scenario.h"
#include "sim/sweep/file_tools.h"
#include "sim/sweep/points.h"
#include "sim/sweep/replayable.h"
#include "sim/trace/output_file.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

scenario::Scenario load_resolved(const std::string& file, const std::vector<std::string>& set) {
  scenario::Result result = scenario::load_scenario(file, set);
  if (!result.ok()) {
    std::string text = result.text();
    text.pop_back();  // the last line end
    throw WrongInput{text};
  }
  return std::move(*result.scenario);
}

// The scenario of the replay. Throws WrongInput naming every key that would change the record.
scenario::Scenario wanted_scenario(const ReplayArguments& a) {
  const fs::path run = a.run;
  if (!fs::exists(run / "record" / "log.strait"))
    throw WrongInput{fmt::format(
        "{}: found no record/log.strait; allowed: the directory of a run, or of a point of a sweep",
        a.run)};
  const std::string file = (run / "scenario.json").string();
  const scenario::Scenario recorded = load_resolved(file, {});
  const scenario::Scenario wanted = load_resolved(file, a.set);
  std::string text;
  for (const sweep::RecordChange& change : sweep::record_changes(recorded, wanted))
    text += fmt::format("{}: {} would change the record ({} there, {} wanted)\n", a.run,
                        change.path, change.recorded, change.wanted);
  if (!text.empty())
    throw WrongInput{
        fmt::format("{}A replay times the same training anew; allowed: {}. Train the rest "
                    "with: strait run {} --set ...",
                    text, fmt::join(sweep::replayable_paths(), ", "), file)};
  return wanted;
}

// "home-300m_seed-2": what the assignments say, as the name of a directory.
std::string name_of(const std::vector<std::string>& set) {
  std::string name;
  for (const std::string& assignment : set) {
    const size_t equals = assignment.find('=');
    const std::string path = assignment.substr(0, equals);
    std::string value = assignment.substr(equals + 1);
    if (value.find_first_not_of("0123456789.") == std::string::npos)
      value = path.substr(path.rfind('.') + 1) + "-" + value;
    name += fmt::format("{}{}", name.empty() ? "" : "_", sweep::slug(value));
  }
  constexpr size_t longest = 80;
  return name.empty() ? "again" : name.substr(0, longest);
}

std::string figure(const Json& summary, const char* key, const char* form) {
  if (!summary.contains(key) || !summary[key].is_number()) return "-";
  return fmt::format(fmt::runtime(form), summary[key].get<double>());
}

// This replay beside the run itself, if that has been simulated.
void print_end(const fs::path& run, const fs::path& out, const Json& summary) {
  fmt::print("{:<10} {:>14} {:>14} {:>14}\n", "", "step", "whole run", "tokens/s");
  const auto row = [](const char* label, const Json& s) {
    const auto time = [&](const char* key) {
      return s.contains(key) && s[key].is_number() ? duration_text(s[key].get<double>()) : "-";
    };
    fmt::print("{:<10} {:>14} {:>14} {:>14}\n", label, time("mean_step_s"), time("time_s"),
               figure(s, "tokens_per_s", "{:.0f}"));
  };
  const Json own = sweep::read_json(run / "summary.json");
  if (own.is_object()) row("the run", own);
  row("replay", summary);
  fmt::print("files             {}\n", out.string());
}

}  // namespace

int replay_command(const ReplayArguments& a) {
  const scenario::Scenario wanted = wanted_scenario(a);
  const fs::path out = make_directory(a.out, fs::path(a.run) / "replays", name_of(a.set));
  const fs::path file = out / "scenario.json";
  sim::write_whole_file(file.string(), scenario::to_json(wanted).dump(2) + "\n");
  std::error_code ignored;  // a file system without links: the replay is no worse
  fs::create_directory_symlink(
      fs::relative(fs::canonical(fs::path(a.run) / "record"), fs::canonical(out)), out / "record",
      ignored);

  note_interrupts();
  Progress progress(wanted.training.steps, a.quiet);
  Simulator simulator({a.run, file, out, {}, false},
                      [&](const Json& line) { progress.simulated(line); });
  while (simulator.running() && !interrupted())
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (interrupted()) simulator.stop();
  const int status = simulator.finish();
  if (status == kDone || status == kInterrupted) progress.finish();
  if (status == kInterrupted) {
    fmt::print("interrupted: {} holds the steps up to there\n", out.string());
    return kInterrupted;
  }
  if (status != kDone) {
    if (!fs::exists(out / "steps.csv")) fs::remove_all(out, ignored);  // nothing came of it
    return status == kWrongInput ? kWrongInput : kFailed;
  }
  if (!a.quiet) print_end(a.run, out, simulator.summary());
  return kDone;
}

}  // namespace strait::cli
