// Records: any bytes end in frames or in a RecordError; the steps that are accepted are then replayed over a network, which ends in
// timings or in an error. Checksums would keep a fuzzer at the door: with bit 0 of the first byte set they are put right first. Bit 1
// chooses the network: ideal or fluid.
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "sim/executor/executor.h"
#include "sim/network/network.h"
#include "sim/record/reader.h"
#include "tests/fuzz/memory_file.h"

namespace {

using namespace strait;

// Makes file header and frame headers valid as far as the bytes reach: magic, indices, lengths that fit, checksums.
void put_right(std::vector<uint8_t>& bytes) {
  using namespace record;
  if (bytes.size() < kFileHeaderBytes) return;
  const auto file_header = encode_file_header();
  std::memcpy(bytes.data(), file_header.data(), file_header.size());
  uint32_t index = 0;
  for (size_t at = kFileHeaderBytes; bytes.size() - at >= kFrameHeaderBytes; ++index) {
    const size_t room = bytes.size() - at - kFrameHeaderBytes;
    FrameHeader head;
    uint32_t raw = 0, stored = 0;
    std::memcpy(&raw, bytes.data() + at + 8, sizeof raw);
    std::memcpy(&stored, bytes.data() + at + 12, sizeof stored);
    head.type = static_cast<FrameType>(1 + bytes[at] % 6);
    head.encoding = static_cast<Encoding>(bytes[at + 1] % 2);
    head.index = index;
    head.stored_length = static_cast<uint32_t>(stored > room ? room : stored);
    head.raw_length = head.encoding == Encoding::stored ? head.stored_length : raw;
    head.payload_crc = crc32({bytes.data() + at + kFrameHeaderBytes, head.stored_length});
    const auto encoded = encode_frame_header(head);
    std::memcpy(bytes.data() + at, encoded.data(), encoded.size());
    at += kFrameHeaderBytes + head.stored_length;
  }
}

size_t entries_of(const record::StepLog& step) {
  size_t count = 0;
  for (const record::RankLog& rank : step.ranks) count += rank.entries.size();
  return count;
}

void replay(const record::RecordHeader& header, std::vector<record::StepLog> steps, bool fluid) {
  const int ranks = static_cast<int>(header.ranks.size());
  sim::NetworkConfig config;
  config.topology = sim::Topology::mesh;
  const auto network = fluid ? sim::make_fluid(config, ranks) : sim::make_ideal(config, ranks);
  const sim::Device device = sim::Device::roofline(sim::find_card("A10G"));
  sim::Executor executor(std::vector<sim::Device>(header.ranks.size(), device), *network);
  for (record::StepLog& step : steps) executor.feed(std::move(step));
  executor.finish();
  while (executor.next()) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  if (data[0] % 2 == 1) put_right(bytes);
  const fuzz::MemoryFile file(bytes.data(), bytes.size());
  record::RecordHeader header;
  std::vector<record::StepLog> steps;
  size_t entries = 0;
  try {
    record::RecordReader reader(file.path());
    while (std::optional<record::Frame> frame = reader.next()) {
      if (auto* read = std::get_if<record::RecordHeader>(&*frame)) header = std::move(*read);
      if (auto* step = std::get_if<record::StepLog>(&*frame)) {
        entries += entries_of(*step);
        if (entries < 20000) steps.push_back(std::move(*step));
      }
    }
  } catch (const record::RecordError&) {
  }
  if (steps.empty() || header.ranks.size() > 64) return 0;
  try {
    replay(header, std::move(steps), (data[0] & 2) != 0);
  } catch (const sim::SimulationError&) {  // ranks that wait for each other
  } catch (const std::overflow_error&) {   // more than 2^53 ns of computing
  }
  return 0;
}
