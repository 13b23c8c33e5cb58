// The preset table. Presets are quiet (no jitter, no loss) so that methods compare on equal terms;
// a scenario adds noise on top. Every number has its reason beside it; docs/network.md repeats the
// table for users.
#include "sim/network/presets.h"

#include <array>

namespace strait::sim {
namespace {

struct Preset {
  std::string_view name;
  LinkConfig links;
  TransportConfig transport;
};

constexpr uint64_t kMega = 1'000'000;
constexpr uint64_t kGiga = 1'000'000'000;

const std::array<Preset, 4>& presets() {
  static const std::array<Preset, 4> table = {{
      // One InfiniBand EDR / 100 GbE RoCE port a rank, the "centralised" baseline of the papers. 10
      // us one way: three
      // switch hops and a NIC at each end. Jumbo frames; credit flow control, hence no loss and no
      // slow start. 5 us of
      // host time a message: posting the work request and polling its completion through a
      // collective library.
      {"datacenter-100g",
       {.bandwidth = {100 * kGiga}, .latency = {10'000}, .mtu = {9000}},
       {.congestion_control = CongestionControl::lossless,
        .idle_restart = false,
        .host_overhead = {5'000}}},
      // Rented GPU machines in two zones of one region: 16 Gbps is what a mid-size instance
      // sustains, 0.5 ms the round
      // trip between zones, 9000 the usual MTU inside a virtual network. Plain Linux TCP.
      {"cloud-16g", {.bandwidth = {16 * kGiga}, .latency = {250'000}, .mtu = {9000}}, {}},
      // The slow link of the decentralised-training papers (80 Mbps) at 20 ms one way: two homes on
      // one continent.
      {"home-80m", {.bandwidth = {80 * kMega}, .latency = {20'000'000}}, {}},
      // Cable or entry-level fibre (300 Mbps, the context-parallel papers' link) over the same
      // distance.
      {"home-300m", {.bandwidth = {300 * kMega}, .latency = {20'000'000}}, {}},
  }};
  return table;
}

}  // namespace

bool apply_preset(std::string_view name, NetworkConfig& config) {
  for (const Preset& preset : presets()) {
    if (preset.name != name) continue;
    config.preset = std::string(preset.name);
    config.links = preset.links;
    config.transport = preset.transport;
    return true;
  }
  return false;
}

std::vector<std::string_view> preset_names() {
  std::vector<std::string_view> names;
  for (const Preset& preset : presets()) names.push_back(preset.name);
  return names;
}

}  // namespace strait::sim
