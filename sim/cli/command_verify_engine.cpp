// strait verify RUN_DIR: trains the run again and compares the two records frame by frame; then simulates the run's record again
// and compares the files. What this proves and what it leaves out is in docs/verify.md.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "sim/cli/commands.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/load.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"
#include "sim/cli/record_comparison.h"
#include "sim/cli/recording.h"
#include "sim/cli/simulator.h"
#include "sim/cli/temporary_directory.h"
#include "sim/cli/trace_comparison.h"
#include "sim/cli/training_job.h"
#include "sim/record/reader.h"
#include "strait_version.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// What the record to be verified says of itself.
struct Outline {
  int64_t steps = 0;
  std::string data_hash;  // "" without a footer
  record::StepLog first_step;
};

Outline outline(const fs::path& run) try {
  record::RecordReader reader((run / "record" / "log.strait").string());
  Outline o;
  while (std::optional<record::Frame> frame = reader.next()) {
    if (auto* step = std::get_if<record::StepLog>(&*frame)) {
      o.steps = step->step;
      if (o.steps == 1) o.first_step = std::move(*step);
    } else if (const auto* footer = std::get_if<record::RecordFooter>(&*frame)) {
      o.data_hash = footer->data_hash;
    }
  }
  if (o.steps == 0)
    throw WrongInput{(run / "record" / "log.strait").string() + ": holds no step to verify"};
  return o;
} catch (const record::RecordError& e) {
  throw WrongInput{e.what()};
}

// Trains into `again` as `strait run` would, up to the step that the record reaches.
void train_again(const fs::path& run, const fs::path& again, const Outline& o,
                 const VerifyArguments& a) {
  const fs::path file = run / "scenario.json";
  const auto notice = [&](const std::string& line) {
    if (!a.quiet) fmt::print("{}\n", line);
  };
  scenario::Scenario s = load(file.string(), {});
  s.training.checkpoint_every = 0;
  const TrainingJob job = prepare_training(std::move(s), file.string(), notice);
  check_memory(job, file.string());
  if (!o.data_hash.empty() && o.data_hash != job.data_hash)
    throw std::runtime_error(
        fmt::format("{}: the data is not what the run trained on: its hash was {}, it is {} now",
                    file.string(), o.data_hash, job.data_hash));
  Progress progress(o.steps, a.quiet);
  int64_t done = 0;
  RecordingOptions options;
  options.on_step = [&](const record::StepLog& step) {
    done = step.step;
    progress.trained(step);
  };
  options.stop = [&] { return done >= o.steps || interrupted(); };
  options.notice = notice;
  train_into(again, job, options);
  progress.finish();
}

std::string mark(const std::string& difference) {
  return difference.empty() ? "equal" : "DIFFERENT";
}

void print_row(const std::string& what, const std::string& first, const std::string& second,
               const std::string& result) {
  fmt::print("{:<26} {:<18} {:<18} {}\n", what, first.empty() ? "-" : first,
             second.empty() ? "-" : second, result);
}

// The table, what was left out, and the first difference. Returns whether there is none.
bool print_result(const RecordComparison& record, const std::vector<ComparedFile>& files) {
  print_row("record", "run", "again", "");
  for (const ComparedPart& p : record.parts)
    print_row("  " + p.what, p.first, p.second, mark(p.difference));
  if (!files.empty()) print_row("files", "run", "simulated again", "");
  for (const ComparedFile& f : files)
    print_row("  " + f.name, f.first, f.second, mark(f.difference));
  fmt::print("not compared: measured durations, host times, versions{}\n",
             files.empty() ? "; there are no traces to compare" : "");
  const std::string producer = "strait " STRAIT_VERSION " (" STRAIT_GIT_COMMIT ")";
  if (record.producer != producer)
    fmt::print("the record was made by {}, this is {}\n", record.producer, producer);
  std::string first = record.first_difference();
  for (const ComparedFile& f : files)
    if (first.empty() && !f.difference.empty()) first = f.name + ", " + f.difference;
  if (!first.empty()) {
    fmt::print("first difference: {}\n", first);
    return false;
  }
  fmt::print(
      "{} steps, all equal{}\n", record.steps,
      record.complete ? "" : " (the run was stopped there: its final parameters are not known)");
  return true;
}

}  // namespace

int verify_command(const VerifyArguments& a) {
  const fs::path run = a.run;
  const Outline o = outline(run);
  const scenario::Scenario s = load((run / "scenario.json").string(), {});
  if (!a.quiet) {
    fmt::print("trains {} steps again, then simulates the record again", o.steps);
    if (s.network.model == sim::NetworkModel::packet)
      fmt::print(" (packet model: about {} of host time)",
                 duration_text(predict_packet_seconds(s, o.first_step)));
    fmt::print("\n");
  }
  const TemporaryDirectory temporary("verify");
  const fs::path again = temporary.path() / "again", traces = temporary.path() / "traces";
  fs::create_directories(again / "record");
  fs::create_directories(traces);
  note_interrupts();
  train_again(run, again, o, a);
  if (interrupted()) return kInterrupted;
  Simulator simulator({run, {}, traces, {}, false});
  const RecordComparison record = compare_records(run, again);
  while (simulator.running() && !interrupted())
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  if (interrupted()) simulator.stop();
  if (const int status = simulator.finish(); status != 0) {
    if (interrupted()) return kInterrupted;
    fmt::print(stderr, "strait: strait-sim ended with status {}\n", status);
    return status == kWrongInput ? kWrongInput : kFailed;
  }
  const std::vector<ComparedFile> files = compare_traces(run, traces);

  return print_result(record, files) ? kDone : kFailed;
}

}  // namespace strait::cli
