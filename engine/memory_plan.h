// Whether a training fits into the memory of its backend: known from the dry run, before anything is allocated.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/training.h"

namespace strait {

// Bytes of all ranks together: parameters with their gradients and moments, frames, scratch, messages that they hold. Messages on their
// way come on top.
uint64_t memory_needed(const std::vector<RankPlan>& ranks);

// "" if the training fits into `available` bytes; else what it needs, and the largest microbatch that would fit. `ranks`: of
// dry_run(config), or of its largest phase.
std::string memory_problem(const TrainingConfig& config, const std::vector<RankPlan>& ranks,
                           uint64_t available);

}  // namespace strait
