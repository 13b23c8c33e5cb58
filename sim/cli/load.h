// Reads a scenario file for a command: parsed, overridden, checked, and, in a build with the engine, its shape resolved.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/scenario.h"

namespace strait::cli {

// Throws WrongInput with every problem, one a line.
scenario::Scenario load(const std::string& file, const std::vector<std::string>& set);

}  // namespace strait::cli
