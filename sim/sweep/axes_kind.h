// How "axes" and "exclude" of a sweep file are read: objects whose keys are free, which the tables
// of sim/scenario do not have.
#pragma once

#include "sim/scenario/fields.h"
#include "sim/sweep/sweep_file.h"

namespace strait::sweep {

scenario::Kind<std::vector<Axis>> axes_kind();
scenario::Kind<std::vector<Exclusion>> exclude_kind();

}  // namespace strait::sweep
