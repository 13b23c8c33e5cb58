// The learning rate of every step: linear warm-up to a peak, then constant, a line, or half a
// cosine (Loshchilov & Hutter 2017, SGDR, without restarts) down to a fraction of the peak.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strait {

// With t = step, w = warmup_steps, n = total_steps, f = final_fraction and
// p = min(1, (t - w) / (n - w)):
//
//   t <= w      peak * t / w
//   constant    peak                       (total_steps and final_fraction are not used)
//   linear      peak * (f + (1 - f) (1 - p))
//   cosine      peak * (f + (1 - f) (1 + cos(pi p)) / 2)
//
// Step 1 already moves, by peak / w; step w has the peak. Step n has peak * f, as have all steps
// after it; if n <= w, that holds from step w + 1 on.
struct LearningRateSchedule {
  enum class Kind { constant, linear, cosine };

  Kind kind = Kind::cosine;
  double peak = 0;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;
  double final_fraction = 0;

  // The rate of `step` (>= 1).
  double at(int64_t step) const;
};

// By name: "constant", "linear", "cosine". Throws std::invalid_argument that lists the names.
LearningRateSchedule::Kind learning_rate_kind(std::string_view name);
std::vector<std::string> learning_rate_names();

}  // namespace strait
