#include "sim/sweep/slurm_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "sim/record/sha256.h"

namespace strait::sweep {
namespace {

// Slurm's MaxArraySize is 1001 unless somebody has changed it; beyond, a task does several.
constexpr size_t most_tasks = 1000;

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string job_name(const SweepDirectory& directory, const Plan& plan, const char* what) {
  std::string name;
  for (const char c : plan.name)
    name += std::isalnum(static_cast<unsigned char>(c)) ? std::string(1, c) : "-";
  return fmt::format("strait-{}-{}-{}", name.substr(0, 40),
                     sha256_hex(directory.root.string()).substr(0, 8), what);
}

std::string header(const SweepDirectory& directory, const Plan& plan, const std::string& name,
                   const std::string& what, size_t items, const SlurmOptions& options) {
  const size_t tasks = std::min(items, most_tasks);
  const std::string limit = options.at_once > 0 ? fmt::format("%{}", options.at_once) : "";
  return fmt::format(
      "#!/bin/bash\n"
      "# The {} of the sweep {}, {} in {} tasks. Written by `strait sweep`, which submits it with "
      "sbatch;\n"
      "# partition, account and time limit come from SBATCH_PARTITION, SBATCH_ACCOUNT, "
      "SBATCH_TIMELIMIT.\n"
      "#SBATCH --job-name={}\n"
      "#SBATCH --array=0-{}{}\n"
      "#SBATCH --output=\"{}/slurm/{}_%a.log\"\n"
      "#SBATCH --ntasks=1\n",
      what, plan.name, items, tasks, name, tasks - 1, limit, directory.root.string(), what);
}

std::string list(const char* name, const std::vector<std::string>& values) {
  std::string text = fmt::format("{}=(\n", name);
  for (const std::string& value : values) text += "  " + value + "\n";
  return text + ")\n";
}

std::string body(const SlurmOptions& options, const SweepDirectory& directory) {
  return fmt::format("cd {} || exit 1\nsweep={}\n", quoted(options.working_directory),
                     quoted(directory.root.string()));
}

std::string loop(const char* over, size_t items) {
  return fmt::format("for ((i = SLURM_ARRAY_TASK_ID; i < ${{#{}[@]}}; i += {})); do\n", over,
                     std::min(items, most_tasks));
}

}  // namespace

std::string trainings_job_name(const SweepDirectory& directory, const Plan& plan) {
  return job_name(directory, plan, "trainings");
}

std::string replays_job_name(const SweepDirectory& directory, const Plan& plan) {
  return job_name(directory, plan, "replays");
}

std::string trainings_script(const SweepDirectory& directory, const Plan& plan,
                             const std::vector<size_t>& trainings, const SlurmOptions& options) {
  std::vector<std::string> keys;
  int threads = 1;
  bool gpu = false;
  for (const size_t t : trainings) {
    const scenario::Devices& devices = plan.trainings[t].scenario.devices;
    keys.push_back(plan.trainings[t].key);
    threads = std::max(threads, devices.host_threads);
    gpu = gpu || devices.backend == scenario::Backend::cuda;
  }
  return header(directory, plan, trainings_job_name(directory, plan), "trainings", keys.size(),
                options) +
         fmt::format("#SBATCH --cpus-per-task={}\n{}", threads,
                     gpu ? "#SBATCH --gres=gpu:1\n" : "") +
         "\n" + body(options, directory) + list("keys", keys) + loop("keys", keys.size()) +
         fmt::format(
             "  training=$sweep/trainings/${{keys[i]}}\n"
             "  {} run \"$training.json\" --record-only --resume --out \"$training\" 2> "
             "\"$training.errors\"\n"
             "done\n",
             quoted(options.programs.strait));
}

std::string replays_script(const SweepDirectory& directory, const Plan& plan,
                           const std::vector<size_t>& points, const SlurmOptions& options) {
  std::vector<std::string> pairs;
  for (const size_t p : points)
    pairs.push_back(
        fmt::format("'{} {}'", plan.trainings[plan.points[p].training].key, plan.points[p].name));
  return header(directory, plan, replays_job_name(directory, plan), "replays", pairs.size(),
                options) +
         "#SBATCH --cpus-per-task=1\n\n" + body(options, directory) +
         "# Of each: its training, its name.\n" + list("points", pairs) +
         loop("points", pairs.size()) +
         fmt::format(
             "  read -r key name <<< \"${{points[i]}}\"\n"
             "  run=$sweep/runs/$name\n"
             "  {} \"$sweep/trainings/$key\" --scenario \"$run/scenario.json\" --out \"$run\" 2> "
             "\"$run/errors.txt\"\n"
             "done\n",
             quoted(options.programs.strait_sim));
}

}  // namespace strait::sweep
