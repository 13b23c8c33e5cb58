// "--set" on a document whose lines are known (see apply_overrides() in scenario.h for what an
// assignment means).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "sim/scenario/fields.h"

namespace strait::scenario {

// Applies what can be applied, remembers in `document.assigned` what came from where, and appends
// the problems.
void apply_overrides(Document& document, std::span<const std::string> assignments,
                     const std::shared_ptr<const ObjectInfo>& root, std::vector<Problem>& problems);

}  // namespace strait::scenario
