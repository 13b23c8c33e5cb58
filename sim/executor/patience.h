// When the executor gives up on a network that delivers nothing.
#pragma once

#include "sim/record/units.h"

namespace strait::sim {

// When the executor gives up: messages are in flight but none is delivered, and nothing new is
// sent, for so long.
struct Patience {
  Nanoseconds virtual_time{24LL * 3600 * 1'000'000'000};
  double host_seconds = 900;
};

}  // namespace strait::sim
