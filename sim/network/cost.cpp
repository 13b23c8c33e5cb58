// The cost model of the packet simulation: linear in packets. See cost.h; the constants come from
// the cost table of docs/validation.md (x86-64 at about 3 GHz, ns-3 3.37).
#include "sim/network/cost.h"

#include "sim/network/path.h"

namespace strait::sim {
namespace {

constexpr double kStart = 0.02;            // seconds: loading, nodes, type registration
constexpr double kPerConnection = 150e-6;  // sockets and handshake
constexpr double kPerMessage = 10e-6;
constexpr double kPerPacket = 16e-6;      // over one link, with half an acknowledgement
constexpr double kPerFurtherLink = 5e-6;  // forwarded by the core, for access networks

}  // namespace

double predicted_host_seconds(const NetworkConfig& config, int ranks, Bytes payload,
                              uint64_t messages) {
  const double r = ranks;
  const double pairs = config.topology == Topology::chain ? 2 * (r - 1) : r * (r - 1);
  const double segment = static_cast<double>(segment_payload(config.links.mtu).count);
  // The last packet of a message is half full on average.
  const double packets =
      static_cast<double>(payload.count) / segment + 0.5 * static_cast<double>(messages);
  const double per_packet =
      kPerPacket + (config.topology == Topology::access ? kPerFurtherLink : 0);
  return kStart + kPerConnection * pairs * config.transport.connections +
         kPerMessage * static_cast<double>(messages) + per_packet * packets;
}

}  // namespace strait::sim
