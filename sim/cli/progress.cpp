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

void say(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
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
  ++done_;
  if (!std::isnan(step.loss)) tokens_ += step.tokens;
  loss_ = step.loss;
  show(false);
}

void Progress::simulated(const nlohmann::ordered_json& line) {
  std::lock_guard lock(mutex_);
  simulated_ = line.value("step", int64_t{0});
  virtual_ = line.value("time_s", 0.0);
  if (trained_ == 0 && line.contains("loss") && line["loss"].is_number())  // null on meta
    loss_ = line["loss"].get<double>();
  show(false);
}

std::string Progress::line() const {
  const double host = std::chrono::duration<double>(Clock::now() - start_).count();
  const int64_t at = trained_ > 0 ? trained_ : simulated_;
  const int64_t done = trained_ > 0 ? done_ : simulated_;
  std::string text = fmt::format("step {}/{}", at, steps_);
  if (!std::isnan(loss_)) text += fmt::format(" | loss {:.4f}", loss_);
  if (simulated_ > 0)
    text += fmt::format(" | virtual {} (step {})", duration_text(virtual_), simulated_);
  if (host <= 0 || done == 0) return text;
  text += tokens_ > 0 ? fmt::format(" | {:.0f} tokens/s here", static_cast<double>(tokens_) / host)
                      : fmt::format(" | {:.3g} steps/s here", static_cast<double>(done) / host);
  return text + fmt::format(" | {} left", duration_text(host / static_cast<double>(done) *
                                                        static_cast<double>(steps_ - at)));
}

void Progress::show(bool force) {
  if (quiet_) return;
  const auto now = Clock::now();
  if (!force && now - last_shown_ <
                    (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000)))
    return;
  last_shown_ = now;
  open_ = terminal_;
  say(terminal_ ? "\r\033[K" + line() : line() + "\n");
}

void Progress::finish() {
  std::lock_guard lock(mutex_);
  if (trained_ > 0 || simulated_ > 0) show(true);
  if (open_) say("\n");
  open_ = false;
}

}  // namespace strait::cli
