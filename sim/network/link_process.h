// The random processes of a link: the rate of each message and the delay at each moment. Both are
// pure functions of (network seed, link name, message index or time), so every model sees the same
// weather and a replay repeats it.
//
//   rate of message i   N(B, sigma B), clamped to [0.1 B, 2 B]
//   delay at time t     latency + x(t), x an Ornstein-Uhlenbeck process with standard deviation
//   `jitter`, tau = 50 ms:
//                       x[k+1] = rho x[k] + sqrt(1 - rho^2) n[k] every 5 ms, rho = exp(-0.1),
//                       linear in between
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "sim/network/config.h"

namespace strait::sim {

enum class StreamPurpose : uint64_t { rate = 1, delay = 2, loss = 3 };

// The key of one random stream.
uint64_t stream_key(uint64_t seed, std::string_view link_name, StreamPurpose purpose);

// The index-th standard normal variate of a stream; any order of calls gives the same values.
double stream_normal(uint64_t key, uint64_t index);

// Uniform in (0, 1).
double stream_uniform(uint64_t key, uint64_t index);

class RateProcess {
 public:
  RateProcess(const LinkConfig& link, uint64_t seed, std::string_view link_name);
  BitsPerSecond rate(uint64_t message_index) const;

 private:
  BitsPerSecond mean_;
  double sigma_share_;
  uint64_t key_;
};

class DelayProcess {
 public:
  DelayProcess(const LinkConfig& link, uint64_t seed, std::string_view link_name);

  // The delay of what enters the link at `time` (>= 0), never negative. Constant (the latency)
  // without jitter. Costs O(1) for calls near each other in time, a few microseconds after a jump.
  Nanoseconds delay(Nanoseconds time);

 private:
  double grid_value(int64_t index);

  Nanoseconds latency_;
  double sigma_ns_;
  uint64_t key_;
  int64_t block_ = -1;
  std::vector<double> values_;  // x at the grid points of block_, and at the first one after it
};

}  // namespace strait::sim
