// A long transfer over a warm connection fills its link: buffers of two bandwidth-delay products,
// default queues.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/packet/play.h"

namespace strait::sim {
namespace {

struct Line {
  double rate_mbps, round_trip_ms;
  uint64_t mtu;
};

class PacketLineRate : public testing::TestWithParam<Line> {};

// A transfer of n round trips can reach n / (n + 1/2) of the goodput (96.4 % of the rate at MTU
// 1500): with 15 of them 93 % is the ceiling and 90 % leaves 3 % for the transport.
TEST_P(PacketLineRate, AWarmTransferReachesNinetyPercent) {
  const Line line = GetParam();
  NetworkConfig config = roomy_link(NetworkModel::packet, line.rate_mbps, line.round_trip_ms);
  const double product = line.rate_mbps * 1e6 / 8 * line.round_trip_ms * 1e-3;
  config.links.queue = {0};
  config.links.mtu = {line.mtu};
  config.transport.buffers = {static_cast<uint64_t>(2 * product)};
  config.transport.host_overhead = {0};
  const double warm_up = std::max(6 * product, 1e6), transfer = std::max(15 * product, 1e6);
  const std::vector<double> seconds = seconds_in_turn(config, 2, {{warm_up}, {transfer}});
  EXPECT_GE(transfer * 8 / seconds[1], 0.9 * line.rate_mbps * 1e6) << seconds[1] << " s";
}

INSTANTIATE_TEST_SUITE_P(
    Lines, PacketLineRate,
    testing::Values(Line{80, 1, 1500}, Line{80, 10, 1500}, Line{80, 100, 1500}, Line{300, 1, 1500},
                    Line{300, 10, 1500}, Line{300, 100, 1500}, Line{1000, 1, 1500},
                    Line{1000, 10, 1500}, Line{1000, 100, 9000}, Line{16000, 1, 9000},
                    Line{16000, 10, 9000}, Line{100000, 0.02, 9000}, Line{100000, 0.1, 9000},
                    Line{100000, 1, 9000}),
    [](const auto& line) {
      return std::to_string(static_cast<int>(line.param.rate_mbps)) + "Mbps" +
             std::to_string(static_cast<int>(line.param.round_trip_ms * 1000)) + "us";
    });

}  // namespace
}  // namespace strait::sim
