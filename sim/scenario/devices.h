// The devices that a scenario's "devices" object means, one a rank.
#pragma once

#include <vector>

#include "sim/device/device.h"
#include "sim/record/log.h"
#include "sim/scenario/scenario.h"

namespace strait::scenario {

// The factor on the times of devices.timing.device with which a step like `step` takes
// devices.timing.link_free_step where links take no time. Of the third such step in a row, when the
// pipeline has filled, and without devices.ranks, whose differences come on top. 1 where the field
// is not given. Throws std::invalid_argument for a step that computes nothing.
double link_free_factor(const Scenario& scenario, const record::RecordHeader& header,
                        const record::StepLog& step);

// `factor`: of link_free_factor(); on all ranks but those with a card of their own. Throws
// std::invalid_argument for "measured" on a record of the meta backend, and for unknown cards.
std::vector<sim::Device> make_devices(const Scenario& scenario, const record::RecordHeader& header,
                                      double factor);

}  // namespace strait::scenario
