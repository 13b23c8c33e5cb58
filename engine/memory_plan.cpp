#include "engine/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/trainer.h"

namespace strait {
namespace {

std::string gib(uint64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (uint64_t{1} << 30));
}

}  // namespace

uint64_t memory_needed(const std::vector<RankPlan>& ranks) {
  uint64_t bytes = 0;
  for (const RankPlan& r : ranks)
    bytes += r.persistent_bytes + static_cast<uint64_t>(r.frames) * r.frame_bytes +
             r.scratch_bytes + r.message_bytes;
  return bytes;
}

std::string memory_problem(const TrainingConfig& config, const std::vector<RankPlan>& ranks,
                           uint64_t available) {
  const uint64_t needed = memory_needed(ranks);
  if (needed <= available) return "";
  const std::string problem =
      fmt::format("the training needs {} of memory for its {} ranks, {} are free", gib(needed),
                  ranks.size(), gib(available));
  uint64_t least = needed;
  for (int m = config.microbatches + 1; m <= config.batch; ++m) {
    if (config.batch % (m * config.replicas) != 0) continue;
    TrainingConfig other = config;
    other.microbatches = m;
    const uint64_t bytes = memory_needed(dry_run(other).ranks);
    least = std::min(least, bytes);
    if (bytes <= available)
      return fmt::format("{}; with {} microbatches, of {} sequences each, it would need {}",
                         problem, m, other.sequences(), gib(bytes));
  }
  return fmt::format("{}; with smaller microbatches it would need at least {}", problem,
                     gib(least));
}

}  // namespace strait
