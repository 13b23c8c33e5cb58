// File and frame headers of the record, and their checksum.
#include "sim/record/format.h"

#include <fmt/format.h>

#include <algorithm>

namespace strait::record {
namespace {

// Eight tables let eight bytes be looked up at once ("slicing"); tables[0] is the plain byte-wise
// one.
constexpr std::array<std::array<uint32_t, 256>, 8> make_crc_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xEDB88320u : 0u);
    tables[0][i] = value;
  }
  for (size_t t = 1; t < 8; ++t)
    for (size_t i = 0; i < 256; ++i)
      tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 0xFF];
  return tables;
}

constexpr auto kCrcTables = make_crc_tables();

void put_u32(uint8_t* out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint32_t get_u32(const uint8_t* in) {
  return uint32_t{in[0]} | uint32_t{in[1]} << 8 | uint32_t{in[2]} << 16 | uint32_t{in[3]} << 24;
}

}  // namespace

uint32_t crc32(std::span<const uint8_t> data, uint32_t seed) {
  uint32_t crc = ~seed;
  const uint8_t* p = data.data();
  size_t left = data.size();
  for (; left >= 8; left -= 8, p += 8) {
    const uint32_t low = get_u32(p) ^ crc, high = get_u32(p + 4);
    crc = kCrcTables[7][low & 0xFF] ^ kCrcTables[6][(low >> 8) & 0xFF] ^
          kCrcTables[5][(low >> 16) & 0xFF] ^ kCrcTables[4][low >> 24] ^
          kCrcTables[3][high & 0xFF] ^ kCrcTables[2][(high >> 8) & 0xFF] ^
          kCrcTables[1][(high >> 16) & 0xFF] ^ kCrcTables[0][high >> 24];
  }
  for (; left > 0; --left, ++p) crc = (crc >> 8) ^ kCrcTables[0][(crc ^ *p) & 0xFF];
  return ~crc;
}

std::array<uint8_t, kFileHeaderBytes> encode_file_header() {
  std::array<uint8_t, kFileHeaderBytes> bytes{};
  std::copy(kMagic.begin(), kMagic.end(), bytes.begin());
  put_u32(&bytes[8], kVersion);
  put_u32(&bytes[12], crc32(std::span(bytes).first(12)));
  return bytes;
}

void check_file_header(std::span<const uint8_t, kFileHeaderBytes> bytes) {
  if (!std::equal(kMagic.begin(), kMagic.end(), bytes.begin()))
    throw std::invalid_argument("this is not a Strait record (the first eight bytes differ)");
  if (get_u32(&bytes[12]) != crc32(bytes.first(12)))
    throw std::invalid_argument("the file header is damaged (wrong checksum)");
  const uint32_t version = get_u32(&bytes[8]);
  if (version != kVersion)
    throw std::invalid_argument(fmt::format(
        "the record has format version {}; this program reads version {}", version, kVersion));
}

std::array<uint8_t, kFrameHeaderBytes> encode_frame_header(const FrameHeader& header) {
  std::array<uint8_t, kFrameHeaderBytes> bytes{};
  bytes[0] = static_cast<uint8_t>(header.type);
  bytes[1] = static_cast<uint8_t>(header.encoding);
  put_u32(&bytes[4], header.index);
  put_u32(&bytes[8], header.raw_length);
  put_u32(&bytes[12], header.stored_length);
  put_u32(&bytes[16], header.payload_crc);
  put_u32(&bytes[20], crc32(std::span(bytes).first(20)));
  return bytes;
}

FrameHeader decode_frame_header(std::span<const uint8_t, kFrameHeaderBytes> bytes, uint32_t index) {
  if (get_u32(&bytes[20]) != crc32(bytes.first(20)))
    throw std::invalid_argument("the frame header is damaged (wrong checksum)");
  const FrameHeader header{static_cast<FrameType>(bytes[0]),
                           static_cast<Encoding>(bytes[1]),
                           get_u32(&bytes[4]),
                           get_u32(&bytes[8]),
                           get_u32(&bytes[12]),
                           get_u32(&bytes[16])};
  if (bytes[0] < 1 || bytes[0] > static_cast<uint8_t>(FrameType::footer))
    throw std::invalid_argument(fmt::format("unknown frame type {}", bytes[0]));
  if (bytes[1] > static_cast<uint8_t>(Encoding::zstd))
    throw std::invalid_argument(fmt::format("unknown frame encoding {}", bytes[1]));
  if (bytes[2] != 0 || bytes[3] != 0)
    throw std::invalid_argument("bytes 2 and 3 of the frame header are not zero");
  if (header.index != index)
    throw std::invalid_argument(
        fmt::format("frame {} where frame {} was expected", header.index, index));
  if (header.raw_length > kMaxRawBytes || header.stored_length > kMaxStoredBytes)
    throw std::invalid_argument(
        fmt::format("a frame of {} bytes (stored in {}); at most {} are allowed", header.raw_length,
                    header.stored_length, kMaxRawBytes));
  if (header.encoding == Encoding::stored && header.raw_length != header.stored_length)
    throw std::invalid_argument(fmt::format("a stored frame whose lengths differ: {} and {}",
                                            header.raw_length, header.stored_length));
  return header;
}

}  // namespace strait::record
