// How long a compute entry of a log takes on a machine, in integer nanoseconds of virtual time.
//
//   measured   the host time that the engine wrote down
//   scaled     the same times a factor: a machine that is k times slower or faster than the
//   engine's roofline   sum over ops of max(flops / (peak * efficiency), bytes / (bandwidth *
//   efficiency)) + launch overhead
//
// A slowdown factor multiplies the result in every mode: stragglers. The cards and their sources:
// sim/device/cards.cpp.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/record/log.h"
#include "sim/record/units.h"

namespace strait::sim {

// A real card: peaks as the vendor's data sheet gives them (dense, no sparsity), and the shares of
// them that we assume.
struct Card {
  std::string name;
  double fp32_flops =
      0;  // per second, ordinary units; fp32 matrix products run here, too (no TF32)
  double bf16_matrix_flops = 0;  // per second, matrix units, dense, fp32 accumulation
  double memory_bytes = 0;       // per second, device memory
  double compute_efficiency = 0;
  double memory_efficiency = 0;
  Nanoseconds launch;  // per op
  std::string source;  // where the peaks come from
  bool operator==(const Card&) const = default;
};

// The known cards, in the order in which they are documented.
const std::vector<Card>& cards();

std::vector<std::string_view> device_names();
bool device_known(std::string_view name);

// Throws std::invalid_argument that lists the known names.
const Card& find_card(std::string_view name);

class Device {
 public:
  // `factor` is finite and > 0: 2 means that everything takes twice as long. Throws
  // std::invalid_argument otherwise.
  static Device measured(double factor = 1.0);
  // `compute_efficiency`, in (0, 1], replaces the card's own. Throws std::invalid_argument for
  // values out of range.
  static Device roofline(const Card& card, double slowdown = 1.0,
                         std::optional<double> compute_efficiency = std::nullopt);

  // Rounded to the nearest nanosecond; the sum over ops is taken in order, so the result is
  // reproducible. Throws std::overflow_error for an entry beyond 2^53 ns (104 days).
  Nanoseconds nanoseconds(const record::Compute& compute) const;

  // "A10G", "A10G, 2x slower", "measured": for summaries.
  std::string description() const;

 private:
  explicit Device(double factor) : factor_(factor) {}

  std::optional<Card> card_;  // unset: measured
  double factor_;
};

}  // namespace strait::sim
