// Links, paths and the sizes derived from them; see path.h. Everything is integer arithmetic, so
// that the three models start from identical numbers.
#include "sim/network/path.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace strait::sim {
namespace {

constexpr uint64_t kSixMegabytes = 6'000'000;
constexpr uint64_t kSmallestQueuePackets = 64;

std::string rank_text(int rank) { return rank < 0 ? "core" : fmt::format("{}", rank); }

std::string_view topology_text(Topology topology) {
  switch (topology) {
    case Topology::chain:
      return "chain";
    case Topology::mesh:
      return "mesh";
    case Topology::access:
      return "access";
  }
  return "?";
}

}  // namespace

std::string Link::name() const { return rank_text(from) + "->" + rank_text(to); }

LinkMap::LinkMap(const NetworkConfig& config, int ranks)
    : topology_(config.topology), ranks_(ranks) {
  check_settings(config, ranks);
  const auto add = [&](int from, int to) {
    links_.push_back({from, to, resolve_link(config, from, to)});
    check_link(links_.back(), config.transport);
  };
  if (topology_ == Topology::access) {
    for (int r = 0; r < ranks; ++r) add(-1, r);
    for (int r = 0; r < ranks; ++r) add(r, -1);
    return;
  }
  for (int from = 0; from < ranks; ++from)
    for (int to = 0; to < ranks; ++to)
      if (from != to && (topology_ == Topology::mesh || std::abs(from - to) == 1)) add(from, to);
}

int LinkMap::find(int from, int to) const {
  switch (topology_) {
    case Topology::access:
      return from < 0 ? to : ranks_ + from;
    case Topology::mesh:
      return from * (ranks_ - 1) + to - (to > from ? 1 : 0);
    case Topology::chain:
      return 2 * from + (to > from ? 0 : -1);
  }
  return -1;
}

Path LinkMap::path(int from, int to) const {
  const bool inside = from >= 0 && to >= 0 && from < ranks_ && to < ranks_ && from != to;
  if (!inside || (topology_ == Topology::chain && std::abs(from - to) != 1))
    throw std::invalid_argument(fmt::format(
        "network: no path from rank {} to rank {}: topology \"{}\" with {} ranks joins {}", from,
        to, topology_text(topology_), ranks_,
        topology_ == Topology::chain ? "neighbours only (use \"mesh\" or \"access\")"
                                     : "distinct ranks from 0"));
  if (topology_ == Topology::access) return {{find(from, -1), find(-1, to)}, 2};
  return {{find(from, to), -1}, 1};
}

Nanoseconds LinkMap::latency(const Path& path) const {
  Nanoseconds sum;
  for (int hop = 0; hop < path.hops; ++hop) sum += links_[path.link[hop]].config.latency;
  return sum;
}

Nanoseconds LinkMap::round_trip(int from, int to) const {
  return latency(path(from, to)) + latency(path(to, from));
}

BitsPerSecond LinkMap::bottleneck(const Path& path) const {
  BitsPerSecond rate = links_[path.link[0]].config.bandwidth;
  for (int hop = 1; hop < path.hops; ++hop)
    rate = std::min(rate, links_[path.link[hop]].config.bandwidth);
  return rate;
}

Bytes LinkMap::mtu(int from, int to) const {
  Bytes smallest = Bytes{65535};
  for (const Path& way : {path(from, to), path(to, from)})
    for (int hop = 0; hop < way.hops; ++hop)
      smallest = std::min(smallest, links_[way.link[hop]].config.mtu);
  return smallest;
}

Nanoseconds LinkMap::longest_round_trip(int index) const {
  const Link& link = links_[index];
  if (topology_ != Topology::access) return round_trip(link.from, link.to);
  const int rank = link.from < 0 ? link.to : link.from;
  Nanoseconds longest;
  for (int other = 0; other < ranks_; ++other)
    if (other != rank) longest = std::max(longest, round_trip(rank, other));
  return longest;
}

LinkUse empty_use(const Link& link) {
  return {rank_text(link.from), rank_text(link.to), Bytes{0}, Nanoseconds{0},
          link.config.bandwidth};
}

Bytes segment_payload(Bytes mtu) { return {mtu.count - 60}; }

Bytes wire_size(Bytes payload, Bytes mtu) {
  const uint64_t segment = segment_payload(mtu).count;
  return {payload.count + (payload.count + segment - 1) / segment * kHeaderBytes};
}

Bytes bandwidth_delay_product(BitsPerSecond rate, Nanoseconds round_trip) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(rate.count) * static_cast<uint64_t>(round_trip.count);
  return {static_cast<uint64_t>((product + 7'999'999'999u) / 8'000'000'000u)};
}

Bytes queue_size(const LinkMap& map, int index) {
  const LinkConfig& link = map.links()[index].config;
  if (link.queue.count > 0) return link.queue;
  const Bytes product = bandwidth_delay_product(link.bandwidth, map.longest_round_trip(index));
  return {std::max(2 * product.count, kSmallestQueuePackets * link.mtu.count)};
}

Bytes socket_buffer(const NetworkConfig& config, const LinkMap& map, int from, int to) {
  if (config.transport.buffers.count > 0) return config.transport.buffers;
  const Bytes product =
      bandwidth_delay_product(map.bottleneck(map.path(from, to)), map.round_trip(from, to));
  return {std::max(2 * product.count, kSixMegabytes)};
}

}  // namespace strait::sim
