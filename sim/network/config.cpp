// What a link's configuration is once its overrides are applied, and the checks that make an
// impossible network an error with a way out instead of a strange number.
#include "sim/network/config.h"

#include <fmt/format.h>

#include <cstdlib>
#include <stdexcept>

#include "sim/network/path.h"

namespace strait::sim {
namespace {

bool matches(std::optional<int> wanted, int rank) { return !wanted || *wanted == rank; }

template <class Value>
void replace(Value& value, const std::optional<Value>& with) {
  if (with) value = *with;
}

[[noreturn]] void refuse(const std::string& text) {
  throw std::invalid_argument("network: " + text);
}

void check_values(const LinkConfig& link, const std::string& name) {
  if (link.bandwidth.count == 0)
    refuse(fmt::format("link {}: bandwidth is 0; it must be positive", name));
  if (link.latency.count < 0) refuse(fmt::format("link {}: latency is negative", name));
  if (link.jitter.count < 0 || link.jitter.count * 2 > link.latency.count)
    refuse(
        fmt::format("link {}: jitter is {} ns; allowed is 0 to half the latency ({} ns), else "
                    "delays would be cut at zero",
                    name, link.jitter.count, link.latency.count / 2));
  if (!(link.bandwidth_jitter >= 0 && link.bandwidth_jitter <= 1))
    refuse(fmt::format("link {}: bandwidth_jitter is {}; allowed is 0 to 1", name,
                       link.bandwidth_jitter));
  if (!(link.loss >= 0 && link.loss < 1))
    refuse(fmt::format("link {}: loss is {}; allowed is 0 to below 1", name, link.loss));
  if (link.mtu.count < 576 || link.mtu.count > 65535)
    refuse(fmt::format("link {}: mtu is {}; allowed is 576 to 65535", name, link.mtu.count));
}

void check_override(const LinkOverride& o, Topology topology, int ranks) {
  for (const std::optional<int>& rank : {o.from, o.to})
    if (rank && (*rank < 0 || *rank >= ranks))
      refuse(fmt::format("an override names rank {}; ranks are 0 to {}", *rank, ranks - 1));
  if (!o.from || !o.to) return;
  if (*o.from == *o.to)
    refuse(
        fmt::format("an override names the link {}->{}; from and to must differ", *o.from, *o.to));
  if (topology == Topology::access)
    refuse(
        "an override of an access link names both from and to; set from for an uplink, to for a "
        "downlink");
  if (topology == Topology::chain && std::abs(*o.from - *o.to) != 1)
    refuse(fmt::format("an override names the link {}->{}; a chain joins neighbours only", *o.from,
                       *o.to));
}

void check_transport(const TransportConfig& transport) {
  if (transport.initial_window < 1 || transport.initial_window > 1000)
    refuse(fmt::format("transport.initial_window is {}; allowed is 1 to 1000 segments",
                       transport.initial_window));
  if (transport.connections < 1 || transport.connections > 64)
    refuse(fmt::format("transport.connections is {}; allowed is 1 to 64", transport.connections));
  if (transport.host_overhead.count < 0) refuse("transport.host_overhead is negative");
  if (transport.buffers.count > 1'000'000'000)
    refuse(
        fmt::format("transport.buffers is {}; allowed is at most 1 GB", transport.buffers.count));
}

}  // namespace

LinkConfig resolve_link(const NetworkConfig& config, int from, int to) {
  LinkConfig link = config.links;
  for (const LinkOverride& o : config.overrides) {
    if (!matches(o.from, from) || !matches(o.to, to)) continue;
    replace(link.bandwidth, o.bandwidth);
    replace(link.latency, o.latency);
    replace(link.jitter, o.jitter);
    replace(link.bandwidth_jitter, o.bandwidth_jitter);
    replace(link.loss, o.loss);
    replace(link.queue, o.queue);
    replace(link.mtu, o.mtu);
  }
  return link;
}

void check_settings(const NetworkConfig& config, int ranks) {
  if (ranks < 1) refuse(fmt::format("{} ranks; there must be at least 1", ranks));
  check_transport(config.transport);
  for (const LinkOverride& o : config.overrides) check_override(o, config.topology, ranks);
  check_values(config.links, "default");
}

void check_link(const Link& link, const TransportConfig& transport) {
  check_values(link.config, link.name());
  const bool lossy = link.config.loss > 0;
  if (lossy && transport.congestion_control == CongestionControl::bbr)
    refuse(
        fmt::format("link {}: loss with congestion control bbr; ns-3's BBR stalls after losses, "
                    "use cubic or reno",
                    link.name()));
  if (lossy && transport.congestion_control == CongestionControl::lossless)
    refuse(fmt::format(
        "link {}: loss with congestion control lossless; set loss to 0, or use cubic or reno",
        link.name()));
}

}  // namespace strait::sim
