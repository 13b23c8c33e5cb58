// The local launcher: up to N processes at once, replays before trainings, so that rows appear
// early. Children end when this process does, however it does.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <thread>

#include "sim/cli/child_process.h"
#include "sim/cli/interrupt.h"
#include "sim/cli/sweep_launcher.h"
#include "sim/cli/sweep_progress.h"

namespace strait::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds(5);
constexpr auto kBetweenTables = std::chrono::seconds(1);

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The step that a line of progress speaks of: strait-sim's {"step":12,...}, strait's "step 12/200".
int64_t step_of(const std::string& line) {
  long step = 0;
  if (std::sscanf(line.c_str(), "{\"step\":%ld", &step) == 1 ||
      std::sscanf(line.c_str(), "step %ld/", &step) == 1)
    return step;
  return 0;
}

struct Job {
  bool training = false;
  size_t index = 0;
  int64_t steps = 1;
  double estimate = 0;
  std::string name;
  Clock::time_point start = Clock::now();
  std::atomic<int64_t> step{0};
  std::unique_ptr<ChildProcess> child;  // last: its thread uses the rest
};

class LocalLauncher {
 public:
  explicit LocalLauncher(SweepState& state)
      : state_(state),
        jobs_(state.jobs > 0 ? state.jobs : default_jobs()),
        trainings_(state.trainings.begin(), state.trainings.end()),
        waiting_(state.plan.trainings.size()),
        progress_(state.plan, state.trainings, state.points, jobs_, state.quiet) {
    // With fewer trainings than processes, each may use several threads.
    const auto at_once = std::min<size_t>(jobs_, std::max<size_t>(1, trainings_.size()));
    threads_ = std::max(1, jobs_ / static_cast<int>(at_once));
    for (const size_t p : state.points) {
      const size_t t = state.plan.points[p].training;
      const bool ready = std::find(trainings_.begin(), trainings_.end(), t) == trainings_.end();
      (ready ? replays_ : waiting_[t]).push_back(p);
    }
  }
  // Also where the table cannot be written: nobody works on when this one has given up.
  ~LocalLauncher() { stop(); }
  LocalLauncher(const LocalLauncher&) = delete;
  LocalLauncher& operator=(const LocalLauncher&) = delete;

  bool run() {
    while (!interrupted()) {
      start_jobs();
      if (running_.empty()) break;
      collect();
      write_table(false);
      progress_.show(view());
      std::this_thread::sleep_for(kPoll);
    }
    stop();
    progress_.clear();
    write_table(true);
    return !interrupted();
  }

 private:
  void stop() {
    for (const auto& job : running_) job->child->terminate();
    running_.clear();  // waits for them
  }

  void start_jobs() {
    while (running_.size() < static_cast<size_t>(jobs_)) {
      if (!replays_.empty()) {
        start_replay(take(replays_));
      } else if (!trainings_.empty()) {
        start_training(take(trainings_));
      } else {
        return;
      }
    }
  }

  static size_t take(std::deque<size_t>& queue) {
    const size_t first = queue.front();
    queue.pop_front();
    return first;
  }

  void start_training(size_t t) {
    const sweep::PlannedTraining& training = state_.plan.trainings[t];
    sweep::prepare_training(state_.directory, training, threads_);
    auto job = std::make_unique<Job>();
    job->training = true;
    job->index = t;
    job->steps = training.scenario.training.steps;
    job->estimate = training.seconds;
    job->name = training.key;
    launch(std::move(job), sweep::training_command(state_.programs, state_.directory, training),
           state_.directory.training_errors(training));
  }

  void start_replay(size_t p) {
    const sweep::PlannedPoint& point = state_.plan.points[p];
    sweep::prepare_point(state_.directory, state_.plan, point);
    auto job = std::make_unique<Job>();
    job->index = p;
    job->steps = point.scenario.training.steps;
    job->estimate = point.seconds;
    job->name = point.name;
    launch(std::move(job),
           sweep::replay_command(state_.programs, state_.directory, state_.plan, point),
           state_.directory.run_errors(point));
  }

  void launch(std::unique_ptr<Job> job, const std::vector<std::string>& command,
              const std::filesystem::path& errors) {
    Job* const j = job.get();
    const auto on_line = [j](const std::string& line) {
      if (const int64_t step = step_of(line); step > 0) j->step = step;
    };
    j->child = std::make_unique<ChildProcess>(command, on_line, errors.string());
    j->child->close_input();
    running_.push_back(std::move(job));
  }

  void collect() {
    for (size_t i = 0; i < running_.size();) {
      if (running_[i]->child->running()) {
        ++i;
        continue;
      }
      const std::unique_ptr<Job> job = std::move(running_[i]);
      running_.erase(running_.begin() + static_cast<std::ptrdiff_t>(i));
      const int status = job->child->wait();
      if (job->training)
        end_training(*job, status);
      else
        end_replay(*job, status);
    }
  }

  void end_training(const Job& job, int status) {
    std::string error;
    if (status != 0) {
      error = training_error(state_, job.index, sweep::status_text(status));
      for (const size_t p : waiting_[job.index])
        state_.table.set(p, {nullptr, "training " + error});
      table_is_old_ = true;
    } else {
      replays_.insert(replays_.end(), waiting_[job.index].begin(), waiting_[job.index].end());
    }
    waiting_[job.index].clear();
    progress_.finished(view_of(job), error);
  }

  void end_replay(const Job& job, int status) {
    sweep::Outcome outcome = sweep::outcome_of(state_.directory, state_.plan.points[job.index],
                                               sweep::status_text(status));
    progress_.finished(view_of(job), outcome.error);
    state_.table.set(job.index, std::move(outcome));
    table_is_old_ = true;
  }

  void write_table(bool now) {
    if (!now && (!table_is_old_ || Clock::now() - table_written_ < kBetweenTables)) return;
    state_.table.write();
    table_is_old_ = false;
    table_written_ = Clock::now();
  }

  static SweepProgress::Running view_of(const Job& job) {
    const double share = static_cast<double>(job.step) / static_cast<double>(job.steps);
    return {job.name, job.training, job.estimate, std::min(1.0, share), since(job.start)};
  }

  std::vector<SweepProgress::Running> view() const {
    std::vector<SweepProgress::Running> all;
    for (const auto& job : running_) all.push_back(view_of(*job));
    return all;
  }

  SweepState& state_;
  int jobs_, threads_ = 1;
  std::deque<size_t> trainings_, replays_;
  std::vector<std::deque<size_t>> waiting_;  // points, by the training that they wait for
  std::vector<std::unique_ptr<Job>> running_;
  SweepProgress progress_;
  bool table_is_old_ = false;
  Clock::time_point table_written_ = Clock::now();
};

}  // namespace

int default_jobs() { return std::max(1, static_cast<int>(std::thread::hardware_concurrency())); }

std::string training_error(const SweepState& state, size_t training, const std::string& status) {
  const sweep::PlannedTraining& t = state.plan.trainings[training];
  const std::string error = sweep::error_text(state.directory, state.directory.training_errors(t));
  return t.key + ": " + (error.empty() ? status : error);
}

bool run_locally(SweepState& state) { return LocalLauncher(state).run(); }

}  // namespace strait::cli
