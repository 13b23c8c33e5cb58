// What a packet simulation will cost in host time, before it starts. Knows no ns-3, so that every
// build can say it.
#pragma once

#include <cstdint>

#include "sim/network/config.h"

namespace strait::sim {

// Seconds of one core for a packet simulation of `messages` messages with `payload` bytes
// altogether between `ranks` ranks: a share per packet and link crossed, per message, per
// connection, and a constant, as measured in docs/validation.md. Within a factor of two on the
// machines measured; losses and overflowing queues cost more.
double predicted_host_seconds(const NetworkConfig& config, int ranks, Bytes payload,
                              uint64_t messages);

}  // namespace strait::sim
