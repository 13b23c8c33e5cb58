// What a network is made of, as plain data: links, topology, transport, and which model plays them.
// Filled from the scenario's "network" object (design, section 5.2); read by every network model. No behaviour here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sim/record/units.h"

namespace strait::sim {

enum class NetworkModel { ideal, fluid, packet };

// chain:  a duplex connection between neighbours r and r+1 only (messages to others are refused).
// mesh:   a dedicated duplex connection between every pair of ranks.
// access: each rank behind its own up- and downlink into a core without limits, as at home; a path is up(from), down(to),
//         its latency the sum of both links' latencies, its rate the smaller one; all flows of a rank share its links.
enum class Topology { chain, mesh, access };

// cubic:    the Linux CUBIC behaviour measured in docs/network.md (HyStart, TCP-friendly region, idle restart).
// reno:     Linux Reno.
// bbr:      BBR (never restarts after idle); refused together with loss (stalls in ns-3 3.37; docs/network.md).
// lossless: RDMA-like: credit window of 2 bandwidth-delay products from the first byte, no slow start, no idle restart.
enum class CongestionControl { cubic, reno, bbr, lossless };

// One direction of one connection.
struct LinkConfig {
  BitsPerSecond bandwidth{80'000'000};
  Nanoseconds latency{20'000'000};  // one-way delay
  Nanoseconds jitter{
      0};  // standard deviation of the delay; Ornstein-Uhlenbeck, tau 50 ms, order kept
  double bandwidth_jitter =
      0;  // sigma of the per-message rate as a share of `bandwidth`: N(B, sigma B), clamped to [0.1 B, 2 B]
  double loss = 0;  // probability that a packet is lost, [0, 1)
  Bytes queue{
      0};  // drop-tail queue at the sender's side of the link; 0: two bandwidth-delay products, at least 64 packets
  Bytes mtu{1500};  // IP packet size
};

// Fields that are set replace those of `links` on the matching directions. `from`/`to` unset match any rank.
// For `access`, `from` set and `to` unset is the uplink of `from`; `to` set and `from` unset the downlink of `to`.
struct LinkOverride {
  std::optional<int> from, to;
  std::optional<BitsPerSecond> bandwidth;
  std::optional<Nanoseconds> latency, jitter;
  std::optional<double> bandwidth_jitter, loss;
  std::optional<Bytes> queue, mtu;
};

struct TransportConfig {
  CongestionControl congestion_control = CongestionControl::cubic;
  int initial_window = 10;   // segments
  bool idle_restart = true;  // Linux tcp_slow_start_after_idle=1
  Bytes buffers{0};     // socket buffers; 0: max(6 MB, 2 BDP), never more than 4 BDP above 6 MB
  int connections = 1;  // parallel connections per directed pair, round robin by message
  Nanoseconds host_overhead{
      100'000};  // per message, before it enters the network (docs/network.md)
};

// The ideal model's choices: what emulators that sleep do (specs/subspace_models.md 6.4).
struct IdealConfig {
  bool serialised_latency =
      false;  // latency_mode: "pipelined" | "serialised" (latency occupies the link, too)
  bool shared_inbound =
      false;  // receiver: "per_link" | "shared_inbound" (one clock for all that a rank receives)
};

struct NetworkConfig {
  NetworkModel model = NetworkModel::packet;
  std::string preset;  // name the values came from, "" if none
  uint64_t seed = 0;   // jitter, loss and bandwidth samples; streams are keyed by (seed, link name)
  Topology topology = Topology::chain;
  LinkConfig links;
  std::vector<LinkOverride> overrides;  // in order; later wins
  TransportConfig transport;
  IdealConfig ideal;
};

// The configuration of one directed link after overrides. For access links, `from` = -1 is the core's side (a downlink),
// `to` = -1 the core's side of an uplink.
LinkConfig resolve_link(const NetworkConfig& config, int from, int to);

}  // namespace strait::sim
