// Names of enums, and the largest part of a message's time (sim/trace/names.h).
#include "sim/trace/names.h"

#include <algorithm>
#include <array>

namespace strait::sim {

std::string_view name_of(record::MessageKind kind) {
  constexpr std::array<std::string_view, 3> names = {"forward", "backward", "sync"};
  return names.at(static_cast<size_t>(kind));
}

std::string_view name_of(record::Phase phase) {
  constexpr std::array<std::string_view, 11> names = {
      "forward",     "backward", "backward_weight", "encode", "decode",     "encode_grad",
      "decode_grad", "update",   "reduce",          "other",  "synchronise"};
  return names.at(static_cast<size_t>(phase));
}

std::string_view name_of(record::Category category) {
  return category == record::Category::codec ? "codec" : "compute";
}

std::string_view bound_by(const Delivery& d) {
  constexpr std::array<std::string_view, 5> names = {"bandwidth", "latency", "window", "queue",
                                                     "loss"};
  const std::array<Nanoseconds, 5> parts = {d.serialisation, d.propagation + d.host, d.window,
                                            d.queue, d.recovery};
  return names[std::max_element(parts.begin(), parts.end()) - parts.begin()];
}

}  // namespace strait::sim
