// Counter-based streams for the random processes of a link; see link_process.h. The
// Ornstein-Uhlenbeck path is made in blocks, each started from its own past far enough back (12.8
// tau) that the seam is 3e-6 of a standard deviation: that is what makes the value at t independent
// of which times were asked before.
#include "sim/network/link_process.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strait::sim {
namespace {

constexpr int64_t kGridNanoseconds = 5'000'000;
constexpr int64_t kBlock = 128;
constexpr double kTauNanoseconds = 50e6;

uint64_t mix(uint64_t x) {  // the splitmix64 finaliser
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

double unit_interval(uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}  // in (0, 1)

}  // namespace

uint64_t stream_key(uint64_t seed, std::string_view link_name, StreamPurpose purpose) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : link_name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mix(mix(mix(seed) ^ hash) ^ static_cast<uint64_t>(purpose));
}

double stream_normal(uint64_t key, uint64_t index) {
  const uint64_t first = mix(key ^ mix(2 * index));
  const uint64_t second = mix(key ^ mix(2 * index + 1));
  return std::sqrt(-2.0 * std::log(unit_interval(first))) *
         std::cos(2.0 * std::numbers::pi * unit_interval(second));
}

double stream_uniform(uint64_t key, uint64_t index) { return unit_interval(mix(key ^ mix(index))); }

RateProcess::RateProcess(const LinkConfig& link, uint64_t seed, std::string_view link_name)
    : mean_(link.bandwidth),
      sigma_share_(link.bandwidth_jitter),
      key_(stream_key(seed, link_name, StreamPurpose::rate)) {}

BitsPerSecond RateProcess::rate(uint64_t message_index) const {
  if (sigma_share_ == 0) return mean_;
  const double factor =
      std::clamp(1.0 + sigma_share_ * stream_normal(key_, message_index), 0.1, 2.0);
  return {std::max<uint64_t>(
      1, static_cast<uint64_t>(factor * static_cast<double>(mean_.count) + 0.5))};
}

DelayProcess::DelayProcess(const LinkConfig& link, uint64_t seed, std::string_view link_name)
    : latency_(link.latency), key_(stream_key(seed, link_name, StreamPurpose::delay)) {
  // Linear interpolation averages neighbours; this factor restores the standard deviation over a
  // uniformly chosen time.
  const double rho = std::exp(-static_cast<double>(kGridNanoseconds) / kTauNanoseconds);
  sigma_ns_ = static_cast<double>(link.jitter.count) / std::sqrt((2.0 + rho) / 3.0);
}

double DelayProcess::grid_value(int64_t index) {
  const int64_t block = index / kBlock;
  if (block != block_) {
    const double rho = std::exp(-static_cast<double>(kGridNanoseconds) / kTauNanoseconds);
    const double innovation = std::sqrt(1.0 - rho * rho);
    const int64_t first = block * kBlock;
    values_.resize(kBlock + 1);
    // The counter is offset by one block so that the past of block 0 has indices, too.
    double x = stream_normal(key_, static_cast<uint64_t>(first));
    for (int64_t k = first - kBlock + 1; k <= first + kBlock; ++k) {
      x = rho * x + innovation * stream_normal(key_, static_cast<uint64_t>(k + kBlock));
      if (k >= first) values_[static_cast<size_t>(k - first)] = x;
    }
    block_ = block;
  }
  return values_[static_cast<size_t>(index - block * kBlock)];
}

Nanoseconds DelayProcess::delay(Nanoseconds time) {
  if (sigma_ns_ == 0) return latency_;
  const int64_t index = time.count / kGridNanoseconds;
  const double share =
      static_cast<double>(time.count % kGridNanoseconds) / static_cast<double>(kGridNanoseconds);
  const double here = grid_value(index);
  const double next = values_[static_cast<size_t>(index % kBlock + 1)];
  const double x = sigma_ns_ * (here + share * (next - here));
  return {std::max<int64_t>(0, latency_.count + static_cast<int64_t>(std::llround(x)))};
}

}  // namespace strait::sim
