#include "sim/cli/sweep_progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "sim/cli/progress.h"

namespace strait::cli {

SweepProgress::SweepProgress(const sweep::Plan& plan, const std::vector<size_t>& trainings,
                             const std::vector<size_t>& points, int jobs, bool quiet)
    : jobs_(jobs), quiet_(quiet), terminal_(isatty(STDOUT_FILENO) == 1), last_shown_(Clock::now()) {
  trainings_.total = trainings.size();
  for (const size_t t : trainings) trainings_.estimated_total += plan.trainings[t].seconds;
  replays_.total = points.size();
  for (const size_t p : points) replays_.estimated_total += plan.points[p].seconds;
}

void SweepProgress::finished(const Running& job, const std::string& error) {
  Account& a = account(job);
  ++a.done;
  if (job.seconds > 0) {
    a.estimated_done += job.estimate;
    a.spent += job.seconds;
  } else {
    a.estimated_total -= job.estimate;
  }
  if (!error.empty()) {
    clear();
    fmt::print(stderr, "strait: {} {}: {}\n", job.training ? "training" : "point", job.name, error);
  } else if (!quiet_ && !terminal_) {
    say(fmt::format("{} {}/{}  {}{}\n", job.training ? "training" : "point", a.done, a.total,
                    job.name, job.seconds > 0 ? "  " + duration_text(job.seconds) : ""));
  }
}

double SweepProgress::seconds_left(const std::vector<Running>& running) const {
  double left = 0, longest = 0;
  for (const bool training : {true, false}) {
    const Account& a = training ? trainings_ : replays_;
    double covered = a.estimated_done, spent = a.spent;
    for (const Running& job : running)
      if (job.training == training) {
        covered += job.share * job.estimate;
        spent += job.seconds;
      }
    const double correction = covered > 0 ? spent / covered : 1;
    left += std::max(0.0, a.estimated_total - covered) * correction;
    for (const Running& job : running)
      if (job.training == training)
        longest = std::max(longest, (1 - job.share) * job.estimate * correction);
  }
  return std::max(longest, left / jobs_);
}

std::string SweepProgress::line(const std::vector<Running>& running) const {
  std::string text = fmt::format("trainings {}/{} | points {}/{}", trainings_.done,
                                 trainings_.total, replays_.done, replays_.total);
  constexpr size_t shown = 3;
  for (size_t i = 0; i < std::min(shown, running.size()); ++i)
    text += fmt::format("{}{} {:.0f} %", i == 0 ? " | " : ", ", running[i].name,
                        100 * running[i].share);
  if (running.size() > shown) text += fmt::format(" and {} more", running.size() - shown);
  // Of a GPU there is no estimate.
  if (trainings_.done < trainings_.total && trainings_.estimated_total <= 0) return text;
  return text + fmt::format(" | {} left", duration_text(seconds_left(running)));
}

void SweepProgress::show(const std::vector<Running>& running) {
  if (quiet_) return;
  const auto now = Clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10000);
  if (now - last_shown_ < pause) return;
  last_shown_ = now;
  say((terminal_ ? "\r\033[K" : "") + line(running) + (terminal_ ? "" : "\n"));
  open_ = terminal_;
}

void SweepProgress::clear() {
  if (open_) say("\r\033[K");
  open_ = false;
}

}  // namespace strait::cli
