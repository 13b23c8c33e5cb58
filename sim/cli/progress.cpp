#include "sim/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace strait::cli {

std::string duration_text(double s) {
  if (s < 1) return fmt::format("{:.3g} ms", s * 1e3);
  if (s < 60) return fmt::format("{:.1f} s", s);
  const auto total = static_cast<int64_t>(s + 0.5);
  if (total < 3600) return fmt::format("{} min {:02} s", total / 60, total % 60);
  if (total < 100 * 3600) return fmt::format("{} h {:02} min", total / 3600, total % 3600 / 60);
  return fmt::format("{:.1f} days", s / 86400);
}

std::string bytes_text(double bytes) {
  const char* units[] = {"B", "kB", "MB", "GB", "TB"};
  int u = 0;
  for (; bytes >= 1000 && u < 4; ++u) bytes /= 1000;
  return u == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.3g} {}", bytes, units[u]);
}

Progress::Progress(int64_t steps, bool quiet)
    : steps_(steps),
      quiet_(quiet),
      terminal_(isatty(STDOUT_FILENO) == 1),
      start_(Clock::now()),
      last_shown_(start_) {}

void Progress::trained(const record::StepLog& step) {
  std::lock_guard lock(mutex_);
  trained_ = step.step;
  tokens_ += step.tokens;
  loss_ = step.loss;
  show(false);
}

void Progress::simulated(int64_t step, double virtual_seconds) {
  std::lock_guard lock(mutex_);
  simulated_ = step;
  virtual_ = virtual_seconds;
  show(false);
}

void Progress::replayed(int64_t step, uint64_t tokens, double loss, double virtual_seconds) {
  std::lock_guard lock(mutex_);
  trained_ = simulated_ = step;
  tokens_ = tokens;
  loss_ = loss;
  virtual_ = virtual_seconds;
  show(false);
}

std::string Progress::line() const {
  const double host = std::chrono::duration<double>(Clock::now() - start_).count();
  std::string text = fmt::format("step {}/{}", trained_, steps_);
  if (!std::isnan(loss_)) text += fmt::format(" | loss {:.4f}", loss_);
  if (simulated_ > 0)
    text += fmt::format(" | virtual {} (step {})", duration_text(virtual_), simulated_);
  if (host > 0) text += fmt::format(" | {:.0f} tokens/s here", static_cast<double>(tokens_) / host);
  if (trained_ > 0)
    text += fmt::format(" | {} left", duration_text(host / static_cast<double>(trained_) *
                                                    static_cast<double>(steps_ - trained_)));
  return text;
}

void Progress::show(bool force) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (!force && now - last_shown_ <
                    (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000)))
    return;
  last_shown_ = now;
  if (terminal_) {
    fmt::print("\r\033[K{}", line());
    open_ = true;
  } else {
    fmt::print("{}\n", line());
  }
  std::fflush(stdout);
}

void Progress::finish() {
  std::lock_guard lock(mutex_);
  show(true);
  if (open_) fmt::print("\n");
  open_ = false;
}

}  // namespace strait::cli
