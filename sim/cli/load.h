// Reads a scenario or sweep file for a command: parsed, overridden, checked, and, in a build with the engine, its shape resolved.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "sim/sweep/points.h"
#include "sim/sweep/sweep_file.h"

namespace strait::cli {

// Throws WrongInput with every problem, one a line.
scenario::Scenario load(const std::string& file, const std::vector<std::string>& set);

// The scenario with the shape of its model, checked against what the engine can do; as it is in a build without the engine.
// `file` is named in errors. Throws WrongInput.
scenario::Scenario with_shape(scenario::Scenario scenario, const std::string& file);

struct LoadedSweep {
  sweep::ParsedSweep sweep;
  std::vector<sweep::Point> points;
};
// Throws WrongInput with every problem, one a line.
LoadedSweep load_sweep(const std::string& file);

}  // namespace strait::cli
