// Counter-based random numbers (Philox 4x32-10, Salmon et al. 2011): the value at an index is a pure function of
// (seed, purpose, step, tensor, index), never of a thread, a rank or a call order. Same bits on every machine.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace strait {

// 64-bit FNV-1a, finalised; used to key streams by names.
constexpr uint64_t hash_name(std::string_view name, uint64_t seed = 0) {
  uint64_t h = 0xcbf29ce484222325ull ^ (seed * 0x9e3779b97f4a7c15ull);
  for (char c : name) {
    h ^= static_cast<uint8_t>(c);
    h *= 0x100000001b3ull;
  }
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdull;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53ull;
  h ^= h >> 33;
  return h;
}

struct Philox {
  uint64_t key = 0;

  // Four independent 32-bit words for block `index` of stream `stream`.
  constexpr std::array<uint32_t, 4> operator()(uint64_t stream, uint64_t index) const {
    std::array<uint32_t, 4> c = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                 static_cast<uint32_t>(stream),
                                 static_cast<uint32_t>(stream >> 32)};
    auto k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
      c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
           static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }

  // A uniform 64-bit word for `index`.
  constexpr uint64_t word(uint64_t stream, uint64_t index) const {
    const auto w = (*this)(stream, index);
    return (static_cast<uint64_t>(w[1]) << 32) | w[0];
  }
};

// The standard normal value at `index` of `stream`: the inverse normal distribution function (Acklam's rational
// approximation, relative error < 1.2e-9, far below fp32 rounding) of a 53-bit uniform. Only +, *, / and sqrt, plus one log
// in the tails, so that the bits do not depend on a vector maths library.
double normal_at(const Philox& rng, uint64_t stream, uint64_t index);

}  // namespace strait
