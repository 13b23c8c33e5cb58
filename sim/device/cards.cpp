// The table of real cards for the roofline. Peaks are the vendor's data-sheet figures for dense
// arithmetic; where a sheet prints only the figure "with sparsity", half of it. The efficiencies
// are ours and are assumptions, not measurements:
//
//   compute 0.60   what matrix products of transformer sizes sustain. Whole training steps reach
//   about half of the peak on
//                  A100 clusters (Megatron-LM reports 52 %), and their matrix products alone run
//                  faster than the step.
//   compute 0.45   L4: a 72 W card that lowers its clock under sustained matrix work.
//   memory  0.80   what streaming kernels sustain of the peak bandwidth; copies alone reach 0.85 to
//   0.92. launch  4 us   a kernel dispatched from the host without CUDA graphs, when the queue does
//   not hide it.
//
// `devices.timing.efficiency` of a scenario replaces the compute share.
#include <fmt/format.h>

#include <stdexcept>

#include "sim/device/device.h"

namespace strait::sim {

const std::vector<Card>& cards() {
  constexpr double kTera = 1e12, kGiga = 1e9;
  constexpr Nanoseconds kLaunch{4'000};
  static const std::vector<Card> table = {
      {"A10G", 35.0 * kTera, 70.0 * kTera, 600 * kGiga, 0.60, 0.80, kLaunch,
       "NVIDIA A10G data sheet for AWS (2022)"},
      {"L4", 30.3 * kTera, 121.0 * kTera, 300 * kGiga, 0.45, 0.80, kLaunch,
       "NVIDIA L4 data sheet (2023), bf16 halved from the figure with sparsity"},
      {"A100", 19.5 * kTera, 312.0 * kTera, 2039 * kGiga, 0.60, 0.80, kLaunch,
       "NVIDIA A100 data sheet (2021), SXM 80 GB"},
      {"H100", 67.0 * kTera, 989.5 * kTera, 3350 * kGiga, 0.60, 0.80, kLaunch,
       "NVIDIA H100 data sheet (2023), SXM, bf16 halved from the figure with sparsity"},
      {"H200", 67.0 * kTera, 989.5 * kTera, 4800 * kGiga, 0.60, 0.80, kLaunch,
       "NVIDIA H200 data sheet (2024), SXM, bf16 halved from the figure with sparsity"},
      {"RTX 4090", 82.6 * kTera, 165.2 * kTera, 1008 * kGiga, 0.60, 0.80, kLaunch,
       "NVIDIA Ada GPU architecture white paper (2022), bf16 with fp32 accumulation"},
  };
  return table;
}

std::vector<std::string_view> device_names() {
  std::vector<std::string_view> names;
  for (const Card& card : cards()) names.push_back(card.name);
  return names;
}

bool device_known(std::string_view name) {
  for (const Card& card : cards())
    if (card.name == name) return true;
  return false;
}

const Card& find_card(std::string_view name) {
  for (const Card& card : cards())
    if (card.name == name) return card;
  throw std::invalid_argument(
      fmt::format("unknown device \"{}\"; known are {}", name, fmt::join(device_names(), ", ")));
}

}  // namespace strait::sim
