// The written form of one action, shared by the text form, the grid and the validator's errors.
#pragma once

#include <string>

#include "engine/schedule/schedule.h"

namespace strait {

// "1B2": stage 1, backward, microbatch 2.
std::string to_string(const ScheduleAction& action);

}  // namespace strait
