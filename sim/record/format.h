// The constants and the frame layout of a record file, `RUN/record/log.strait`;
// docs/record_format.md describes the whole. A file is a file header and then frames. Every byte is
// covered by a checksum, so damage is always seen and located.
//
//   file header (16 bytes)   magic[8], version u32, crc u32 (of the 12 bytes before)
//   frame header (24 bytes)  type u8, encoding u8, zero u16, index u32, raw_length u32,
//   stored_length u32,
//                            payload_crc u32 (of the stored bytes), header_crc u32 (of the 20 bytes
//                            before)
//   payload                  stored_length bytes
//
// Integers are little-endian; crc is CRC-32 as in zlib and PNG (polynomial 0xEDB88320).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace strait::record {

inline constexpr std::array<uint8_t, 8> kMagic = {0x93, 'S', 'T', 'R', 'A', 'I', 'T', '\n'};
inline constexpr uint32_t kVersion = 1;
inline constexpr size_t kFileHeaderBytes = 16;
inline constexpr size_t kFrameHeaderBytes = 24;

enum class FrameType : uint8_t {
  header = 1,
  structure = 2,
  step = 3,
  evaluation = 4,
  diagnostic = 5,
  footer = 6
};
enum class Encoding : uint8_t { stored = 0, zstd = 1 };

// Limits that a reader enforces before it allocates, and a writer before it writes.
inline constexpr uint32_t kMaxRawBytes = 64u << 20;     // of one frame's payload
inline constexpr uint32_t kMaxStoredBytes = 65u << 20;  // zstd may grow what does not compress
inline constexpr uint64_t kMaxStringBytes = 64u << 10;
inline constexpr uint64_t kMaxRanks = 4096;
inline constexpr uint64_t kMaxOpNames = 65535;
inline constexpr uint64_t kMaxEntries = 2u << 20;  // of one step, all ranks
inline constexpr uint64_t kMaxOps =
    8u << 20;                          // of one step, op lists repeated as often as they are used
inline constexpr uint64_t kSlots = 8;  // structures that are remembered
inline constexpr int64_t kMaxMeasured = int64_t{1}
                                        << 50;  // nanoseconds of one compute entry: 13 days
inline constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 48;

struct FrameHeader {
  FrameType type = FrameType::header;
  Encoding encoding = Encoding::stored;
  uint32_t index = 0;  // 0, 1, 2 ...: a frame that is missing or doubled is seen
  uint32_t raw_length = 0;
  uint32_t stored_length = 0;
  uint32_t payload_crc = 0;
};

// CRC-32 of `data`, going on from `seed` (0 to start).
uint32_t crc32(std::span<const uint8_t> data, uint32_t seed = 0);

std::array<uint8_t, kFileHeaderBytes> encode_file_header();
// Throws std::invalid_argument that says what is wrong: another magic, another version, a wrong
// checksum.
void check_file_header(std::span<const uint8_t, kFileHeaderBytes> bytes);

std::array<uint8_t, kFrameHeaderBytes> encode_frame_header(const FrameHeader& header);
// Throws std::invalid_argument that says what is wrong. `index` is the one expected.
FrameHeader decode_frame_header(std::span<const uint8_t, kFrameHeaderBytes> bytes, uint32_t index);

// A record that cannot be read or written. The text says file, byte offset and what is wrong.
class RecordError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace strait::record
