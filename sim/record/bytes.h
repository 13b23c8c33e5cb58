// Appends numbers and strings to a buffer, and reads them back from bytes that nobody vouches for:
// every read checks what is left, every number its range, and an error names the byte. The
// encodings are those of sim/record/payload.h.
#pragma once

#include <bit>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "sim/record/format.h"

namespace strait::record {

class ByteWriter {
 public:
  void byte(uint8_t value) { bytes_.push_back(value); }
  void unsigned_(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<uint8_t>(value | 0x80));
    bytes_.push_back(static_cast<uint8_t>(value));
  }
  void signed_(int64_t value) {
    unsigned_((static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63));
  }
  void real(double value) {
    const uint64_t bits = std::bit_cast<uint64_t>(value);
    for (int i = 0; i < 8; ++i) bytes_.push_back(static_cast<uint8_t>(bits >> (8 * i)));
  }
  void string(const std::string& value) {
    unsigned_(value.size());
    bytes_.insert(bytes_.end(), value.begin(), value.end());
  }
  std::vector<uint8_t> take() { return std::move(bytes_); }

 private:
  std::vector<uint8_t> bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t left() const { return bytes_.size() - at_; }

  uint8_t byte() {
    if (at_ >= bytes_.size()) fail("the payload ends in the middle of a field");
    return bytes_[at_++];
  }

  uint64_t unsigned_() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint8_t next = byte();
      if (shift == 63 && next > 1) fail("a number beyond 64 bits");
      value |= static_cast<uint64_t>(next & 0x7F) << shift;
      if (next < 0x80) return value;
    }
    fail("a number beyond 64 bits");
  }

  int64_t signed_() {
    const uint64_t value = unsigned_();
    return static_cast<int64_t>((value >> 1) ^ (~(value & 1) + 1));
  }

  // A number of at most `most`; `what` names it in the error.
  uint64_t at_most(uint64_t most, const char* what) {
    const uint64_t value = unsigned_();
    if (value > most)
      fail(std::string(what) + " is " + std::to_string(value) + "; at most " +
           std::to_string(most) + " is allowed");
    return value;
  }

  // How many items follow, of which each takes at least one byte: never more than there can be.
  uint64_t count(uint64_t most, const char* what) {
    const uint64_t value = at_most(most, what);
    if (value > left())
      fail(std::string(what) + " is " + std::to_string(value) + ", more than the payload holds");
    return value;
  }

  int32_t microbatch() {
    const int64_t value = signed_();
    if (value < -1 || value > INT32_MAX) fail("microbatch " + std::to_string(value));
    return static_cast<int32_t>(value);
  }

  double real() {
    uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits |= static_cast<uint64_t>(byte()) << (8 * i);
    return std::bit_cast<double>(bits);
  }

  std::string string() {
    const uint64_t length = count(kMaxStringBytes, "the length of a string");
    std::string value(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return value;
  }

  void finish() {
    if (left() != 0) fail(std::to_string(left()) + " bytes too many");
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument(what + " (at byte " + std::to_string(at_) + " of the payload)");
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

}  // namespace strait::record
