// The devices that a scenario's "devices" object means, one a rank.
#pragma once

#include <vector>

#include "sim/device/device.h"
#include "sim/record/log.h"
#include "sim/scenario/scenario.h"

namespace strait::scenario {

// Throws std::invalid_argument for "measured" on a record of the meta backend, and for unknown cards.
std::vector<sim::Device> make_devices(const Scenario& scenario, const record::RecordHeader& header);

}  // namespace strait::scenario
