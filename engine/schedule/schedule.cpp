// The generators and the small queries of schedule.h: GPipe (Huang et al. 2019) and 1F1B
// (PipeDream-Flush, Narayanan et al. 2021, section 2.2). docs/schedules.md draws them.
#include "engine/schedule/schedule.h"

#include <algorithm>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace strait {
namespace {

Schedule empty_schedule(std::string_view name, int stages, int microbatches) {
  if (stages < 1 || microbatches < 1) {
    throw std::invalid_argument(fmt::format(
        "schedule {}: {} stages and {} microbatches; there must be at least one of each", name,
        stages, microbatches));
  }
  Schedule schedule{std::string(name), stages, microbatches, {}};
  schedule.ranks.resize(static_cast<size_t>(stages));
  for (auto& actions : schedule.ranks) actions.reserve(2 * static_cast<size_t>(microbatches));
  return schedule;
}

}  // namespace

Schedule make_gpipe(int stages, int microbatches) {
  Schedule schedule = empty_schedule("gpipe", stages, microbatches);
  for (int s = 0; s < stages; ++s) {
    auto& actions = schedule.ranks[static_cast<size_t>(s)];
    for (int m = 0; m < microbatches; ++m) actions.push_back({s, Computation::forward, m});
    for (int m = 0; m < microbatches; ++m) actions.push_back({s, Computation::backward, m});
  }
  return schedule;
}

Schedule make_1f1b(int stages, int microbatches) {
  Schedule schedule = empty_schedule("1f1b", stages, microbatches);
  for (int s = 0; s < stages; ++s) {
    auto& actions = schedule.ranks[static_cast<size_t>(s)];
    const int warmup = std::min(stages - s - 1, microbatches);
    for (int m = 0; m < warmup; ++m) actions.push_back({s, Computation::forward, m});
    for (int m = warmup; m < microbatches; ++m) {
      actions.push_back({s, Computation::forward, m});
      actions.push_back({s, Computation::backward, m - warmup});
    }
    for (int m = microbatches - warmup; m < microbatches; ++m) {
      actions.push_back({s, Computation::backward, m});
    }
  }
  return schedule;
}

std::vector<std::string> schedule_names() { return {"gpipe", "1f1b"}; }

Schedule make_schedule(std::string_view name, int stages, int microbatches) {
  if (name == "gpipe") return make_gpipe(stages, microbatches);
  if (name == "1f1b") return make_1f1b(stages, microbatches);
  throw std::invalid_argument(
      fmt::format("unknown schedule '{}'; allowed: {}", name, fmt::join(schedule_names(), ", ")));
}

int frames_needed(const Schedule& schedule, int rank) {
  int held = 0;
  int most = 0;
  for (const ScheduleAction& action : schedule.ranks.at(static_cast<size_t>(rank))) {
    held += action.computation == Computation::forward ? 1 : -1;
    most = std::max(most, held);
  }
  return most;
}

}  // namespace strait
