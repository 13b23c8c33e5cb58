// Token shards: written and read back, foreign ones as their programs write them, and hostile ones.
#include "engine/data/shard.h"

#include <gmock/gmock.h>

#include <numeric>

#include "tests/engine/data_support.h"

namespace strait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ShardTest : public DataTest {
 protected:
  // As llm.c's data scripts write it: header words 3 to 255 are zero.
  std::filesystem::path llmc(int32_t magic, int32_t version, int32_t count,
                             const std::string& tokens) {
    std::vector<int32_t> header(256);
    header[0] = magic, header[1] = version, header[2] = count;
    return file(raw(header) + tokens);
  }
  std::filesystem::path file(const std::string& content) {
    const auto path = folder / "hostile.bin";
    write_bytes(path, content);
    return path;
  }
  std::string error_opening(const std::filesystem::path& path) {
    return error_of<std::runtime_error>([&] { Shard shard(path); });
  }
  static std::vector<int32_t> all(const Shard& shard, int32_t vocabulary) {
    std::vector<int32_t> tokens(static_cast<size_t>(shard.tokens()));
    shard.read(0, shard.tokens(), vocabulary, tokens.data());
    return tokens;
  }
};

TEST_F(ShardTest, ReadsForeignFilesOfAllThreeFormats) {
  const Shard v1(llmc(20240520, 1, 3, raw<uint16_t>({50256, 0, 7})));
  EXPECT_EQ(v1.format(), ShardFormat::llmc_v1);
  EXPECT_THAT(all(v1, 50257), ElementsAre(50256, 0, 7));
  EXPECT_EQ(v1.metadata(), TokenMetadata{}) << "zeros mean unknown";
  const Shard v7(llmc(20240801, 7, 2, raw<uint32_t>({128000, 5})));
  EXPECT_EQ(v7.format(), ShardFormat::llmc_v7);
  EXPECT_THAT(all(v7, 128256), ElementsAre(128000, 5));
  const Shard headerless(file(raw<uint16_t>({11, 12, 13, 14})));
  EXPECT_EQ(headerless.format(), ShardFormat::nanogpt);
  EXPECT_THAT(all(headerless, 50257), ElementsAre(11, 12, 13, 14));
}

TEST_F(ShardTest, RoundTripsOverSeveralFilesWithMetadata) {
  for (const int32_t vocabulary : {300, 65536, 65537, 128256}) {
    const auto directory = folder / std::to_string(vocabulary);
    std::filesystem::create_directory(directory);
    const TokenMetadata metadata{vocabulary, 0x123456789abcdef0u, 257};
    ShardWriter writer(directory, metadata, 100);
    std::vector<int32_t> tokens(250);
    std::iota(tokens.begin(), tokens.end(), vocabulary - 250);
    writer.write(std::span(tokens).first(30));
    writer.write(std::span(tokens).subspan(30));
    EXPECT_EQ(writer.finish(), 250);
    std::vector<std::unique_ptr<Shard>> shards;
    for (int i = 0; i < 3; ++i) {
      shards.push_back(
          std::make_unique<Shard>(directory / ("tokens_00000" + std::to_string(i) + ".bin")));
      EXPECT_EQ(shards.back()->metadata(), metadata);
      EXPECT_EQ(shards.back()->format(),
                vocabulary <= 65536 ? ShardFormat::llmc_v1 : ShardFormat::llmc_v7);
    }
    const TokenStream stream(std::move(shards), vocabulary);
    ASSERT_EQ(stream.size(), 250);
    std::vector<int32_t> back(250), middle(120);
    stream.read(0, 250, back.data());
    EXPECT_EQ(back, tokens);
    stream.read(90, 120, middle.data());  // ends in the third file
    EXPECT_TRUE(std::equal(middle.begin(), middle.end(), tokens.begin() + 90));
  }
}

TEST_F(ShardTest, RefusesToWriteTokensOutsideOfTheVocabulary) {
  ShardWriter writer(folder, {.vocabulary = 10});
  const std::vector<int32_t> bad = {3, 10};
  EXPECT_THROW(writer.write(bad), std::out_of_range);
}

TEST_F(ShardTest, AnUnfinishedFileIsRefused) {
  {
    ShardWriter writer(folder, {.vocabulary = 10});
    writer.write(std::vector<int32_t>{1, 2, 3});
  }
  EXPECT_THAT(error_opening(folder / "tokens_000000.bin"), HasSubstr("unknown magic number 0"));
}

TEST_F(ShardTest, RefusesDamagedFilesAndSaysWhy) {
  const auto two = raw<uint16_t>({1, 2});
  EXPECT_THAT(error_opening(llmc(20240520, 1, 3, two)),
              HasSubstr("hostile.bin: 1028 bytes, but its header says 3 tokens"));
  EXPECT_THAT(error_opening(llmc(20240520, 1, 1, two)), HasSubstr("which is 1026 bytes"));
  EXPECT_THAT(error_opening(llmc(20240520, 1, INT32_MAX, two)), HasSubstr("2147483647 tokens"));
  EXPECT_THAT(error_opening(llmc(20240801, 7, INT32_MAX, two)),
              HasSubstr("which is 8589935612 bytes"));
  EXPECT_THAT(error_opening(llmc(20240520, 1, -1, two)), HasSubstr("says -1 tokens"));
  EXPECT_THAT(error_opening(llmc(20240520, 1, 0, "")), HasSubstr("says 0 tokens"));
  EXPECT_THAT(error_opening(llmc(20240520, 2, 2, two)), HasSubstr("version 2"));
  EXPECT_THAT(error_opening(llmc(12345, 1, 2, two)), HasSubstr("unknown magic number 12345"));
  EXPECT_THAT(error_opening(llmc(20240522, 1, 2, two)), HasSubstr("multiple-choice"));
  EXPECT_THAT(error_opening(file("BIN.TOK\n" + two)), HasSubstr("BIN.TOK"));
  EXPECT_THAT(error_opening(file(raw<int32_t>({20240520, 1, 2}))), HasSubstr("truncated"));
  EXPECT_THAT(error_opening(file("")), HasSubstr("empty"));
  EXPECT_THAT(error_opening(file("abc")), HasSubstr("whole number"));
  EXPECT_THAT(error_opening(folder), HasSubstr("not a regular file"));
  EXPECT_THAT(error_opening(folder / "none.bin"), HasSubstr("No such file"));
}

TEST_F(ShardTest, EveryTruncationOfAGoodFileIsRefused) {
  std::vector<int32_t> header(256);
  header[0] = 20240520, header[1] = 1, header[2] = 20;
  const auto path = file(raw(header) + std::string(40, '\1'));
  EXPECT_EQ(Shard(path).tokens(), 20);
  for (auto length = std::filesystem::file_size(path) - 1; length >= 4; --length) {
    std::filesystem::resize_file(path, length);
    EXPECT_THROW(Shard shard(path), std::runtime_error) << length;
  }
}

TEST_F(ShardTest, ImpossibleMetadataIsRefused) {
  std::vector<int32_t> header(256);
  header[0] = 20240520, header[1] = 1, header[2] = 1, header[3] = -5;
  EXPECT_THAT(error_opening(file(raw(header) + "ab")), HasSubstr("vocabulary -5"));
  header[3] = 10, header[6] = 12;
  EXPECT_THAT(error_opening(file(raw(header) + "ab")), HasSubstr("end of document 11"));
}

TEST_F(ShardTest, AnExplicitFormatIsNotGuessedAround) {
  const auto headerless = file(raw<uint16_t>({11, 12, 13, 14}));
  EXPECT_THROW(Shard(headerless, ShardFormat::llmc_v1), std::runtime_error);
  EXPECT_EQ(Shard(llmc(20240520, 1, 1, "ab"), ShardFormat::nanogpt).tokens(), 513)
      << "the header read as tokens";
}

TEST_F(ShardTest, ATokenBeyondTheVocabularyIsReportedWithFileAndOffset) {
  const Shard v1(llmc(20240520, 1, 3, raw<uint16_t>({5, 300, 6})));
  int32_t out[3];
  EXPECT_THAT(error_of<std::runtime_error>([&] { v1.read(0, 3, 300, out); }),
              HasSubstr("hostile.bin: token 300 at byte 1026 is not below the vocabulary of 300"));
  EXPECT_NO_THROW(v1.read(2, 1, 300, out)) << "the bad token is outside of this range";
  const Shard v7(llmc(20240801, 7, 1, raw<uint32_t>({UINT32_MAX})));
  EXPECT_THAT(error_of<std::runtime_error>([&] { v7.read(0, 1, 128256, out); }),
              HasSubstr("token 4294967295 at byte 1024"));
}

TEST_F(ShardTest, ContentHashTellsFilesApart) {
  const auto hash = [&](std::vector<uint16_t> words) {
    write_bytes(folder / "h.bin", raw(words));
    std::vector<std::unique_ptr<Shard>> shards;
    shards.push_back(std::make_unique<Shard>(folder / "h.bin"));
    return TokenStream(std::move(shards), 50257).content_hash();
  };
  EXPECT_EQ(hash({1, 2, 3}), hash({1, 2, 3}));
  EXPECT_NE(hash({1, 2, 3}), hash({1, 2, 4}));
}

}  // namespace
}  // namespace strait
