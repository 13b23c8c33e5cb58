// SHA-256 (FIPS 180-4), the identity of corpora, checkpoints, scenarios and finished trainings. Streaming; about 300 MB/s on one
// core. It lies here because both halves of the program need it and nothing else is included by both.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace strait {

class Sha256 {
 public:
  void update(std::span<const uint8_t> data);
  void update(std::string_view text);
  std::string hex();  // 64 lower-case digits; ends the stream: nothing may be added afterwards

 private:
  void block(const uint8_t* data);
  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};
  size_t pending_bytes_ = 0;
  uint64_t total_bytes_ = 0;
};

std::string sha256_hex(std::string_view text);
std::string sha256_hex(std::span<const uint8_t> data);

}  // namespace strait
