// The links of a topology and the path that each pair of ranks takes over them; shared by all
// network models, so that they agree on names, rates, delays and counters. Also the sizes that
// follow from a link: segments, headers, queues.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "sim/network/config.h"
#include "sim/network/network.h"

namespace strait::sim {

// One directed link. `from` or `to` is -1 for the core's side of an access link.
struct Link {
  int from = 0;
  int to = 0;
  LinkConfig config;
  std::string name() const;  // "0->1", "0->core", "core->1": the key of its random streams
};

// The links that a message crosses, as indices into LinkMap::links(): one, or two (uplink,
// downlink) for `access`.
struct Path {
  std::array<int, 2> link{};
  int hops = 0;
};

// These throw std::invalid_argument, naming the field, what was found and what is allowed, if the
// configuration cannot be simulated: zero rates, a loss outside [0, 1), jitter above half the
// latency, overrides that match no rank, and so on.
void check_settings(const NetworkConfig& config, int ranks);
void check_link(const Link& link, const TransportConfig& transport);

class LinkMap {
 public:
  // Checks the configuration and lists its links: chain 2(R-1), mesh R(R-1), access 2R, in (from,
  // to) order.
  LinkMap(const NetworkConfig& config, int ranks);

  const std::vector<Link>& links() const { return links_; }
  int ranks() const { return ranks_; }

  // Throws std::invalid_argument for a pair that the topology does not connect.
  Path path(int from, int to) const;
  Nanoseconds latency(const Path& path) const;       // sum of the links' latencies
  Nanoseconds round_trip(int from, int to) const;    // latency there and back
  BitsPerSecond bottleneck(const Path& path) const;  // the smallest rate
  Bytes mtu(int from, int to) const;                 // the smallest MTU there and back
  Nanoseconds longest_round_trip(int link) const;    // over all paths that cross this link

 private:
  int find(int from, int to) const;

  Topology topology_;
  int ranks_;
  std::vector<Link> links_;
};

// An empty counter row for `link`.
LinkUse empty_use(const Link& link);

// TCP payload of a full packet: MTU less 20 (IP), 20 (TCP) and room for 20 bytes of options.
Bytes segment_payload(Bytes mtu);
// What `payload` bytes occupy on a wire: 54 bytes a segment (IP 20, TCP 20, timestamps 12, framing
// 2). 1440 -> 1494.
inline constexpr uint64_t kHeaderBytes = 54;
Bytes wire_size(Bytes payload, Bytes mtu);
// rate * time, rounded up.
Bytes bandwidth_delay_product(BitsPerSecond rate, Nanoseconds round_trip);
// The link's drop-tail queue: as configured, or two bandwidth-delay products of its longest path,
// at least 64 packets.
Bytes queue_size(const LinkMap& map, int link);
// Socket buffers of a connection: as configured, or max(6 MB, 2 bandwidth-delay products).
Bytes socket_buffer(const NetworkConfig& config, const LinkMap& map, int from, int to);

}  // namespace strait::sim
