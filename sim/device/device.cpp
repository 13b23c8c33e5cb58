// Device::nanoseconds: host times or the roofline sum of sim/device/device.h.
#include "sim/device/device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace strait::sim {
namespace {

double check_factor(double factor) {
  if (!std::isfinite(factor) || factor <= 0)
    throw std::invalid_argument(
        fmt::format("a device's slowdown is {}; it must be a number above 0", factor));
  return factor;
}

double op_seconds(const Card& card, const record::OpWork& op) {
  const bool matrix_units = op.op_class == record::OpClass::matrix && op.bf16;
  const double peak = matrix_units ? card.bf16_matrix_flops : card.fp32_flops;
  const double arithmetic = static_cast<double>(op.flops) / (peak * card.compute_efficiency);
  const double traffic =
      static_cast<double>(op.bytes) / (card.memory_bytes * card.memory_efficiency);
  return std::max(arithmetic, traffic) + card.launch.seconds();
}

}  // namespace

Device Device::measured(double factor) { return Device(check_factor(factor)); }

Device Device::roofline(const Card& card, double slowdown,
                        std::optional<double> compute_efficiency) {
  Device device(check_factor(slowdown));
  device.card_ = card;
  if (compute_efficiency) {
    if (!(*compute_efficiency > 0 && *compute_efficiency <= 1))
      throw std::invalid_argument(
          fmt::format("a device's efficiency is {}; it must lie in (0, 1]", *compute_efficiency));
    device.card_->compute_efficiency = *compute_efficiency;
  }
  return device;
}

Nanoseconds Device::nanoseconds(const record::Compute& compute) const {
  if (!card_ && factor_ == 1.0) return compute.measured;
  double nanoseconds = 0;
  if (card_) {
    for (const record::OpWork& op : compute.ops) nanoseconds += op_seconds(*card_, op);
    nanoseconds *= 1e9;
  } else {
    nanoseconds = static_cast<double>(compute.measured.count);
  }
  nanoseconds *= factor_;
  // Below 2^53 every integer is a double, so rounding is exact.
  constexpr double kLongest = 9007199254740992.0;
  if (!(nanoseconds < kLongest))
    throw std::overflow_error(
        fmt::format("one compute entry takes {:.3g} s on {}; at most 9.0e6 s can be simulated",
                    nanoseconds * 1e-9, description()));
  return {std::llround(nanoseconds)};
}

std::string Device::description() const {
  const std::string base = card_ ? std::string(card_->name) : "measured";
  if (factor_ == 1.0) return base;
  return factor_ > 1 ? fmt::format("{}, {:.4g}x slower", base, factor_)
                     : fmt::format("{}, {:.4g}x faster", base, 1 / factor_);
}

}  // namespace strait::sim
