#include "engine/parameter_match.h"

#include <fmt/format.h>

#include <cstdlib>
#include <stdexcept>

#include "engine/trainer.h"

namespace strait {

int matched_ffn_width(const TrainingConfig& config, int multiple) {
  STRAIT_CHECK(multiple >= 1, "a multiple of the FFN width is at least 1");
  if (config.method.method == "none") return config.shape.ffn_width;
  TrainingConfig plain = config;
  plain.method = MethodOptions{};
  const int64_t wanted = trainable_parameters(plain);
  const auto count = [&](int64_t multiples) {
    TrainingConfig c = config;
    c.shape.ffn_width = static_cast<int>(multiples * multiple);
    return trainable_parameters(c);
  };
  if (const int64_t least = count(1); least > wanted)
    throw std::invalid_argument(fmt::format(
        "/compression/match: method {} has {} parameters with an FFN of width {}, the uncompressed "
        "model has {} with {}; allowed: a smaller method, a larger model, or \"none\"",
        config.method.method, least, multiple, wanted, config.shape.ffn_width));
  // More width, more parameters: count(low) <= wanted < count(high).
  constexpr int64_t kWidest = int64_t{1} << 24;
  int64_t low = 1, high = 2;
  for (; count(high) <= wanted; low = high, high *= 2)
    if (high * multiple > kWidest)
      throw std::invalid_argument(fmt::format(
          "/compression/match: method {} does not reach the {} parameters of the uncompressed "
          "model with any width",
          config.method.method, wanted));
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (count(middle) <= wanted ? low : high) = middle;
  }
  return static_cast<int>((wanted - count(low) <= count(high) - wanted ? low : high) * multiple);
}

}  // namespace strait
