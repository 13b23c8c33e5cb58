// The words that the traces use for a log's enums.
#pragma once

#include <string_view>

#include "sim/executor/timing.h"
#include "sim/record/log.h"

namespace strait::sim {

std::string_view name_of(record::MessageKind kind);  // "forward", "backward", "sync"
std::string_view name_of(record::Phase phase);       // "forward", "encode_grad" ...
std::string_view name_of(record::Category category);

// What took the most of a message's time: "bandwidth" (serialisation), "latency" (propagation and
// host overhead: what an empty message would cost), "window", "queue" or "loss" (recovery). Of
// equal parts the first in this order.
std::string_view bound_by(const Delivery& delivery);

}  // namespace strait::sim
