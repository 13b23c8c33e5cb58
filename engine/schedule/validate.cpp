// Checks a schedule before it runs, and lays it out in unit time. Both execute the schedule the way
// the ranks do: each rank takes its actions in order, an action starts when its inputs are there
// (forward: that of the stage before; backward: that of the stage after), and sends never block.
#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/schedule/schedule.h"
#include "engine/schedule/text.h"

namespace strait {
namespace {

// The action of another rank whose message `action` needs; none for the first forward and the last
// backward.
std::optional<ScheduleAction> input_of(const ScheduleAction& action, int stages) {
  const int source = action.stage + (action.computation == Computation::forward ? -1 : 1);
  if (source < 0 || source >= stages) return std::nullopt;
  return ScheduleAction{source, action.computation, action.microbatch};
}

// When each action ended in unit time; kNever before that.
class Progress {
 public:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  explicit Progress(const Schedule& schedule)
      : microbatches_(static_cast<size_t>(schedule.microbatches)),
        stages_(schedule.stages),
        ended_(2 * microbatches_ * static_cast<size_t>(stages_), kNever) {}

  int64_t& ended(const ScheduleAction& action) {
    const size_t direction = action.computation == Computation::backward ? 1 : 0;
    return ended_[(2 * static_cast<size_t>(action.stage) + direction) * microbatches_ +
                  static_cast<size_t>(action.microbatch)];
  }
  bool ready(const ScheduleAction& action, int64_t now) {
    const auto input = input_of(action, stages_);
    return !input || ended(*input) <= now;
  }

 private:
  size_t microbatches_;
  int stages_;
  std::vector<int64_t> ended_;
};

// Row r of the result: what rank r does in each unit of time, nullopt where it waits. Stops early
// when nobody can go on; `next` then holds each rank's next action.
std::vector<std::vector<std::optional<ScheduleAction>>> execute(const Schedule& schedule,
                                                                std::vector<size_t>& next) {
  Progress progress(schedule);
  std::vector<std::vector<std::optional<ScheduleAction>>> rows(schedule.ranks.size());
  next.assign(schedule.ranks.size(), 0);
  for (int64_t now = 0;; ++now) {
    std::vector<std::optional<ScheduleAction>> column(schedule.ranks.size());
    bool moved = false;
    for (size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
      const auto& actions = schedule.ranks[rank];
      if (next[rank] == actions.size() || !progress.ready(actions[next[rank]], now)) continue;
      column[rank] = actions[next[rank]++];
      progress.ended(*column[rank]) = now + 1;
      moved = true;
    }
    if (!moved) return rows;
    for (size_t rank = 0; rank < rows.size(); ++rank) rows[rank].push_back(column[rank]);
  }
}

// The action lists, one row a rank, with the offending action in brackets; index = length marks the
// end of the row.
std::string marked_rows(const Schedule& schedule, size_t bad_rank, size_t bad_index) {
  std::string text;
  for (size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    text += fmt::format("\nrank {} |", rank);
    const auto& actions = schedule.ranks[rank];
    for (size_t i = 0; i < actions.size(); ++i) {
      const bool bad = rank == bad_rank && i == bad_index;
      text += bad ? fmt::format(" [{}]", to_string(actions[i]))
                  : fmt::format(" {}", to_string(actions[i]));
    }
    if (rank != bad_rank) continue;
    if (bad_index == actions.size()) text += " []";
    text += "  <-- ERROR HERE";
  }
  return text;
}

[[noreturn]] void fail(const Schedule& schedule, size_t rank, size_t index,
                       const std::string& what) {
  throw std::invalid_argument(fmt::format("schedule '{}', rank {}: {}{}", schedule.name, rank, what,
                                          marked_rows(schedule, rank, index)));
}

// Every forward and backward of the rank's stage exactly once, each backward behind its forward.
void check_rank(const Schedule& schedule, size_t rank) {
  const auto& actions = schedule.ranks[rank];
  const int stage = static_cast<int>(rank);
  // No longer than the list, so that an absurd microbatch number costs no memory.
  std::vector<bool> forward(std::min(actions.size(), static_cast<size_t>(schedule.microbatches)));
  std::vector<bool> backward = forward;
  for (size_t i = 0; i < actions.size(); ++i) {
    const ScheduleAction& action = actions[i];
    const std::string name = to_string(action);
    if (action.stage != stage) {
      fail(schedule, rank, i,
           fmt::format("{} belongs to stage {}; rank {} runs stage {}", name, action.stage, rank,
                       stage));
    }
    if (action.microbatch < 0 || action.microbatch >= schedule.microbatches) {
      fail(schedule, rank, i,
           fmt::format("{} is outside of microbatches 0 to {}", name, schedule.microbatches - 1));
    }
    const auto m = static_cast<size_t>(action.microbatch);
    if (m >= forward.size()) continue;  // then others are missing, which is reported below
    auto& seen = action.computation == Computation::forward ? forward : backward;
    if (seen[m]) fail(schedule, rank, i, fmt::format("{} is there twice", name));
    if (action.computation == Computation::backward && !forward[m]) {
      fail(schedule, rank, i, fmt::format("{} comes before its forward", name));
    }
    seen[m] = true;
  }
  for (int m = 0; m < schedule.microbatches; ++m) {
    const auto i = static_cast<size_t>(m);
    if (i < forward.size() && forward[i] && backward[i]) continue;
    const bool has_forward = i < forward.size() && forward[i];
    const ScheduleAction missing{stage, has_forward ? Computation::backward : Computation::forward,
                                 m};
    fail(schedule, rank, actions.size(), fmt::format("{} is missing", to_string(missing)));
  }
}

[[noreturn]] void fail_deadlock(const Schedule& schedule, const std::vector<size_t>& next) {
  std::vector<std::string> waits;
  size_t first = schedule.ranks.size();
  for (size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    if (next[rank] == schedule.ranks[rank].size()) continue;
    first = std::min(first, rank);
    const ScheduleAction& action = schedule.ranks[rank][next[rank]];
    waits.push_back(fmt::format("rank {} at {} waits for {}", rank, to_string(action),
                                to_string(*input_of(action, schedule.stages))));
  }
  fail(schedule, first, next[first], fmt::format("deadlock: {}", fmt::join(waits, ", ")));
}

}  // namespace

void validate(const Schedule& schedule) {
  if (schedule.stages < 1 || schedule.microbatches < 1 ||
      schedule.ranks.size() != static_cast<size_t>(schedule.stages)) {
    throw std::invalid_argument(fmt::format(
        "schedule '{}': {} stages, {} microbatches, {} ranks; there must be at least one of each "
        "and one rank a stage",
        schedule.name, schedule.stages, schedule.microbatches, schedule.ranks.size()));
  }
  for (size_t rank = 0; rank < schedule.ranks.size(); ++rank) check_rank(schedule, rank);
  std::vector<size_t> next;
  execute(schedule, next);
  for (size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    if (next[rank] != schedule.ranks[rank].size()) fail_deadlock(schedule, next);
  }
}

std::string to_grid(const Schedule& schedule) {
  validate(schedule);
  std::vector<size_t> next;
  const auto rows = execute(schedule, next);
  size_t width = 1;
  for (const auto& actions : schedule.ranks) {
    for (const ScheduleAction& action : actions) {
      width = std::max(width, to_string(action).size());
    }
  }
  const size_t label = std::to_string(schedule.ranks.size() - 1).size();
  std::string text;
  for (size_t rank = 0; rank < rows.size(); ++rank) {
    std::string row = fmt::format("rank {:>{}} |", rank, label);
    for (const auto& slot : rows[rank]) {
      row += fmt::format(" {:<{}}", slot ? to_string(*slot) : ".", width);
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

}  // namespace strait
