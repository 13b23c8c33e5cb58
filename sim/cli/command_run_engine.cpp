// strait run SCENARIO.json: trains, writes the record, and lets strait-sim say, beside it, when
// everything would have happened. With --resume it goes on where an earlier one was stopped.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "sim/cli/commands.h"
#include "sim/cli/compare.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/files.h"
#include "sim/cli/finished_trainings.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/load.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"
#include "sim/cli/recording.h"
#include "sim/cli/simulator.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// The scenario of the command line: a file, or with --resume a run directory.
scenario::Scenario read_scenario(RunArguments& a) {
  if (a.resume && fs::is_directory(a.scenario)) {
    if (a.out.empty()) a.out = a.scenario;
    a.scenario = (fs::path(a.scenario) / "scenario.json").string();
  }
  scenario::Scenario s = load(a.scenario, a.set);
  if (a.steps > 0) {
    s.training.steps = a.steps;
    s.training.optimizer.warmup_steps =
        std::min<int64_t>(s.training.optimizer.warmup_steps, a.steps);
    std::erase_if(s.training.phases, [&](const scenario::Phase& p) { return p.at > a.steps; });
  }
  return s;
}

// What becomes of the parameters where another method takes them over.
const char* conversion_text(const ModelConstraint& before, const std::string& method_before,
                            const TrainingConfig& after) {
  const ModelConstraint constraint = constraint_of(after);
  if (before == constraint)
    return method_before.empty() || method_before == after.method.method
               ? ""
               : " (parameters go on; what boundaries have of their own begins afresh or goes)";
  if (!(constraint == ModelConstraint{})) return " (parameters are projected: the model changes)";
  return after.method.method == "none"
             ? " (parameters are folded: the same function)"
             : " (parameters are folded; the boundaries change the model)";
}

// What becomes of the projections of keys and values in layers whose subspaces end.
const char* folding_text(const TrainingConfig& before, const TrainingConfig& after) {
  const auto compressed = [](const TrainingConfig& c, int layer) {
    return c.context.method == "mos" && compresses(c.context.mixture, layer, c.shape.layers);
  };
  bool ends = false;
  for (int layer = 0; layer < after.shape.layers; ++layer)
    ends = ends || (compressed(before, layer) && !compressed(after, layer));
  if (!ends) return "";
  return after.context.fold_on_unplug
             ? " (keys and values are folded: the same function at angle 0)"
             : " (keys and values leave their subspaces: the model changes)";
}

// "mos ranks 13/26, ring, 92 kB a step, wire ratio 6.60x"
std::string keys_and_values_text(const TrainingConfig& c, const StepTraffic& traffic) {
  if (c.shards == 1) return context_text(c) + ", on one shard: nothing travels";
  const KindBytes exchange = traffic.context.exchange();
  return fmt::format("{}, {}, {} a step, wire ratio {:.2f}x", context_text(c),
                     name_of(c.context.algorithm), bytes_text(static_cast<double>(exchange.all())),
                     exchange.wire_ratio());
}

// Of the first phase, and of those that change the method.
void print_keys_and_values(const TrainingJob& job, const StepTraffic& traffic) {
  const char* label = "keys and values";
  std::string before = "none";
  for (const TrainingPhase& phase : job.phases) {
    const TrainingConfig& c = phase.config;
    const bool first = &phase == &job.phases.front();
    if (context_text(c) == before && !(first && c.shards > 1)) continue;
    before = context_text(c);
    fmt::print("{:<18}{}{}\n", std::exchange(label, ""),
               first ? "" : fmt::format("from step {}: ", c.first_step),
               keys_and_values_text(
                   c, first || c.shards == 1 ? traffic : traffic_of(dry_run(c).step, c.grid())));
  }
}

void print_start(const TrainingJob& job, const fs::path& directory) {
  const TrainingConfig& c = job.config();
  const StepTraffic traffic = traffic_of(job.plan.step, c.grid());
  const StepBytes& b = traffic.pipeline;
  fmt::print("run               {}\n", directory.string());
  std::string grid = fmt::format("{} stages", c.pipeline);
  if (c.shards > 1) grid += fmt::format(" x {} shards", c.shards);
  if (c.replicas > 1) grid += fmt::format(" x {} replicas", c.replicas);
  fmt::print("model             {:.3g} M parameters on {}, {}, {}\n",
             static_cast<double>(trainable_parameters(c, job.plan.ranks)) / 1e6, grid,
             name_of(job.backend), c.dtype == DType::bf16 ? "bf16" : "fp32");
  if (!job.data.empty()) fmt::print("data              {}\n", job.data.front().description);
  if (job.start)
    fmt::print("starts from       {}{}\n", job.scenario.training.init_from,
               conversion_text(job.start->constraint, job.start_method, c));
  for (size_t i = 1; i < job.phases.size(); ++i) {
    const TrainingConfig &before = job.phases[i - 1].config, &after = job.phases[i].config;
    const std::string own = boundaries_of(after);
    const bool afresh =
        before.method.method == after.method.method && !own.empty() && own != boundaries_of(before);
    fmt::print("from step {:<8}{}{}{}{}\n", after.first_step,
               job.scenario.training.phases[i - 1].set.dump(),
               conversion_text(constraint_of(before), before.method.method, after),
               folding_text(before, after),
               afresh ? " (what boundaries have of their own begins afresh: " + own + ")" : "");
  }
  fmt::print("boundaries        {}, {} a step, wire ratio {:.2f}x\n", method_text(c),
             bytes_text(static_cast<double>(b.all())), b.combined().wire_ratio());
  print_keys_and_values(job, traffic);
  if (job.scenario.network.model != sim::NetworkModel::packet) return;
  const double packet = predict_packet_seconds(job.scenario, job.plan.step);
  fmt::print("packet model      about {} of host time, beside the training\n",
             duration_text(packet));
  const double training =
      job.backend == BackendKind::cpu
          ? predict_training_seconds(c, job.plan.step, host_threads(job.scenario))
          : 0;
  if (packet > training) {
    fmt::print(
        "                  that is more than the training itself (about {}); --set "
        "network.model=fluid is faster\n",
        duration_text(training));
  }
}

// "subspace rank 16", or "none > mos ranks 13/26" where phases change it.
std::string methods_of(const TrainingJob& job) {
  std::vector<std::string> names;
  for (const TrainingPhase& phase : job.phases) {
    std::string name = compression_text(phase.config);
    if (names.empty() || names.back() != name) names.push_back(std::move(name));
  }
  return fmt::format("{}", fmt::join(names, " > "));
}

// What the user reads last. The same figures are in summary.json.
void print_end(const TrainingJob& job, const fs::path& directory, const Recording& r,
               const Simulator& simulator) {
  ComparisonRow own = row_of(simulator);
  own.method = methods_of(job);
  own.network = job.scenario.network.preset.empty() ? "as given" : job.scenario.network.preset;
  std::vector<ComparisonRow> rows = {own};
  if (!r.result.stopped) rows = compare(directory, job.scenario, job.config(), own);
  print_rows(rows);
  if (r.host_seconds > 0 && job.backend != BackendKind::meta)
    fmt::print("\nhost time         {} for {} steps ({:.0f} tokens/s)\n",
               duration_text(r.host_seconds), r.result.steps,
               simulator.summary().value("tokens", 0.0) / r.host_seconds);
  else
    fmt::print("\n");
  for (const char* file : {"summary.json", "steps.csv", "evals.csv", "ranks.csv", "links.csv",
                           "messages.csv", "timeline.json"}) {
    if (fs::exists(directory / file))
      fmt::print("                  {}\n", (directory / file).string());
  }
}

// What ends a run or a recording that did not get to its end.
int report_interruption(const Recording& r, const TrainingJob& job, const fs::path& directory) {
  fmt::print("interrupted after step {} of {}: the files are whole up to there\n", r.result.steps,
             job.config().steps);
  if (fs::exists(directory / "checkpoints"))
    fmt::print("                  strait run --resume {}\n", directory.string());
  return kInterrupted;
}

// Trains, unless the record is there: from an earlier session, or from the cache. `on_open`: the record may be read.
Recording record_training(const TrainingJob& job, const fs::path& directory, const RunArguments& a,
                          const std::function<void()>& on_open, Progress& progress) {
  const auto say = [&](const std::string& line) {
    if (!a.quiet) fmt::print("{}\n", line);
  };
  Recording r;
  r.result.steps = job.config().steps;
  if (a.resume && has_finished_record(directory, scenario::record_hash(job.scenario))) {
    say("training          finished before");
    on_open();
    return r;
  }
  const FinishedTrainings finished(job, a.cache);
  if (finished.take(directory)) {
    say("training          taken from the cache of finished trainings (--no-cache trains again)");
    on_open();
    return r;
  }
  RecordingOptions options;
  options.resume = a.resume;
  options.on_open = on_open;
  options.on_step = [&](const record::StepLog& step) { progress.trained(step); };
  options.stop = [] { return interrupted(); };
  options.notice = say;
  r = train_into(directory, job, options);
  if (!r.result.stopped) finished.keep(directory, r.host_seconds);
  return r;
}

// Trains and simulates beside it.
int record_and_simulate(const TrainingJob& job, const fs::path& directory, const RunArguments& a) {
  Progress progress(job.config().steps, a.quiet);
  std::optional<Simulator> simulator;
  const auto simulate = [&] {
    simulator.emplace(Simulator::Options{directory, {}, {}, {}, true},
                      [&](const nlohmann::ordered_json& line) { progress.simulated(line); });
  };
  const Recording r = record_training(job, directory, a, simulate, progress);
  const int status = simulator->finish();
  progress.finish();
  if (status != 0) {
    fmt::print(stderr,
               "strait: strait-sim ended with status {}; the record is whole: `strait-sim {}` "
               "makes the files from it\n",
               status, directory.string());
    return status == kWrongInput ? kWrongInput : kFailed;
  }
  print_end(job, directory, r, *simulator);
  return r.result.stopped ? report_interruption(r, job, directory) : kDone;
}

}  // namespace

int run_command(RunArguments a) {
  const TrainingJob job =
      prepare_training(read_scenario(a), a.scenario, [&](const std::string& line) {
        if (!a.quiet) fmt::print("{}\n", line);
      });
  const fs::path wanted =
      a.out.empty() ? fs::path("runs") / directory_name(job.scenario.name) : fs::path(a.out);
  const bool finished =
      a.resume && has_finished_record(wanted, scenario::record_hash(job.scenario));
  if (!finished && !FinishedTrainings(job, a.cache).has()) check_memory(job, a.scenario);
  const fs::path directory = a.resume ? find_run_directory(a.out, job.scenario.name)
                                      : make_run_directory(a.out, job.scenario.name);
  const DirectoryLock lock(directory / "record", std::chrono::seconds(1));
  if (a.resume) check_resumable(directory, job);
  write_scenario(directory, job.scenario);
  if (!a.quiet) print_start(job, directory);
  note_interrupts();
  if (!a.record_only) return record_and_simulate(job, directory, a);
  Progress progress(job.config().steps, a.quiet);
  const Recording r = record_training(
      job, directory, a, [] {}, progress);
  progress.finish();
  return r.result.stopped ? report_interruption(r, job, directory) : kDone;
}

}  // namespace strait::cli
