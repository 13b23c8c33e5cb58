// Plays messages over a network model, and does so in a process of its own for the packet model:
// ns-3 is process-wide, and a test must neither inherit nor leave anything.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "sim/network/network.h"

namespace strait::sim {

// One message, offered `gap_s` after the one before it was delivered (the first: at 1 s + gap_s).
struct Step {
  double bytes = 0;
  double gap_s = 0;
  int from = 0;
  int to = 1;
};

inline std::unique_ptr<Network> make_network(const NetworkConfig& config, int ranks) {
  switch (config.model) {
    case NetworkModel::ideal:
      return make_ideal(config, ranks);
    case NetworkModel::fluid:
      return make_fluid(config, ranks);
    case NetworkModel::packet:
      return make_packet(config, ranks);
  }
  return nullptr;
}

// One after the other.
inline std::vector<Delivery> play_in_turn(const NetworkConfig& config, int ranks,
                                          const std::vector<Step>& steps) {
  const auto network = make_network(config, ranks);
  std::vector<Delivery> all;
  Nanoseconds now{1'000'000'000};
  for (size_t i = 0; i < steps.size(); ++i) {
    now += Nanoseconds::from_seconds(steps[i].gap_s);
    network->offer({i, steps[i].from, steps[i].to, {static_cast<uint64_t>(steps[i].bytes)}}, now);
    now = network->advance(Nanoseconds::max(), all);
  }
  return all;
}

// Each at its own time: `gap_s` counts from 1 s.
inline std::vector<Delivery> play_at_times(const NetworkConfig& config, int ranks,
                                           const std::vector<Step>& steps) {
  const auto network = make_network(config, ranks);
  std::vector<Delivery> all;
  for (size_t i = 0; i < steps.size(); ++i) {
    const Nanoseconds when{1'000'000'000 + Nanoseconds::from_seconds(steps[i].gap_s).count};
    while (network->advance(when, all) < when) {
    }
    network->offer({i, steps[i].from, steps[i].to, {static_cast<uint64_t>(steps[i].bytes)}}, when);
  }
  for (size_t before = 0; all.size() < steps.size(); before = all.size()) {
    network->advance(Nanoseconds::max(), all);
    if (all.size() == before) throw std::logic_error("nothing was delivered");
  }
  return all;
}

// Runs `work` (returning a std::vector of trivially copyable values) in a child process. What it
// throws is thrown here, as std::runtime_error with the same text.
template <class Work>
auto in_child(const Work& work) -> decltype(work()) {
  using Values = decltype(work());
  using Value = typename Values::value_type;
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe failed");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::runtime_error("fork failed");
  if (child == 0) {
    close(ends[0]);
    std::string bytes(1, 'v');
    try {
      const Values values = work();
      bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value));
    } catch (const std::exception& e) {
      bytes = std::string("e") + e.what();
    }
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t n = write(ends[1], bytes.data() + at, bytes.size() - at);
      if (n <= 0) break;
      at += static_cast<size_t>(n);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string bytes;
  char buffer[65536];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof buffer)) > 0;)
    bytes.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (bytes.empty()) throw std::runtime_error("the child process died");
  if (bytes[0] == 'e') throw std::runtime_error(bytes.substr(1));
  Values values((bytes.size() - 1) / sizeof(Value));
  if (!values.empty())
    std::copy(bytes.begin() + 1, bytes.end(), reinterpret_cast<char*>(values.data()));
  return values;
}

// Seconds from offer to delivery of messages sent in turn; a packet simulation gets its own
// process.
inline std::vector<double> seconds_in_turn(const NetworkConfig& config, int ranks,
                                           const std::vector<Step>& steps) {
  const auto work = [&] {
    std::vector<double> seconds;
    for (const Delivery& d : play_in_turn(config, ranks, steps))
      seconds.push_back((d.delivered - d.sent).seconds());
    return seconds;
  };
  return config.model == NetworkModel::packet ? in_child(work) : work();
}

// A link of the given rate and round trip, with a queue that holds whatever comes.
inline NetworkConfig roomy_link(NetworkModel model, double rate_mbps, double round_trip_ms) {
  NetworkConfig config;
  config.model = model;
  config.links.bandwidth = {static_cast<uint64_t>(rate_mbps * 1e6 + 0.5)};
  config.links.latency = Nanoseconds::from_seconds(round_trip_ms * 1e-3 / 2);
  config.links.queue = {1'000'000'000};
  return config;
}

// Messages of `bytes` both ways at once between two ranks, again after each gap from the completion
// of both: the seconds of the slower one of each pair.
inline std::vector<double> seconds_both_ways(const NetworkConfig& config, double bytes,
                                             const std::vector<double>& gaps) {
  const auto work = [&] {
    const auto network = make_network(config, 2);
    std::vector<double> slower;
    Nanoseconds now{1'000'000'000};
    for (size_t i = 0; i <= gaps.size(); ++i) {
      if (i > 0) now += Nanoseconds::from_seconds(gaps[i - 1]);
      const Nanoseconds start = now;
      for (const int from : {0, 1})
        network->offer(
            {2 * i + static_cast<size_t>(from), from, 1 - from, {static_cast<uint64_t>(bytes)}},
            start);
      for (std::vector<Delivery> out; out.size() < 2;)
        now = network->advance(Nanoseconds::max(), out);
      slower.push_back((now - start).seconds());
    }
    return slower;
  };
  return config.model == NetworkModel::packet ? in_child(work) : work();
}

// The messages of one row of a measurement: one cold, then one after each gap.
inline std::vector<Step> steps_of(double bytes, const std::vector<double>& gaps) {
  std::vector<Step> steps{{bytes}};
  for (const double gap : gaps) steps.push_back({bytes, gap});
  return steps;
}

}  // namespace strait::sim
