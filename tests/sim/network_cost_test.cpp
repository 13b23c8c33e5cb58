// The predicted cost of a packet simulation: grows with packets, not with bytes, and with what a
// topology adds.
#include "sim/network/cost.h"

#include <gtest/gtest.h>

namespace strait::sim {
namespace {

TEST(NetworkCost, IsLinearInPacketsAndFallsWithTheMtu) {
  NetworkConfig config;
  const double nothing = predicted_host_seconds(config, 4, {0}, 0);
  const double some = predicted_host_seconds(config, 4, {100'000'000}, 0) - nothing;
  EXPECT_GT(nothing, 0);
  EXPECT_NEAR((predicted_host_seconds(config, 4, {300'000'000}, 0) - nothing) / some, 3.0, 1e-9);
  config.links.mtu = {9000};
  EXPECT_NEAR((predicted_host_seconds(config, 4, {100'000'000}, 0) - nothing) / some,
              1440.0 / 8940.0, 1e-9);
}

TEST(NetworkCost, AccessNetworksAndConnectionsCostMore) {
  NetworkConfig config;
  const double chain = predicted_host_seconds(config, 8, {10'000'000}, 100);
  config.topology = Topology::access;
  const double access = predicted_host_seconds(config, 8, {10'000'000}, 100);
  config.transport.connections = 4;
  EXPECT_GT(access, chain);
  EXPECT_GT(predicted_host_seconds(config, 8, {10'000'000}, 100), access);
}

}  // namespace
}  // namespace strait::sim
