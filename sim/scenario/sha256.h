// SHA-256 (FIPS 180-4) of a text or of a stream, for names of things that must not collide: the
// hash of what determines a record, of the files of a finished training.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace strait::scenario {

class Sha256 {
 public:
  Sha256();
  void update(std::string_view text);
  // 64 lower-case hexadecimal digits. Ends the stream: nothing may be added afterwards.
  std::string hex();

 private:
  static constexpr size_t kBlock = 64;
  std::array<uint32_t, 8> state_;
  std::string pending_;  // less than a block
  uint64_t bytes_ = 0;
};

// 64 lower-case hexadecimal digits.
std::string sha256(std::string_view text);

}  // namespace strait::scenario
