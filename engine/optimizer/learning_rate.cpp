// The formulas of learning_rate.h, term by term.
#include "engine/optimizer/learning_rate.h"

#include <cmath>
#include <numbers>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "kernels/check.h"

namespace strait {

double LearningRateSchedule::at(int64_t step) const {
  STRAIT_CHECK(step >= 1, "steps count from 1");
  const auto t = static_cast<double>(step);
  const auto w = static_cast<double>(warmup_steps);
  const auto n = static_cast<double>(total_steps);
  if (step <= warmup_steps) return peak * (t / w);
  if (kind == Kind::constant) return peak;
  const double p = step >= total_steps ? 1.0 : (t - w) / (n - w);
  const double falling =
      kind == Kind::linear ? 1.0 - p : 0.5 * (1.0 + std::cos(std::numbers::pi * p));
  return peak * (final_fraction + (1.0 - final_fraction) * falling);
}

LearningRateSchedule::Kind learning_rate_kind(std::string_view name) {
  if (name == "constant") return LearningRateSchedule::Kind::constant;
  if (name == "linear") return LearningRateSchedule::Kind::linear;
  if (name == "cosine") return LearningRateSchedule::Kind::cosine;
  throw std::invalid_argument(fmt::format("unknown learning-rate schedule '{}'; allowed: {}", name,
                                          fmt::join(learning_rate_names(), ", ")));
}

std::vector<std::string> learning_rate_names() { return {"constant", "linear", "cosine"}; }

}  // namespace strait
