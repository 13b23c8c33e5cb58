// Named networks of real places: the numbers of one place, each with its reason (table in
// docs/network.md). A preset sets links and transport and leaves topology, overrides, seed and
// model alone; what is set after it wins.
#pragma once

#include <string_view>
#include <vector>

#include "sim/network/config.h"

namespace strait::sim {

// Sets `config.links`, `config.transport` and `config.preset`. Returns false, and changes nothing,
// for an unknown name.
bool apply_preset(std::string_view name, NetworkConfig& config);

// All names, in the order in which they are documented.
std::vector<std::string_view> preset_names();

}  // namespace strait::sim
