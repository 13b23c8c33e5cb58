// Writes docs/validation.md: how far the packet model is from Linux's TCP, the fluid model from the
// packet model, and what a packet simulation costs. Every simulation runs in its own process;
// everything but the host times is exact and repeats to the digit.
//
//   network_validation > docs/validation.md
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sim/network/cost.h"
#include "sim/network/path.h"
#include "tests/packet/linux_measurements.h"
#include "tests/packet/play.h"

namespace strait::sim {
namespace {

const std::vector<double> kGaps{0.05, 0.05, 0.3, 0.05, 0.5, 0.05, 1, 0.05, 2};

std::string size_text(double bytes) {
  if (bytes >= 1048576 && std::fmod(bytes, 1048576) == 0)
    return fmt::format("{:.0f} MiB", bytes / 1048576);
  if (bytes >= 1e6) return fmt::format("{:.4g} MB", bytes / 1e6);
  if (std::fmod(bytes, 1024) == 0) return fmt::format("{:.0f} KiB", bytes / 1024);
  return fmt::format("{:.4g} kB", bytes / 1e3);
}

std::string percent(double ratio) { return fmt::format("{:+.1f} %", 100 * (ratio - 1)); }

std::vector<double> model_seconds(NetworkModel model, double rate, double round_trip,
                                  const std::vector<Step>& steps, uint64_t mtu = 1500,
                                  CongestionControl control = CongestionControl::cubic) {
  NetworkConfig config = roomy_link(model, rate, round_trip);
  config.links.mtu = {mtu};
  config.transport.congestion_control = control;
  return seconds_in_turn(config, 2, steps);
}

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(std::lround(q * static_cast<double>(values.size() - 1)))];
}

void against_linux() {
  fmt::print(R"(## 1. The packet model against Linux

Linux 6.18, CUBIC, real sockets between two network namespaces joined by a relay in user space (`linux_reference`; rate,
delay, unlimited queue; medians of five runs, whose middle three differ by the spread given). One connection, one message
cold, then one message after each gap. MTU 1500. Host overhead 0.1 ms in the models. Errors beyond 5 % are bold.

| rate, RTT, message | gap before it | Linux | packet | fluid | packet error | fluid error | spread |
| --- | --- | --- | --- | --- | --- | --- | --- |
)");
  std::vector<double> packet_errors, fluid_errors;
  for (const LinuxMeasurement& row : read_linux_measurements(STRAIT_SOURCE_DIR)) {
    const std::vector<Step> steps = steps_of(row.bytes, row.gaps);
    const auto packet =
        model_seconds(NetworkModel::packet, row.rate_mbps, row.round_trip_ms, steps);
    const auto fluid = model_seconds(NetworkModel::fluid, row.rate_mbps, row.round_trip_ms, steps);
    for (size_t i = 0; i < packet.size(); ++i) {
      const double p = packet[i] / row.seconds[i], f = fluid[i] / row.seconds[i];
      packet_errors.push_back(std::abs(p - 1));
      fluid_errors.push_back(std::abs(f - 1));
      const auto mark = [](double ratio) {
        return std::abs(ratio - 1) > 0.05 ? "**" + percent(ratio) + "**" : percent(ratio);
      };
      // A repeated warm message (gap 50 ms) tells nothing new.
      if (i > 1 && row.gaps[i - 1] == 0.05) continue;
      fmt::print("| {:g} Mbps, {:g} ms, {} | {} | {:.4f} | {:.4f} | {:.4f} | {} | {} | {} |\n",
                 row.rate_mbps, row.round_trip_ms, size_text(row.bytes),
                 i == 0 ? "cold" : fmt::format("{:g} s", row.gaps[i - 1]), row.seconds[i],
                 packet[i], fluid[i], mark(p), mark(f),
                 row.set == "first" ? "single run" : fmt::format("{:.1f} %", 100 * row.spread));
    }
  }
  fmt::print(R"(
Over all {} messages: packet median {:.1f} %, 90th percentile {:.1f} %, worst {:.1f} %; fluid median {:.1f} %, 90th percentile
{:.1f} %, worst {:.1f} %.

)",
             packet_errors.size(), 100 * quantile(packet_errors, 0.5),
             100 * quantile(packet_errors, 0.9), 100 * quantile(packet_errors, 1),
             100 * quantile(fluid_errors, 0.5), 100 * quantile(fluid_errors, 0.9),
             100 * quantile(fluid_errors, 1));
}

void fluid_against_packet() {
  fmt::print(R"(## 2. The fluid model against the packet model

One loss-free flow, ample queue; per cell ten messages: cold, and after gaps of 0.05, 0.05, 0.3, 0.05, 0.5, 0.05, 1, 0.05 and
2 s. The table has the cells with an error beyond 3 %; they are where HyStart, or an idle time near a whole number of
timeouts, falls on one side of a boundary in one model and on the other side in the other. Reno overshoots: rounds are too
coarse for what it then does.

| transport, MTU, rate, RTT, message | gap | packet | fluid | error |
| --- | --- | --- | --- | --- |
)");
  struct Grid {
    CongestionControl control;
    const char* name;
    uint64_t mtu;
    std::vector<double> rates, round_trips;
  };
  std::vector<double> errors;
  size_t bad = 0;
  for (const Grid& grid :
       {Grid{CongestionControl::cubic, "cubic", 1500, {80, 300, 1000}, {2, 10, 50, 100}},
        Grid{CongestionControl::cubic, "cubic", 9000, {1000, 16000}, {0.2, 2, 10}},
        Grid{CongestionControl::reno, "reno", 1500, {80, 300}, {10, 50}},
        Grid{CongestionControl::lossless, "lossless", 9000, {16000, 100000}, {0.02, 0.5}}})
    for (const double rate : grid.rates)
      for (const double round_trip : grid.round_trips)
        for (const double bytes : {131072.0, 1048576.0, 8388608.0}) {
          const auto steps = steps_of(bytes, kGaps);
          const auto packet =
              model_seconds(NetworkModel::packet, rate, round_trip, steps, grid.mtu, grid.control);
          const auto fluid =
              model_seconds(NetworkModel::fluid, rate, round_trip, steps, grid.mtu, grid.control);
          for (size_t i = 0; i < packet.size(); ++i) {
            errors.push_back(std::abs(fluid[i] / packet[i] - 1));
            if (errors.back() <= 0.03) continue;
            ++bad;
            fmt::print("| {}, {}, {:g} Mbps, {:g} ms, {} | {} | {:.4f} | {:.4f} | {} |\n",
                       grid.name, grid.mtu, rate, round_trip, size_text(bytes),
                       i == 0 ? "cold" : fmt::format("{:g} s", kGaps[i - 1]), packet[i], fluid[i],
                       percent(fluid[i] / packet[i]));
          }
        }
  fmt::print(
      "\n{} of {} messages are beyond 3 %; median {:.2f} %, 99th percentile {:.1f} %, worst {:.1f} "
      "%.\n\n",
      bad, errors.size(), 100 * quantile(errors, 0.5), 100 * quantile(errors, 0.99),
      100 * quantile(errors, 1));
}

void contention() {
  fmt::print(R"(## 3. Contention

Access networks of 80 Mbps, 10 ms latency on each side, default queues: messages of 2 MB offered together on cold
connections; seconds that the fastest and the slowest message took. Where data flow both ways, acknowledgements wait behind
data, HyStart takes that for congestion and leaves slow start early: the fluid model does not know this. Packets share a queue in the order in which they come; the
fluid model is fair. Linux itself is erratic here (the slowest of three equal transfers: 1.4 to 3.75 s): compare
distributions, not runs.

| pattern | packet fastest, slowest | fluid fastest, slowest | error of slowest |
| --- | --- | --- | --- |
)");
  struct Pattern {
    const char* name;
    std::vector<Step> steps;
  };
  for (const Pattern& pattern :
       {Pattern{"1 -> 0 alone", {{2e6, 0, 1, 0}}},
        Pattern{"1, 2 -> 0", {{2e6, 0, 1, 0}, {2e6, 0, 2, 0}}},
        Pattern{"1, 2, 3 -> 0", {{2e6, 0, 1, 0}, {2e6, 0, 2, 0}, {2e6, 0, 3, 0}}},
        Pattern{"0 -> 1, 2, 3", {{2e6, 0, 0, 1}, {2e6, 0, 0, 2}, {2e6, 0, 0, 3}}},
        Pattern{"0 <-> 1", {{2e6, 0, 0, 1}, {2e6, 0, 1, 0}}},
        Pattern{"ring of 4", {{2e6, 0, 0, 1}, {2e6, 0, 1, 2}, {2e6, 0, 2, 3}, {2e6, 0, 3, 0}}}}) {
    std::array<std::vector<double>, 2> seconds;
    for (const NetworkModel model : {NetworkModel::packet, NetworkModel::fluid}) {
      NetworkConfig config;
      config.model = model;
      config.topology = Topology::access;
      config.links.latency = {10'000'000};
      for (const Delivery& d : in_child([&] { return play_at_times(config, 4, pattern.steps); }))
        seconds[model == NetworkModel::packet ? 0 : 1].push_back((d.delivered - d.sent).seconds());
    }
    const auto [first, last] = std::minmax_element(seconds[0].begin(), seconds[0].end());
    const auto [fluid_first, fluid_last] =
        std::minmax_element(seconds[1].begin(), seconds[1].end());
    fmt::print("| {} | {:.3f}, {:.3f} | {:.3f}, {:.3f} | {} |\n", pattern.name, *first, *last,
               *fluid_first, *fluid_last, percent(*fluid_last / *last));
  }
  fmt::print("\n");
}

void both_ways() {
  fmt::print(R"(### Both directions at once, against Linux

80 Mbps, 20 ms, unlimited queue, 2 MB each way at the same time on two connections; the slower of the two.

| gap before it | Linux | packet | fluid | packet error | fluid error |
| --- | --- | --- | --- | --- | --- |
)");
  const std::vector<double> gaps{std::begin(BothWays::gaps), std::end(BothWays::gaps)};
  const auto seconds = [&](NetworkModel model) {
    return seconds_both_ways(roomy_link(model, BothWays::rate_mbps, BothWays::round_trip_ms),
                             BothWays::bytes, gaps);
  };
  const auto packet = seconds(NetworkModel::packet), fluid = seconds(NetworkModel::fluid);
  for (size_t i = 0; i < packet.size(); ++i)
    fmt::print("| {} | {:.4f} | {:.4f} | {:.4f} | {} | {} |\n",
               i == 0 ? "cold" : fmt::format("{:g} s", gaps[i - 1]), BothWays::seconds[i],
               packet[i], fluid[i], percent(packet[i] / BothWays::seconds[i]),
               percent(fluid[i] / BothWays::seconds[i]));
  fmt::print("\n");
}

void line_rate() {
  fmt::print(R"(## 4. Line rate of the packet model

One long transfer (15 bandwidth-delay products, at least 1 MB) over a warm connection, buffers of two bandwidth-delay
products, default queues, no host overhead. The half round trip of latency alone costs 3 %, headers 3.6 % (MTU 1500).

| rate, RTT | MTU | share of the line rate |
| --- | --- | --- |
)");
  for (const auto& [rate, round_trip, mtu] : {std::tuple{80.0, 1.0, 1500u},
                                              {80, 10, 1500},
                                              {80, 100, 1500},
                                              {300, 1, 1500},
                                              {300, 10, 1500},
                                              {300, 100, 1500},
                                              {1000, 1, 1500},
                                              {1000, 10, 1500},
                                              {1000, 100, 9000},
                                              {16000, 1, 9000},
                                              {16000, 10, 9000},
                                              {100000, 0.02, 9000},
                                              {100000, 0.1, 9000},
                                              {100000, 1, 9000}}) {
    NetworkConfig config = roomy_link(NetworkModel::packet, rate, round_trip);
    const double product = rate * 1e6 / 8 * round_trip * 1e-3;
    config.links.queue = {0};
    config.links.mtu = {mtu};
    config.transport.buffers = {static_cast<uint64_t>(2 * product)};
    config.transport.host_overhead = {0};
    const double bytes = std::max(15 * product, 1e6);
    const auto seconds = seconds_in_turn(config, 2, {{std::max(6 * product, 1e6)}, {bytes}});
    fmt::print("| {:g} Mbps, {:g} ms | {} | {:.1f} % |\n", rate, round_trip, mtu,
               100 * bytes * 8 / seconds[1] / (rate * 1e6));
  }
  fmt::print("\n");
}

void loss() {
  fmt::print(R"(## 5. Loss: a single run says little

Packet model, 80 Mbps, 50 ms, 4 MiB on a warm connection (0.460 s without loss), ten seeds. Not compared with Linux. There
is no tail-loss probe: losing the last packets of a message costs a timeout of 200 ms and a round trip, where Linux often
repairs it in two round trips.

| loss | transport | fastest | median | slowest |
| --- | --- | --- | --- | --- |
)");
  for (const double loss : {0.0001, 0.001, 0.01})
    for (const auto& [control, name] :
         {std::pair{CongestionControl::cubic, "cubic"}, {CongestionControl::reno, "reno"}}) {
      std::vector<double> seconds;
      for (uint64_t seed = 0; seed < 10; ++seed) {
        NetworkConfig config = roomy_link(NetworkModel::packet, 80, 50);
        config.links.loss = loss;
        config.transport.congestion_control = control;
        config.seed = seed;
        seconds.push_back(seconds_in_turn(config, 2, {{4194304}, {4194304}})[1]);
      }
      fmt::print("| {:g} % | {} | {:.3f} | {:.3f} | {:.3f} |\n", 100 * loss, name,
                 quantile(seconds, 0), quantile(seconds, 0.5), quantile(seconds, 1));
    }
  fmt::print("\n");
}

void hundred_times_smaller() {
  fmt::print(R"(## 6. A message 100 times smaller is not 100 times faster

80 Mbps, 50 ms: 33.6 MB against 336 kB, one every 2 s (so that each follows an idle time), and back to back.

| model | 33.6 MB | 336 kB | faster |
| --- | --- | --- | --- |
)");
  for (const auto& [name, model, gap] : {std::tuple{"ideal", NetworkModel::ideal, 2.0},
                                         {"fluid, after idle", NetworkModel::fluid, 2.0},
                                         {"packet, after idle", NetworkModel::packet, 2.0},
                                         {"packet, warm", NetworkModel::packet, 0.05}}) {
    const double large = model_seconds(model, 80, 50, steps_of(33.6e6, {gap}))[1];
    const double small = model_seconds(model, 80, 50, steps_of(336e3, {gap, gap, gap}))[3];
    fmt::print("| {} | {:.3f} s | {:.4f} s | {:.1f}x |\n", name, large, small, large / small);
  }
  fmt::print("\n");
}

double user_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

void cost() {
  fmt::print(R"(## 7. What a packet simulation costs

CPU seconds of one core on the machine that wrote this file (noisy, +-50 % on a shared machine), against
`predicted_host_seconds`.

| network | traffic | CPU s | predicted | CPU ms a simulated MB |
| --- | --- | --- | --- | --- |
)");
  struct Case {
    const char* name;
    NetworkConfig config;
    int ranks;
    double bytes;
    int messages;
  };
  const auto with = [](NetworkConfig config, uint64_t mtu, double loss = 0,
                       CongestionControl control = CongestionControl::cubic,
                       Topology topology = Topology::chain) {
    config.links.mtu = {mtu};
    config.links.loss = loss;
    config.transport.congestion_control = control;
    config.topology = topology;
    return config;
  };
  const NetworkConfig home = roomy_link(NetworkModel::packet, 80, 50);
  for (const Case& c :
       {Case{"80 Mbps, 50 ms, MTU 1500", with(home, 1500), 2, 33.6e6, 2},
        {"the same", with(home, 1500), 2, 160e3, 400},
        {"the same, 1 % loss", with(home, 1500, 0.01), 2, 33.6e6, 1},
        {"the same, access, 8 ranks",
         with(home, 1500, 0, CongestionControl::cubic, Topology::access), 8, 160e3, 400},
        {"1 Gbps, 50 ms, MTU 1500", with(roomy_link(NetworkModel::packet, 1000, 50), 1500), 2, 50e6,
         2},
        {"1 Gbps, 50 ms, MTU 9000", with(roomy_link(NetworkModel::packet, 1000, 50), 9000), 2,
         100e6, 3},
        {"16 Gbps, 0.5 ms, MTU 9000", with(roomy_link(NetworkModel::packet, 16000, 0.5), 9000), 2,
         100e6, 3},
        {"100 Gbps, 20 us, lossless, MTU 9000",
         with(roomy_link(NetworkModel::packet, 100000, 0.02), 9000, 0, CongestionControl::lossless),
         2, 100e6, 3}}) {
    std::vector<Step> steps;
    for (int i = 0; i < c.messages; ++i)
      steps.push_back({c.bytes, 0.05, i % (c.ranks - 1), i % (c.ranks - 1) + 1});
    const double seconds = in_child([&] {
      const double before = user_seconds();
      play_in_turn(c.config, c.ranks, steps);
      return std::vector<double>{user_seconds() - before};
    })[0];
    const double payload = c.bytes * c.messages;
    const double predicted = predicted_host_seconds(
        c.config, c.ranks, {static_cast<uint64_t>(payload)}, static_cast<uint64_t>(c.messages));
    fmt::print("| {} | {} x {} | {:.2f} | {:.2f} | {:.1f} |\n", c.name, c.messages,
               size_text(c.bytes), seconds, predicted, 1e3 * seconds / (payload / 1e6));
  }
}

}  // namespace
}  // namespace strait::sim

int main() {
  using namespace strait::sim;
  fmt::print(R"(# Validation of the network models

Written by one command; do not edit by hand:

    ninja -C build network_validation && build/tests/bench/network/network_validation > docs/validation.md

What the models are is in [network.md](network.md). The measurements of Linux are in
`tests/bench/network/linux_measurements.csv`, made with `tests/bench/network/linux_reference.cpp`. Bad rows stay in.

)");
  against_linux();
  fluid_against_packet();
  contention();
  both_ways();
  line_rate();
  loss();
  hundred_times_smaller();
  cost();
}
