// SHA-256 as FIPS 180-4 section 6.2 states it: schedule, 64 rounds, add. Plain; some
// 200 MB/s.
#include "sim/scenario/sha256.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

namespace strait::scenario {
namespace {

constexpr int rounds = 64;

// The first 32 bits of the fractional part of the root of each of the first 64 primes: cube roots
// are the round constants, square roots of the first eight the initial state. long double holds 64
// bits, 35 more than are needed.
template <class Root>
std::array<uint32_t, rounds> prime_fractions(Root root) {
  std::array<uint32_t, rounds> result{};
  int found = 0;
  for (int candidate = 2; found < rounds; ++candidate) {
    bool prime = true;
    for (int divisor = 2; divisor * divisor <= candidate; ++divisor)
      prime = prime && candidate % divisor != 0;
    if (!prime) continue;
    const long double value = root(static_cast<long double>(candidate));
    result[static_cast<size_t>(found++)] =
        static_cast<uint32_t>((value - std::floor(value)) * 4294967296.0L);
  }
  return result;
}

uint32_t big_endian(const unsigned char* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 |
         uint32_t{bytes[3]};
}

void compress(std::array<uint32_t, 8>& state, const unsigned char* block,
              const std::array<uint32_t, rounds>& round_constants) {
  std::array<uint32_t, rounds> w{};
  for (size_t t = 0; t < 16; ++t) w[t] = big_endian(block + 4 * t);
  for (size_t t = 16; t < rounds; ++t) {
    const uint32_t s0 = std::rotr(w[t - 15], 7) ^ std::rotr(w[t - 15], 18) ^ w[t - 15] >> 3;
    const uint32_t s1 = std::rotr(w[t - 2], 17) ^ std::rotr(w[t - 2], 19) ^ w[t - 2] >> 10;
    w[t] = w[t - 16] + s0 + w[t - 7] + s1;
  }
  auto [a, b, c, d, e, f, g, h] = state;
  for (size_t t = 0; t < rounds; ++t) {
    const uint32_t sum1 = std::rotr(e, 6) ^ std::rotr(e, 11) ^ std::rotr(e, 25);
    const uint32_t t1 = h + sum1 + ((e & f) ^ (~e & g)) + round_constants[t] + w[t];
    const uint32_t sum0 = std::rotr(a, 2) ^ std::rotr(a, 13) ^ std::rotr(a, 22);
    const uint32_t t2 = sum0 + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1;
    d = c, c = b, b = a, a = t1 + t2;
  }
  const std::array<uint32_t, 8> after = {a, b, c, d, e, f, g, h};
  for (size_t i = 0; i < 8; ++i) state[i] += after[i];
}

const std::array<uint32_t, rounds>& constants() {
  static const auto table = prime_fractions([](long double x) { return std::cbrt(x); });
  return table;
}

}  // namespace

Sha256::Sha256() {
  static const auto roots = prime_fractions([](long double x) { return std::sqrt(x); });
  for (size_t i = 0; i < state_.size(); ++i) state_[i] = roots[i];
}

void Sha256::update(std::string_view text) {
  bytes_ += text.size();
  if (!pending_.empty()) {
    const size_t missing = std::min(kBlock - pending_.size(), text.size());
    pending_ += text.substr(0, missing);
    text.remove_prefix(missing);
    if (pending_.size() < kBlock) return;
    compress(state_, reinterpret_cast<const unsigned char*>(pending_.data()), constants());
    pending_.clear();
  }
  for (; text.size() >= kBlock; text.remove_prefix(kBlock))
    compress(state_, reinterpret_cast<const unsigned char*>(text.data()), constants());
  pending_ = text;
}

std::string Sha256::hex() {
  // Padding: a one bit, zeros, the length in bits as 64-bit big-endian, to a multiple of 64 bytes.
  const uint64_t bits = bytes_ * 8;
  std::string padding = "\x80";
  while ((pending_.size() + padding.size()) % kBlock != 56) padding += '\0';
  for (int shift = 56; shift >= 0; shift -= 8) padding += static_cast<char>(bits >> shift & 0xFF);
  update(padding);
  std::string text;
  for (const uint32_t word : state_) text += fmt::format("{:08x}", word);
  return text;
}

std::string sha256(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.hex();
}

}  // namespace strait::scenario
