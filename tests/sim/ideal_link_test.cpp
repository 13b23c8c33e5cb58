// The ideal network against its closed forms, to the nanosecond.
#include <gtest/gtest.h>

#include "sim/network/network.h"

namespace strait::sim {
namespace {

constexpr int64_t kMillisecond = 1'000'000;

NetworkConfig slow_links() {
  NetworkConfig config;
  config.links.bandwidth = {8'000'000};  // 1 byte a microsecond
  config.links.latency = {20 * kMillisecond};
  return config;
}

std::vector<Delivery> drain(Network& network) {
  std::vector<Delivery> all;
  for (;;) {
    std::vector<Delivery> some;
    network.advance(Nanoseconds::max(), some);
    if (some.empty()) return all;
    all.insert(all.end(), some.begin(), some.end());
  }
}

void expect_exact_parts(const std::vector<Delivery>& deliveries) {
  for (const Delivery& d : deliveries) {
    EXPECT_EQ(d.delivered - d.sent,
              d.host + d.serialisation + d.propagation + d.queue + d.recovery + d.window);
    for (const Nanoseconds part :
         {d.host, d.serialisation, d.propagation, d.queue, d.recovery, d.window})
      EXPECT_GE(part.count, 0);
  }
}

TEST(Ideal, OneMessageTakesBitsOverBandwidthPlusLatency) {
  const auto network = make_ideal(slow_links(), 2);
  network->offer({1, 0, 1, {1000}}, {5});
  const auto deliveries = drain(*network);
  ASSERT_EQ(deliveries.size(), 1u);
  EXPECT_EQ(deliveries[0].delivered.count, 5 + 1 * kMillisecond + 20 * kMillisecond);
  EXPECT_EQ(deliveries[0].serialisation.count, kMillisecond);
  EXPECT_EQ(deliveries[0].propagation.count, 20 * kMillisecond);
  EXPECT_EQ(deliveries[0].host.count, 0);
}

TEST(Ideal, MessagesOfOneDirectionQueueAndTheirLatenciesOverlap) {
  const auto network = make_ideal(slow_links(), 2);
  for (uint64_t i = 0; i < 3; ++i) network->offer({i, 0, 1, {1000}}, {0});
  network->offer({9, 1, 0, {1000}}, {0});
  const auto d = drain(*network);
  ASSERT_EQ(d.size(), 4u);
  EXPECT_EQ(d[0].delivered.count, 21 * kMillisecond);
  EXPECT_EQ(d[1].delivered.count, 21 * kMillisecond);  // the other direction is another link
  EXPECT_EQ(d[2].delivered.count, 22 * kMillisecond);
  EXPECT_EQ(d[3].delivered.count, 23 * kMillisecond);
  EXPECT_EQ(d[3].queue.count, 2 * kMillisecond);
  expect_exact_parts(d);
}

TEST(Ideal, SerialisedLatencyOccupiesTheLink) {
  NetworkConfig config = slow_links();
  config.ideal.serialised_latency = true;
  const auto network = make_ideal(config, 2);
  for (uint64_t i = 0; i < 2; ++i) network->offer({i, 0, 1, {1000}}, {0});
  const auto d = drain(*network);
  EXPECT_EQ(d[0].delivered.count, 21 * kMillisecond);
  EXPECT_EQ(d[1].delivered.count, 42 * kMillisecond);
  expect_exact_parts(d);
}

// arrive = max(previous arrival at this rank, sent) + bits / bandwidth + latency
// (subspace_models 6.4).
TEST(Ideal, OneInboundClockWithSerialisedLatencyIsTheReceiverSideEmulator) {
  NetworkConfig config = slow_links();
  config.ideal = {.serialised_latency = true, .shared_inbound = true};
  const auto network = make_ideal(config, 3);
  network->offer({0, 0, 1, {1000}}, {0});
  network->offer({1, 2, 1, {2000}}, {1 * kMillisecond});
  network->offer({2, 1, 2, {1000}}, {1 * kMillisecond});  // another receiver
  const auto d = drain(*network);
  EXPECT_EQ(d[0].id, 0u);
  EXPECT_EQ(d[0].delivered.count, 21 * kMillisecond);
  EXPECT_EQ(d[1].id, 2u);
  EXPECT_EQ(d[1].delivered.count, 22 * kMillisecond);
  EXPECT_EQ(d[2].delivered.count, 21 * kMillisecond + 22 * kMillisecond);
  expect_exact_parts(d);
}

TEST(Ideal, OneInboundClockWithPipelinedLatencySharesTheReceiversWire) {
  NetworkConfig config = slow_links();
  config.ideal.shared_inbound = true;
  config.overrides.push_back({.from = 2, .to = 1, .latency = Nanoseconds{5 * kMillisecond}});
  const auto network = make_ideal(config, 3);
  network->offer({0, 0, 1, {1000}}, {0});
  network->offer({1, 2, 1, {20'000}},
                 {0});  // offered later, arrives first, holds the wire from 5 to 25 ms
  const auto d = drain(*network);
  EXPECT_EQ(d[0].id, 1u);
  EXPECT_EQ(d[0].delivered.count, 25 * kMillisecond);
  EXPECT_EQ(d[1].delivered.count, 26 * kMillisecond);
  EXPECT_EQ(d[1].queue.count, 5 * kMillisecond);
  expect_exact_parts(d);
}

TEST(Ideal, AnAccessPathCutsThroughAtTheSmallerRate) {
  NetworkConfig config = slow_links();
  config.topology = Topology::access;
  config.overrides.push_back({.from = 0, .bandwidth = BitsPerSecond{4'000'000}});
  const auto network = make_ideal(config, 3);
  network->offer({0, 0, 2, {1000}}, {0});
  const auto d = drain(*network);
  EXPECT_EQ(d[0].delivered.count, 2 * kMillisecond + 40 * kMillisecond);
  EXPECT_EQ(d[0].serialisation.count, 2 * kMillisecond);
  EXPECT_EQ(d[0].queue.count, 0);
}

TEST(Ideal, RanksShareADownlinkAndAnUplink) {
  NetworkConfig config = slow_links();
  config.topology = Topology::access;
  const auto network = make_ideal(config, 3);
  network->offer({0, 0, 2, {1000}}, {0});
  network->offer({1, 1, 2, {1000}}, {0});  // meets the first at the downlink of 2
  network->offer({2, 1, 0, {1000}}, {0});  // behind the second on the uplink of 1
  const auto d = drain(*network);
  EXPECT_EQ(d[0].delivered.count, 41 * kMillisecond);
  EXPECT_EQ(d[1].delivered.count, 42 * kMillisecond);
  EXPECT_EQ(d[2].delivered.count, 42 * kMillisecond);
  expect_exact_parts(d);
  const auto links = network->links();
  ASSERT_EQ(links.size(), 6u);
  EXPECT_EQ(links[2].from, "core");
  EXPECT_EQ(links[2].to, "2");
  EXPECT_EQ(links[2].bytes.count, 2000u);
  EXPECT_EQ(links[2].busy.count, 2 * kMillisecond);
}

TEST(Ideal, JitterKeepsOrderAndBandwidthJitterScalesTheSerialisation) {
  NetworkConfig config = slow_links();
  config.links.jitter = {10 * kMillisecond};
  config.links.bandwidth_jitter = 0.2;
  config.seed = 5;
  const auto network = make_ideal(config, 2);
  std::vector<Delivery> all;
  for (uint64_t i = 0; i < 500; ++i) {
    network->advance({static_cast<int64_t>(i) * 2 * kMillisecond}, all);
    network->offer({i, 0, 1, {1000}}, {static_cast<int64_t>(i) * 2 * kMillisecond});
  }
  const auto rest = drain(*network);
  all.insert(all.end(), rest.begin(), rest.end());
  ASSERT_EQ(all.size(), 500u);
  bool varies = false;
  for (size_t i = 1; i < all.size(); ++i) {
    EXPECT_EQ(all[i].id, i);
    EXPECT_GE(all[i].delivered, all[i - 1].delivered);
    varies = varies || all[i].serialisation != all[0].serialisation;
  }
  EXPECT_TRUE(varies);
  expect_exact_parts(all);
}

TEST(Ideal, AdvanceStopsAtTheFirstDeliveryAndAtTheLimit) {
  const auto network = make_ideal(slow_links(), 2);
  std::vector<Delivery> out;
  EXPECT_EQ(network->advance(Nanoseconds::max(), out), Nanoseconds::max());
  network->offer({0, 0, 1, {1000}}, {0});
  network->offer({1, 0, 1, {1000}}, {0});
  EXPECT_EQ(network->advance({20 * kMillisecond}, out).count, 20 * kMillisecond);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(network->describe_in_flight().find("message 0: 0 -> 1, 1000 bytes"), 0u);
  EXPECT_EQ(network->advance({21 * kMillisecond}, out).count,
            21 * kMillisecond);  // exactly at the limit
  EXPECT_EQ(out.size(), 1u);
  EXPECT_EQ(network->advance(Nanoseconds::max(), out).count, 22 * kMillisecond);
  EXPECT_EQ(network->describe_in_flight(), "");
}

TEST(Ideal, APairThatAChainDoesNotJoinIsRefused) {
  const auto network = make_ideal(slow_links(), 4);
  EXPECT_THROW(network->offer({0, 0, 2, {1}}, {0}), std::invalid_argument);
}

}  // namespace
}  // namespace strait::sim
