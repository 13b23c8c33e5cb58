// Damaged, cut, foreign and hostile record files: an error that says file, byte and reason, never a
// crash and never a wrong step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "sim/record/bytes.h"
#include "sim/record/payload.h"
#include "tests/sim/log_builder.h"
#include "tests/sim/record_file.h"

namespace strait::record {
namespace {

using namespace strait::testing;
using ::testing::HasSubstr;

std::vector<Frame> tiny_record() {
  const PipelineTimes times{1000, 2000, 30, 50};
  return record_of(make_header(2), pipeline_step(2, 2, times, gpipe_order, 1),
                   pipeline_step(2, 2, times, gpipe_order, 2), Evaluation{2, 200, 1.5},
                   RecordFooter{2, 1, "a", "b"});
}

struct Outcome {
  size_t frames = 0;
  bool finished = false;
  std::optional<uint64_t> torn;
  std::string error;
};

Outcome read_all(const std::string& path) {
  Outcome outcome;
  try {
    RecordReader reader(path);
    while (reader.next()) ++outcome.frames;
    outcome.finished = reader.finished();
    outcome.torn = reader.torn_tail();
  } catch (const RecordError& error) {
    outcome.error = error.what();
  }
  return outcome;
}

// Offsets at which frames begin, and the file's size.
std::vector<uint64_t> frame_borders(const std::string& bytes) {
  std::vector<uint64_t> borders = {kFileHeaderBytes};
  while (borders.back() < bytes.size()) {
    uint32_t stored = 0;
    std::memcpy(&stored, bytes.data() + borders.back() + 12, 4);
    borders.push_back(borders.back() + kFrameHeaderBytes + stored);
  }
  return borders;
}

TEST(RecordDamage, EveryFlippedByteIsSeen) {
  for (const Encoding encoding : {Encoding::zstd, Encoding::stored}) {
    TemporaryDirectory directory;
    const std::string path = directory.file("log.strait");
    write_frames(path, tiny_record(), encoding);
    const std::string bytes = read_file(path);
    const auto borders = frame_borders(bytes);
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    const auto put = [&](size_t at, int value) {
      file.seekp(static_cast<std::streamoff>(at)).put(static_cast<char>(value)).flush();
    };
    for (size_t i = 0; i < bytes.size(); ++i) {
      put(i, bytes[i] ^ (1 << (i % 8)));
      const Outcome outcome = read_all(path);
      put(i, bytes[i]);
      ASSERT_FALSE(outcome.error.empty()) << "byte " << i;
      // The offset that is named is the beginning of the frame that holds the byte.
      uint64_t begin = 0;
      for (const uint64_t border : borders)
        if (border <= i) begin = border;
      EXPECT_THAT(outcome.error, HasSubstr(path + ", byte " + std::to_string(begin) + ": "))
          << "byte " << i;
    }
  }
}

TEST(RecordDamage, ACutFileIsATornTailAndNoDamage) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  write_frames(path, tiny_record());
  const std::string bytes = read_file(path);
  const auto borders = frame_borders(bytes);
  for (size_t length = bytes.size(); length-- > 0;) {
    std::filesystem::resize_file(path, length);
    const Outcome outcome = read_all(path);
    ASSERT_EQ(outcome.error, "") << length;
    EXPECT_FALSE(outcome.finished);
    uint64_t whole = 0;
    for (const uint64_t border : borders)
      if (border <= length) whole = border;
    if (whole == length) {
      EXPECT_FALSE(outcome.torn.has_value()) << length;
    } else {
      EXPECT_EQ(outcome.torn, std::optional<uint64_t>(whole)) << length;
    }
  }
}

TEST(RecordDamage, BytesAfterTheFooterAreSeen) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  write_frames(path, tiny_record());
  write_file(path, read_file(path) + "x");
  EXPECT_THAT(read_all(path).error, HasSubstr("1 bytes after the footer"));
}

TEST(RecordDamage, MissingAndDoubledFramesAreSeen) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  write_frames(path, tiny_record());
  const std::string bytes = read_file(path);
  const auto borders = frame_borders(bytes);
  const std::string third = bytes.substr(borders[2], borders[3] - borders[2]);
  write_file(path, bytes.substr(0, borders[2]) + bytes.substr(borders[3]));
  EXPECT_THAT(read_all(path).error, HasSubstr("frame 3 where frame 2 was expected"));
  write_file(path, bytes.substr(0, borders[3]) + third + bytes.substr(borders[3]));
  EXPECT_THAT(read_all(path).error, HasSubstr("frame 2 where frame 3 was expected"));
}

TEST(RecordDamage, ForeignFilesAreNamed) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  write_file(path, "{\"this\": \"is JSON and no record at all\"}");
  EXPECT_THAT(read_all(path).error, HasSubstr("this is not a Strait record"));
  write_file(path, "short");
  EXPECT_THAT(read_all(path).error, HasSubstr("this is not a Strait record"));
  EXPECT_THAT(read_all(directory.file("absent")).error, HasSubstr("No such file or directory"));
  EXPECT_THAT(read_all(directory.path()).error, HasSubstr("this is not a file"));

  auto header = encode_file_header();
  header[8] = 9;
  const uint32_t crc = crc32(std::span(header).first(12));
  std::memcpy(&header[12], &crc, 4);
  write_file(path, std::string(header.begin(), header.end()));
  EXPECT_THAT(read_all(path).error, HasSubstr("format version 9; this program reads version 1"));
}

TEST(RecordDamage, AnErrorStays) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  write_frames(path, tiny_record());
  std::string bytes = read_file(path);
  bytes[20] = static_cast<char>(bytes[20] ^ 1);
  write_file(path, bytes);
  RecordReader reader(path);
  EXPECT_THROW(reader.next(), RecordError);
  EXPECT_THROW(reader.next(), RecordError);
}

// ---- hostile files: right checksums, wrong content ----

// A stored frame around any payload.
std::string frame(FrameType type, uint32_t index, const Buffer& payload,
                  Encoding encoding = Encoding::stored, uint32_t raw = 0) {
  const FrameHeader head{type,
                         encoding,
                         index,
                         encoding == Encoding::stored ? static_cast<uint32_t>(payload.size()) : raw,
                         static_cast<uint32_t>(payload.size()),
                         crc32(payload)};
  const auto bytes = encode_frame_header(head);
  return std::string(bytes.begin(), bytes.end()) + std::string(payload.begin(), payload.end());
}

using Frames = std::vector<std::pair<FrameType, Buffer>>;

std::string error_of(const Frames& frames, const TemporaryDirectory& directory) {
  const auto head = encode_file_header();
  std::string bytes(head.begin(), head.end());
  for (uint32_t i = 0; i < frames.size(); ++i) bytes += frame(frames[i].first, i, frames[i].second);
  write_file(directory.file("log.strait"), bytes);
  return read_all(directory.file("log.strait")).error;
}

std::string error_of(const Frames& frames) {
  TemporaryDirectory directory;
  return error_of(frames, directory);
}

TEST(RecordHostile, LengthsBeyondTheLimitsAreRefusedBeforeAnythingIsAllocated) {
  TemporaryDirectory directory;
  const auto head = encode_file_header();
  FrameHeader huge{FrameType::header, Encoding::stored, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0};
  const auto bytes = encode_frame_header(huge);
  write_file(directory.file("log.strait"),
             std::string(head.begin(), head.end()) + std::string(bytes.begin(), bytes.end()));
  EXPECT_THAT(read_all(directory.file("log.strait")).error,
              HasSubstr("a frame of 4294967295 bytes"));
}

TEST(RecordHostile, BrokenCompressionIsRefused) {
  TemporaryDirectory directory;
  const auto head = encode_file_header();
  write_file(directory.file("log.strait"),
             std::string(head.begin(), head.end()) +
                 frame(FrameType::header, 0, {1, 2, 3, 4, 5, 6, 7, 8}, Encoding::zstd, 1000));
  EXPECT_THAT(read_all(directory.file("log.strait")).error, HasSubstr("cannot be decompressed"));
}

TEST(RecordHostile, NumbersAndCountsAreChecked) {
  const Buffer header = encode(make_header(2));
  const Buffer beyond(11, 0xFF);
  EXPECT_THAT(error_of({{FrameType::header, beyond}}), HasSubstr("beyond 64 bits"));
  EXPECT_THAT(error_of({{FrameType::header, {0xFF, 0xFF, 0x03}}}),
              HasSubstr("the length of a string is 65535"));
  EXPECT_THAT(
      error_of({{FrameType::header, header}, {FrameType::structure, {0, 0xFF, 0xFF, 0x7F}}}),
      HasSubstr("op lists"));
  EXPECT_THAT(error_of({{FrameType::header, header}, {FrameType::structure, {8}}}),
              HasSubstr("a slot is 8; at most 7"));
  Buffer longer = header;
  longer.push_back(0);
  EXPECT_THAT(error_of({{FrameType::header, longer}}), HasSubstr("1 bytes too many"));
  Buffer shorter = header;
  shorter.pop_back();
  EXPECT_THAT(error_of({{FrameType::header, shorter}}),
              HasSubstr("the payload ends in the middle of a field"));
}

TEST(RecordHostile, StepsMustReferToAStructure) {
  const Buffer header = encode(make_header(2));
  const StepLog step = pipeline_step(2, 1, {1, 1, 1, 1}, gpipe_order);
  const Buffer structure = encode_structure(step, 0);
  const Buffer content = encode_step(step, 0, std::vector<uint64_t>(values_of(step).size(), 0));
  EXPECT_EQ(error_of({{FrameType::header, header},
                      {FrameType::structure, structure},
                      {FrameType::step, content}}),
            "");
  EXPECT_THAT(error_of({{FrameType::header, header}, {FrameType::step, content}}),
              HasSubstr("slot 0, which holds no structure"));
  EXPECT_THAT(error_of({{FrameType::structure, structure}}),
              HasSubstr("does not begin with its header"));
  StepLog more = step;
  more.ranks[0].entries.insert(more.ranks[0].entries.end(), 2, step.ranks[0].entries.front());
  const Buffer too_many = encode_step(more, 0, std::vector<uint64_t>(values_of(more).size(), 0));
  EXPECT_THAT(error_of({{FrameType::header, header},
                        {FrameType::structure, structure},
                        {FrameType::step, too_many}}),
              HasSubstr("a change beyond the last of"));
}

// A step may use one op list many times; what that adds up to is bounded.
TEST(RecordHostile, AnOpListThatIsUsedVeryOftenIsRefused) {
  ByteWriter out;
  out.unsigned_(0);
  out.unsigned_(1);       // one list
  out.unsigned_(10'000);  // of ten thousand ops
  for (int i = 0; i < 10'000; ++i)
    for (const uint8_t field : {0, 0, 1, 1}) out.byte(field);
  out.unsigned_(2);      // ranks
  out.unsigned_(2'000);  // entries, each the whole list: 2e7 ops
  for (int i = 0; i < 2'000; ++i)
    for (const uint8_t field : {0, 0, 0, 0, 1, 0}) out.byte(field);
  out.unsigned_(0);
  EXPECT_THAT(
      error_of({{FrameType::header, encode(make_header(2))}, {FrameType::structure, out.take()}}),
      HasSubstr("ops in a step"));
}

// Random changes under right checksums: whatever comes out, it is an error or a step that keeps all
// rules.
TEST(RecordHostile, RandomPayloadsNeverCrash) {
  TemporaryDirectory directory;
  std::mt19937_64 random(17);
  const StepLog step = random_step(random, 3, 1, 60);
  const Buffer header = encode(make_header(3));
  const Buffer structure = encode_structure(step, 0);
  const Buffer content = encode_step(step, 0, std::vector<uint64_t>(values_of(step).size(), 0));
  int errors = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Frames frames = {
        {FrameType::header, header}, {FrameType::structure, structure}, {FrameType::step, content}};
    Buffer& victim = frames[random() % 3].second;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int c = 0; c < changes; ++c)
      victim[random() % victim.size()] = static_cast<uint8_t>(random());
    if (random() % 4 == 0) victim.resize(random() % (victim.size() + 1));
    if (victim.empty()) victim.push_back(0);
    errors += !error_of(frames, directory).empty();
  }
  // Most changes hit an id, a count or an enum; changed sizes and scalars are legal.
  EXPECT_GT(errors, 30);
}

}  // namespace
}  // namespace strait::record
