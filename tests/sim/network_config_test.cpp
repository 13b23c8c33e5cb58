// Overrides, presets, topologies and the checks of a network's configuration.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "sim/network/network.h"
#include "sim/network/path.h"
#include "sim/network/presets.h"

namespace strait::sim {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(NetworkConfig, LaterOverridesWinFieldByField) {
  NetworkConfig config;
  config.overrides.push_back(
      {.bandwidth = BitsPerSecond{10'000'000}, .latency = Nanoseconds{1'000}});
  config.overrides.push_back({.from = 1, .latency = Nanoseconds{2'000}});
  config.overrides.push_back({.from = 1, .to = 2, .mtu = Bytes{9000}});
  EXPECT_EQ(resolve_link(config, 0, 1).latency.count, 1'000);
  EXPECT_EQ(resolve_link(config, 1, 0).latency.count, 2'000);
  EXPECT_EQ(resolve_link(config, 1, 0).mtu.count, 1500u);
  EXPECT_EQ(resolve_link(config, 1, 2).mtu.count, 9000u);
  EXPECT_EQ(resolve_link(config, 1, 2).bandwidth.count, 10'000'000u);
}

TEST(NetworkConfig, AnAccessOverrideWithOnlyFromIsAnUplinkAndWithOnlyToADownlink) {
  NetworkConfig config;
  config.topology = Topology::access;
  config.overrides.push_back({.from = 1, .bandwidth = BitsPerSecond{1'000}});
  config.overrides.push_back({.to = 1, .bandwidth = BitsPerSecond{2'000}});
  EXPECT_EQ(resolve_link(config, 1, -1).bandwidth.count, 1'000u);
  EXPECT_EQ(resolve_link(config, -1, 1).bandwidth.count, 2'000u);
  EXPECT_EQ(resolve_link(config, 0, -1).bandwidth, config.links.bandwidth);
}

TEST(NetworkConfig, EveryTopologyListsItsLinksAndFindsThem) {
  NetworkConfig config;
  for (const auto& [topology, expected] :
       {std::pair{Topology::chain, 6u}, {Topology::mesh, 12u}, {Topology::access, 8u}}) {
    config.topology = topology;
    const LinkMap map(config, 4);
    ASSERT_EQ(map.links().size(), expected);
    for (int from = 0; from < 4; ++from)
      for (int to = 0; to < 4; ++to) {
        if (from == to || (topology == Topology::chain && std::abs(from - to) != 1)) {
          EXPECT_THROW(map.path(from, to), std::invalid_argument);
          continue;
        }
        const Path path = map.path(from, to);
        EXPECT_EQ(map.links()[path.link[0]].from, from);
        EXPECT_EQ(map.links()[path.link[path.hops - 1]].to, to);
        EXPECT_EQ(map.links()[path.link[0]].to, path.hops == 2 ? -1 : to);
      }
  }
}

TEST(NetworkConfig, AnAccessPathAddsLatenciesAndTakesTheSmallerRate) {
  NetworkConfig config;
  config.topology = Topology::access;
  config.links.latency = {5'000'000};
  config.overrides.push_back(
      {.from = 0, .bandwidth = BitsPerSecond{1'000'000}, .latency = Nanoseconds{1'000'000}});
  const LinkMap map(config, 3);
  EXPECT_EQ(map.latency(map.path(0, 1)).count, 6'000'000);
  EXPECT_EQ(map.bottleneck(map.path(0, 1)).count, 1'000'000u);
  EXPECT_EQ(map.bottleneck(map.path(1, 0)), config.links.bandwidth);
  EXPECT_EQ(map.round_trip(0, 1).count, 16'000'000);
}

TEST(NetworkConfig, ImpossibleNetworksAreRefusedWithTheFieldAndWhatIsAllowed) {
  const auto refuses = [](auto change, const char* text) {
    NetworkConfig config;
    change(config);
    EXPECT_THAT([&] { LinkMap(config, 4); }, ThrowsMessage<std::invalid_argument>(HasSubstr(text)));
  };
  refuses([](auto& c) { c.links.bandwidth = {0}; }, "bandwidth is 0");
  refuses([](auto& c) { c.links.jitter = {11'000'000}; }, "half the latency (10000000 ns)");
  refuses([](auto& c) { c.links.loss = 1; }, "loss is 1");
  refuses([](auto& c) { c.links.mtu = {100}; }, "allowed is 576 to 65535");
  refuses([](auto& c) { c.links.bandwidth_jitter = -0.1; }, "bandwidth_jitter");
  refuses([](auto& c) { c.overrides.push_back({.from = 4}); }, "ranks are 0 to 3");
  refuses([](auto& c) { c.overrides.push_back({.from = 0, .to = 2}); }, "neighbours");
  refuses([](auto& c) { c.overrides.push_back({.from = 2, .to = 2}); }, "must differ");
  refuses([](auto& c) { c.transport.connections = 0; }, "transport.connections is 0");
  refuses([](auto& c) { c.transport.initial_window = 0; }, "initial_window");
  refuses(
      [](auto& c) {
        c.links.loss = 0.01;
        c.transport.congestion_control = CongestionControl::bbr;
      },
      "use cubic or reno");
  refuses(
      [](auto& c) {
        c.links.loss = 0.01;
        c.transport.congestion_control = CongestionControl::lossless;
      },
      "lossless");
}

TEST(NetworkConfig, SizesFollowFromTheLink) {
  EXPECT_EQ(segment_payload(Bytes{1500}).count, 1440u);
  EXPECT_EQ(wire_size(Bytes{1440}, Bytes{1500}).count, 1494u);
  EXPECT_EQ(wire_size(Bytes{1441}, Bytes{1500}).count, 1441u + 2 * 54);
  EXPECT_EQ(bandwidth_delay_product({80'000'000}, {50'000'000}).count, 500'000u);
  NetworkConfig config;
  config.links.latency = {25'000'000};
  EXPECT_EQ(queue_size(LinkMap(config, 2), 0).count, 1'000'000u);
  EXPECT_EQ(socket_buffer(config, LinkMap(config, 2), 0, 1).count, 6'000'000u);
  config.links.bandwidth = {1'000'000'000};
  EXPECT_EQ(socket_buffer(config, LinkMap(config, 2), 0, 1).count, 12'500'000u);
  config.links.latency = {0};
  EXPECT_EQ(queue_size(LinkMap(config, 2), 0).count, 64u * 1500);
}

TEST(NetworkPresets, EveryNameAppliesAndIsAValidNetwork) {
  ASSERT_EQ(preset_names().size(), 4u);
  for (const std::string_view name : preset_names()) {
    NetworkConfig config;
    ASSERT_TRUE(apply_preset(name, config)) << name;
    EXPECT_EQ(config.preset, name);
    EXPECT_NO_THROW(LinkMap(config, 4)) << name;
  }
}

TEST(NetworkPresets, AnUnknownNameChangesNothingAndALaterValueWins) {
  NetworkConfig config;
  config.links.mtu = {4000};
  EXPECT_FALSE(apply_preset("home-81m", config));
  EXPECT_EQ(config.links.mtu.count, 4000u);
  EXPECT_EQ(config.preset, "");
  ASSERT_TRUE(apply_preset("datacenter-100g", config));
  EXPECT_EQ(config.links.bandwidth.count, 100'000'000'000u);
  EXPECT_EQ(config.transport.congestion_control, CongestionControl::lossless);
  config.links.latency = {1};
  EXPECT_EQ(resolve_link(config, 0, 1).latency.count, 1);
}

TEST(NetworkPresets, APresetLeavesTopologySeedAndModelAlone) {
  NetworkConfig config;
  config.topology = Topology::access;
  config.seed = 7;
  config.model = NetworkModel::fluid;
  ASSERT_TRUE(apply_preset("home-80m", config));
  EXPECT_EQ(config.topology, Topology::access);
  EXPECT_EQ(config.seed, 7u);
  EXPECT_EQ(config.model, NetworkModel::fluid);
}

}  // namespace
}  // namespace strait::sim
