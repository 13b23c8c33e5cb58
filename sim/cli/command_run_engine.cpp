// strait run SCENARIO.json: trains, writes the record, and lets strait-sim say, beside it, when
// everything would have happened.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "sim/cli/commands.h"
#include "sim/cli/compare.h"
#include "sim/cli/data_source.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/files.h"
#include "sim/cli/load.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"
#include "sim/cli/recording.h"
#include "sim/cli/simulator.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> stop_asked{false};

// The first Ctrl-C ends the run after the step under way, with whole files; the second ends it at
// once.
void stop_on_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop_asked = true; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

struct Job {
  scenario::Scenario scenario;
  TrainingConfig config;
  BackendKind backend = BackendKind::cpu;
  OpenedData data;
  DryRun plan;
};

// Everything that can be wrong with the input is found here, before anything is written.
Job prepare(const RunArguments& a) {
  Job job;
  job.scenario = load(a.scenario, a.set);
  if (a.steps > 0) {
    scenario::Training& t = job.scenario.training;
    t.steps = a.steps;
    t.optimizer.warmup_steps = std::min<int64_t>(t.optimizer.warmup_steps, a.steps);
  }
  try {
    job.backend = to_backend(job.scenario.devices.backend);
    if (job.backend == BackendKind::meta) {
      job.data.vocabulary = stated_vocabulary(job.scenario);
    } else {
      job.data = open_data(job.scenario, [&](const std::string& line) {
        if (!a.quiet) fmt::print("{}\n", line);
      });
    }
    job.config = to_training(job.scenario, job.data.vocabulary);
  } catch (const std::invalid_argument& e) {
    throw WrongInput{fmt::format("{}: {}", a.scenario, e.what())};
  }
  job.scenario.devices.backend = job.backend == BackendKind::cuda   ? scenario::Backend::cuda
                                 : job.backend == BackendKind::meta ? scenario::Backend::meta
                                                                    : scenario::Backend::cpu;
  job.scenario.model.vocabulary = job.config.shape.vocabulary;
  job.plan = dry_run(job.config);
  return job;
}

void print_start(const Job& job, const fs::path& directory) {
  const TrainingConfig& c = job.config;
  int64_t parameters = 0;
  for (const RankPlan& p : job.plan.ranks) parameters += p.parameters;
  const StepBytes b = bytes_of(job.plan.step);
  fmt::print("run               {}\n", directory.string());
  fmt::print("model             {:.3g} M parameters on {} stages, {}, {}\n",
             static_cast<double>(parameters) / 1e6, c.pipeline, name_of(job.backend),
             c.dtype == DType::bf16 ? "bf16" : "fp32");
  if (!job.data.description.empty()) fmt::print("data              {}\n", job.data.description);
  fmt::print("boundaries        {}, {} a step, wire ratio {:.2f}x\n", c.method.method,
             bytes_text(static_cast<double>(b.all())), b.wire_ratio());
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

// What the user reads last. The same figures are in summary.json.
void print_end(const Job& job, const fs::path& directory, const Recording& r,
               const Simulator& simulator) {
  ComparisonRow own;
  own.method = std::string(job.scenario.compression.pipeline.method());
  const auto rank = make_method(job.config.method, job.config.shape, job.config.dtype)->rank();
  if (rank) own.method += fmt::format(" rank {}", *rank);
  own.network = job.scenario.network.preset.empty() ? "as given" : job.scenario.network.preset;
  own.virtual_seconds = simulator.last_seconds();
  own.step_seconds = mean_step_seconds(simulator);
  const double tokens = static_cast<double>(job.config.batch) * job.config.shape.context;
  own.tokens_per_second = tokens / own.step_seconds;
  own.bytes_per_step = static_cast<double>(bytes_of(job.plan.step).all());
  std::vector<ComparisonRow> rows = {own};
  if (!r.result.stopped) rows = compare(directory, job.scenario, job.config, own);
  print_rows(rows);
  fmt::print("\nhost time         {} for {} steps ({:.0f} tokens/s)\n",
             duration_text(r.host_seconds), r.result.steps,
             tokens * static_cast<double>(r.result.steps) / r.host_seconds);
  for (const char* file : {"summary.json", "steps.csv", "evals.csv", "ranks.csv", "links.csv",
                           "messages.csv", "timeline.json"}) {
    if (fs::exists(directory / file))
      fmt::print("                  {}\n", (directory / file).string());
  }
}

}  // namespace

int run_command(const RunArguments& a) {
  const Job job = prepare(a);
  const fs::path directory = make_run_directory(a.out, job.scenario.name);
  write_scenario(directory, job.scenario);
  if (!a.quiet) print_start(job, directory);
  stop_on_interrupt();

  Progress progress(job.config.steps, a.quiet);
  Simulator simulator({directory, {}, {}, {}, true}, [&](const nlohmann::ordered_json& line) {
    progress.simulated(line.value("step", int64_t{0}), line.value("time_s", 0.0));
  });
  const Recording r = train_into(
      directory, job.scenario, job.config, job.backend, job.data.source.get(), job.data.hash,
      job.plan.ranks, [&](const record::StepLog& step) { progress.trained(step); },
      [] { return stop_asked.load(); });
  const int status = simulator.finish();
  progress.finish();
  if (status != 0) {
    fmt::print(stderr,
               "strait: strait-sim ended with status {}; the record is whole: `strait-sim {}` "
               "makes the files from it\n",
               status, directory.string());
    return status == kWrongInput ? kWrongInput : kFailed;
  }
  print_end(job, directory, r, simulator);
  if (r.result.stopped) {
    fmt::print("interrupted after step {} of {}: the files are whole up to there\n", r.result.steps,
               job.config.steps);
    return kInterrupted;
  }
  return kDone;
}

}  // namespace strait::cli
