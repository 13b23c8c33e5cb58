// A pipeline schedule is data: per rank, the list of its actions in order. Printable as a grid, readable and writable in the
// notation of torch.distributed.pipelining ("0F0" = stage 0, forward, microbatch 0; "1B2" = stage 1, backward, microbatch 2;
// one line a rank, comma-separated), and checked before it runs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace strait {

enum class Computation : char { forward = 'F', backward = 'B' };

struct ScheduleAction {
  int stage = 0;
  Computation computation = Computation::forward;
  int microbatch = 0;
  bool operator==(const ScheduleAction&) const = default;
};

struct Schedule {
  std::string name;
  int stages = 0;
  int microbatches = 0;
  std::vector<std::vector<ScheduleAction>> ranks;  // rank s runs stage s
  bool operator==(const Schedule&) const = default;
};

// GPipe (Huang et al. 2019): all forwards, then all backwards, each in microbatch order.
Schedule make_gpipe(int stages, int microbatches);
// 1F1B (PipeDream-Flush, Narayanan et al. 2021): rank s runs min(P - s - 1, M) forwards to warm up, then one forward and one
// backward in turn, then the remaining backwards; at most P - s microbatches are in flight.
Schedule make_1f1b(int stages, int microbatches);
// By name: "gpipe", "1f1b". Throws std::invalid_argument that lists the names.
Schedule make_schedule(std::string_view name, int stages, int microbatches);
std::vector<std::string> schedule_names();

// Throws std::invalid_argument with a grid that marks the offending action ("<-- ERROR HERE"): every stage does every
// forward and backward exactly once, a backward after its forward, and the whole can be executed without deadlock when
// receives block and sends do not.
void validate(const Schedule& schedule);

// The largest number of microbatches of which `rank` holds saved activations at once.
int frames_needed(const Schedule& schedule, int rank);

std::string to_text(const Schedule& schedule);
Schedule from_text(std::string_view text);  // throws std::invalid_argument with line and token
// Time runs to the right, one row a rank, unit time for each action, "." where a rank waits.
std::string to_grid(const Schedule& schedule);

}  // namespace strait
