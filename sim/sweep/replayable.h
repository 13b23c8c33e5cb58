// What a replay may change: the fields that the scenario's tables mark as not determining the
// record (design, section 1). Here a changed scenario is compared with the recorded one, and joined
// with it.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace strait::sweep {

// A field that determines the record and differs; values as JSON, "nothing" where there is none.
struct RecordChange {
  std::string path;  // dotted, as --set takes it
  std::string recorded, wanted;
};

// In the order of the tables. Empty exactly if a replay of `recorded` can stand for `wanted`.
std::vector<RecordChange> record_changes(const scenario::Scenario& recorded,
                                         const scenario::Scenario& wanted);

// `recorded` with all the replayable fields of `wanted`.
scenario::Scenario with_replayable_fields(const scenario::Scenario& recorded,
                                          const scenario::Scenario& wanted);

// Dotted paths of everything replayable, whole objects where all of one is: "network",
// "devices.timing".
std::vector<std::string> replayable_paths();

}  // namespace strait::sweep
