// The Slurm launcher: writes two sbatch scripts, submits them, watches the queue, collects what
// appears. The jobs' names belong to the sweep directory, so a later session finds those that go on.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <thread>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/sweep_launcher.h"
#include "sim/cli/sweep_progress.h"
#include "sim/sweep/slurm_script.h"
#include "sim/trace/output_file.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kShortPause = std::chrono::seconds(1);  // between looks at the queue, at first
constexpr auto kLongPause = std::chrono::seconds(10);  // after kEarly
constexpr auto kEarly = std::chrono::minutes(2);
constexpr auto kFileDelay = std::chrono::seconds(5);       // until a node's files are seen here
constexpr auto kQueuePatience = std::chrono::minutes(10);  // for a controller that does not answer

std::string find_program(const std::string& name) {
  if (const std::string path = program_on_path(name); !path.empty()) return path;
  throw WrongInput{fmt::format(
      "--launcher slurm: found no {} in PATH; allowed: --launcher local, or a machine from which "
      "Slurm jobs are submitted",
      name)};
}

struct Answer {
  int status = 0;
  std::vector<std::string> lines;
};

Answer ask(const std::vector<std::string>& command, const std::string& errors = "") {
  Answer answer;
  ChildProcess child(
      command, [&](const std::string& line) { answer.lines.push_back(line); }, errors);
  answer.status = child.wait();
  return answer;
}

class SlurmLauncher {
 public:
  explicit SlurmLauncher(SweepState& state)
      : state_(state),
        directory_{fs::absolute(state.directory.root).lexically_normal()},
        sbatch_(find_program("sbatch")),
        squeue_(find_program("squeue")),
        pending_(state.points),
        trainings_(state.trainings.begin(), state.trainings.end()),
        progress_(state.plan, state.trainings, state.points, std::max(1, state.jobs), state.quiet) {
    fs::create_directories(directory_.root / "slurm");
  }

  bool run() {
    if (!queued().empty()) {
      say(fmt::format("jobs of an earlier session go on: {}", fmt::join(queued(), ", ")));
      if (!watch()) return false;
    }
    if (pending_.empty()) return true;
    submit();
    if (!watch()) return false;
    give_up_on_the_rest();
    return true;
  }

 private:
  void say(const std::string& line) {
    progress_.clear();
    if (!state_.quiet) fmt::print("{}\n", line);
  }

  // Job ids of this sweep that wait or run.
  std::vector<std::string> queued() {
    const std::string names = sweep::trainings_job_name(directory_, state_.plan) + "," +
                              sweep::replays_job_name(directory_, state_.plan);
    const auto end = Clock::now() + kQueuePatience;
    for (;;) {
      const std::string errors = (directory_.root / "slurm" / "squeue.errors").string();
      Answer answer =
          ask({squeue_, "--noheader", "--me", "--name=" + names, "--format=%A"}, errors);
      sweep::remove_if_empty(errors);
      if (answer.status == 0) {
        std::sort(answer.lines.begin(), answer.lines.end());
        answer.lines.erase(std::unique(answer.lines.begin(), answer.lines.end()),
                           answer.lines.end());
        return answer.lines;
      }
      if (Clock::now() > end || interrupted())
        throw std::runtime_error(
            fmt::format("squeue fails: {}; the jobs go on, and the same command will find them",
                        sweep::error_text(directory_, errors)));
      std::this_thread::sleep_for(kShortPause);
    }
  }

  std::string submit_script(const std::string& name, const std::string& text,
                            const std::string& dependency) {
    const fs::path file = directory_.root / "slurm" / (name + ".sh");
    sim::write_whole_file(file.string(), text);
    std::vector<std::string> command = {sbatch_, "--parsable"};
    if (!dependency.empty()) command.push_back("--dependency=afterany:" + dependency);
    command.push_back(file.string());
    const Answer answer = ask(command);  // its standard error is ours
    if (answer.status != 0 || answer.lines.empty())
      throw std::runtime_error(fmt::format("sbatch did not take {}", file.string()));
    const std::string id = answer.lines.back().substr(0, answer.lines.back().find(';'));
    say(fmt::format("submitted         {} as job {}", file.string(), id));
    return id;
  }

  void submit() {
    sweep::SlurmOptions options{state_.programs, fs::current_path().string(), state_.jobs};
    std::string dependency;
    std::vector<size_t> trainings;
    for (const size_t t : state_.trainings)
      if (!state_.has_record(t)) trainings.push_back(t);
    for (const size_t p : pending_)
      sweep::prepare_point(directory_, state_.plan, state_.plan.points[p]);
    if (!trainings.empty()) {
      for (const size_t t : trainings) {
        const sweep::PlannedTraining& training = state_.plan.trainings[t];
        sweep::prepare_training(directory_, training,
                                std::max(1, training.scenario.devices.host_threads));
      }
      dependency = submit_script(
          "trainings", sweep::trainings_script(directory_, state_.plan, trainings, options), "");
    }
    submit_script("replays", sweep::replays_script(directory_, state_.plan, pending_, options),
                  dependency);
  }

  // Takes the points that are finished now.
  void collect() {
    std::vector<size_t> rest;
    for (const size_t p : pending_) {
      const sweep::PlannedPoint& point = state_.plan.points[p];
      auto summary = sweep::finished_summary(directory_.run(point), point);
      if (summary.is_null()) {
        rest.push_back(p);
        continue;
      }
      sweep::remove_if_empty(directory_.run_errors(point));
      state_.table.set(p, {std::move(summary), ""});
      const sweep::PlannedTraining& training = state_.plan.trainings[point.training];
      if (trainings_.erase(point.training) > 0)
        progress_.finished({training.key, true, training.seconds, 1, 0}, "");
      progress_.finished({point.name, false, point.seconds, 1, 0}, "");
    }
    if (rest.size() != pending_.size()) state_.table.write();
    pending_ = std::move(rest);
  }

  // Until no job of ours is in the queue. False if interrupted.
  bool watch() {
    const auto start = Clock::now();
    while (!interrupted()) {
      const std::vector<std::string> jobs = queued();
      collect();
      if (jobs.empty()) return true;
      progress_.show({});
      const auto next = Clock::now() + (Clock::now() - start < kEarly ? kShortPause : kLongPause);
      while (Clock::now() < next && !interrupted())
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    say(fmt::format("the jobs go on ({}): the same command watches them again, scancel ends them",
                    fmt::join(queued(), ", ")));
    return false;
  }

  // The queue is empty: what is not there now has failed.
  void give_up_on_the_rest() {
    const auto end = Clock::now() + kFileDelay;
    while (!pending_.empty() && Clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(250));
      collect();
    }
    for (const size_t p : pending_) {
      const sweep::PlannedPoint& point = state_.plan.points[p];
      sweep::Outcome outcome;
      if (!state_.has_record(point.training)) {
        outcome.error =
            "training " + training_error(state_, point.training, "ended without a whole record");
      } else {
        outcome = sweep::outcome_of(directory_, point, "ended without a summary");
      }
      progress_.finished({point.name, false, 0, 0, 0}, outcome.error);
      state_.table.set(p, std::move(outcome));
    }
    state_.table.write();
  }

  SweepState& state_;
  sweep::SweepDirectory directory_;  // absolute: the nodes' working directories differ
  std::string sbatch_, squeue_;
  std::vector<size_t> pending_;  // points
  std::set<size_t> trainings_;   // of which no point is there yet
  SweepProgress progress_;
};

}  // namespace

bool run_on_slurm(SweepState& state) { return SlurmLauncher(state).run(); }

}  // namespace strait::cli
