// Tables of "network", read straight into sim::NetworkConfig. Ranges are those that the network
// models check at their start; nothing here determines the record, so every field may change in a
// replay.
#include "sim/network/presets.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {
namespace {

using sim::CongestionControl;
using sim::LinkConfig;
using sim::LinkOverride;
using sim::NetworkConfig;
using sim::NetworkModel;
using sim::Topology;
using sim::TransportConfig;

constexpr Nanoseconds longest_delay{600'000'000'000};
constexpr Bytes longest_queue{1'000'000'000'000};

// The fields that links and overrides share: Struct is LinkConfig (with defaults) or LinkOverride
// (all optional).
template <class Struct>
void link_fields(Object<Struct>& table, const Note& note) {
  table.field("bandwidth", &Struct::bandwidth, bandwidth(), "Rate of one direction.", note)
      .field("latency", &Struct::latency, duration(longest_delay), "One-way delay.", note)
      .field("jitter", &Struct::jitter, duration(longest_delay),
             "Standard deviation of the delay, a correlated process (50 ms) that keeps order; at "
             "most half the latency.",
             note)
      .field("bandwidth_jitter", &Struct::bandwidth_jitter, number({0, 1}),
             "Standard deviation of a message's rate as a share of `bandwidth`.", note)
      .field("loss", &Struct::loss, number({0, 1, false, true}),
             "Probability that a packet is lost.", note)
      .field("queue", &Struct::queue, size(Bytes{0}, longest_queue, "auto"),
             "Drop-tail queue before the link. `auto`: two bandwidth-delay products, at least 64 "
             "packets.",
             note)
      .field("mtu", &Struct::mtu, size(Bytes{576}, Bytes{65'535}), "Size of an IP packet.", note);
}

Object<LinkConfig> links_table() {
  Object<LinkConfig> table("network.links", "Every link in each direction, before overrides.");
  link_fields(table, {.replayable = true});
  return table;
}

Object<LinkOverride> override_table() {
  Object<LinkOverride> table(
      "network.overrides[]",
      "Links that differ: the fields given here replace those of `links` where `from` and `to` "
      "match. With `access`, `from` alone is a rank's uplink and `to` alone its downlink. Later "
      "entries win.");
  const Note any{.absent = "any rank", .replayable = true};
  table.field("from", &LinkOverride::from, integer(0, 4095), "Sending rank.", any)
      .field("to", &LinkOverride::to, integer(0, 4095), "Receiving rank.", any);
  link_fields(table, {.absent = "as in links", .replayable = true});
  return table;
}

Object<TransportConfig> transport_table() {
  const Note note{.replayable = true};
  Object<TransportConfig> table("network.transport",
                                "How bytes are paced onto the links; Linux's defaults.");
  table
      .field("congestion_control", &TransportConfig::congestion_control,
             one_of<CongestionControl>({{"cubic", CongestionControl::cubic},
                                        {"reno", CongestionControl::reno},
                                        {"bbr", CongestionControl::bbr},
                                        {"lossless", CongestionControl::lossless}}),
             "`lossless` is RDMA-like: a full window from the first byte. `bbr` and `lossless` "
             "exclude loss.",
             note)
      .field("initial_window", &TransportConfig::initial_window, integer(1, 1000),
             "Segments sent before the first reply.", note)
      .field("idle_restart", &TransportConfig::idle_restart, boolean(),
             "Whether a connection that was idle for a retransmission timeout starts from the "
             "initial window again.",
             note)
      .field("buffers", &TransportConfig::buffers, size(Bytes{0}, Bytes{1'000'000'000}, "auto"),
             "Socket buffers. `auto`: 6 MB or two bandwidth-delay products, whichever is more.",
             note)
      .field("connections", &TransportConfig::connections, integer(1, 64),
             "Connections of a pair of ranks and direction, taken in turn by messages.", note)
      .field("host_overhead", &TransportConfig::host_overhead,
             duration(Nanoseconds{10'000'000'000}),
             "What a message costs its sender before the first byte.", note);
  return table;
}

}  // namespace

std::vector<std::string> network_preset_names() {
  std::vector<std::string> names;
  for (const std::string_view name : sim::preset_names()) names.emplace_back(name);
  return names;
}

const char* model_name(NetworkModel model) {
  switch (model) {
    case NetworkModel::packet:
      return "packet";
    case NetworkModel::fluid:
      return "fluid";
    case NetworkModel::ideal:
      return "ideal";
  }
  return "?";
}

Object<NetworkConfig> network_table() {
  const Note note{.replayable = true};
  Object<NetworkConfig> table(
      "network",
      "What joins the ranks, and how it is modelled. A preset fills `links` and "
      "`transport`; what is given beside it wins.");
  table
      .field("model", &NetworkConfig::model,
             one_of<NetworkModel>({{model_name(NetworkModel::packet), NetworkModel::packet},
                                   {model_name(NetworkModel::fluid), NetworkModel::fluid},
                                   {model_name(NetworkModel::ideal), NetworkModel::ideal}}),
             "`packet`: every packet of real TCP (ns-3). `fluid`: TCP as flows. `ideal`: bytes / "
             "bandwidth + latency.",
             note)
      .field("preset", &NetworkConfig::preset, name_of(network_preset_names()),
             "A named place (docs/network.md).", {.absent = "none", .replayable = true})
      .then([](NetworkConfig& config) { sim::apply_preset(std::string(config.preset), config); })
      .present_if([](const NetworkConfig& config) { return !config.preset.empty(); })
      .field("seed", &NetworkConfig::seed,
             integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
             "Rolls jitter, loss and rates without training again.", note)
      .field(
          "topology", &NetworkConfig::topology,
          one_of<Topology>(
              {{"chain", Topology::chain}, {"mesh", Topology::mesh}, {"access", Topology::access}}),
          "`chain`: links between neighbours. `mesh`: a link between every pair. `access`: each "
          "rank behind its own up- "
          "and downlink, as at home. Where parallel.context or parallel.data is more than 1 the "
          "default is `mesh`.",
          note)
      .field("links", &NetworkConfig::links, links_table().kind(), "All links.", note)
      .field("overrides", &NetworkConfig::overrides, list_of(override_table().kind()),
             "Links that differ.", note)
      .field("transport", &NetworkConfig::transport, transport_table().kind(),
             "The transport protocol.", note)
      .field(
          "latency_mode", [](auto& config) -> auto& { return config.ideal.serialised_latency; },
          one_of<bool>({{"pipelined", false}, {"serialised", true}}),
          "Model `ideal`: whether latency occupies the link, as in emulators that sleep "
          "(`serialised`).",
          note)
      .field(
          "receiver", [](auto& config) -> auto& { return config.ideal.shared_inbound; },
          one_of<bool>({{"per_link", false}, {"shared_inbound", true}}),
          "Model `ideal`: one clock per link, or one for all that a rank receives.", note);
  return table;
}

}  // namespace strait::scenario
