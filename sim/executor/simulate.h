// A simulation in one call, in memory and without files: for `strait show` and for tests.
#pragma once

#include <span>
#include <vector>

#include "sim/executor/executor.h"

namespace strait::sim {

// Replays `steps`, which belong to `header`, over `network` (fresh, of as many ranks) on `devices`
// (one a rank), and returns the timing of each. Throws what record::validate_* and Executor throw.
std::vector<StepTiming> simulate(const record::RecordHeader& header,
                                 std::span<const record::StepLog> steps,
                                 const std::vector<Device>& devices, Network& network,
                                 Patience patience = {});

}  // namespace strait::sim
