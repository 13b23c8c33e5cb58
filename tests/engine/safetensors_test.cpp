// Safetensors: files survive a round trip, golden files are readable, and no broken or hostile file
// does more than throw.
#include "engine/checkpoint/safetensors.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strait {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string path() const { return folder_ / "file.safetensors"; }

  static std::string content(const std::string& header, size_t data_bytes) {
    const uint64_t length = header.size();
    std::string bytes(sizeof(length), '\0');
    std::memcpy(bytes.data(), &length, sizeof(length));
    return bytes + header + std::string(data_bytes, 'x');
  }

  void put(const std::string& bytes) const {
    std::filesystem::remove(
        path());  // some file systems flush a file that is overwritten, which is slow
    std::ofstream(path(), std::ios::binary) << bytes;
  }

  std::string error_of(const std::string& bytes) const {
    put(bytes);
    try {
      const SafetensorsFile file(path());
    } catch (const SafetensorsError& error) {
      return error.what();
    }
    return "no error";
  }
  std::string error_of_header(const std::string& header, size_t data_bytes) const {
    return error_of(content(header, data_bytes));
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() /
      ("strait_safetensors_" + std::to_string(getpid()) + "_" +
       testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(SafetensorsTest, ReadsBackWhatWasWritten) {
  const std::vector<double> doubles{1.5, -2.0};
  const std::vector<float> floats{0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f};
  const std::vector<int32_t> ids{-1, 7};
  const std::vector<bfloat16> halves{bfloat16(1.0f), bfloat16(-3.5f), bfloat16(0.0f)};
  {
    SafetensorsWriter writer(path(),
                             {{"d", DType::f64, {2}},
                              {"model.w", DType::f32, {2, 3}},
                              {"ids", DType::i32, {1, 2, 1}},
                              {"empty", DType::i32, {4, 0}},
                              {"h", DType::bf16, {3}}},
                             {{"format", "pt"}, {"quoted", "a \"b\"\n"}});
    writer.write("d", doubles.data());
    writer.write("model.w", floats.data());
    writer.write("ids", ids.data());
    writer.write("empty", nullptr);
    writer.write("h", halves.data());
    EXPECT_FALSE(std::filesystem::exists(path())) << "the name is there before the file is whole";
    writer.finish();
  }
  const SafetensorsFile file(path());
  EXPECT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"quoted", "a \"b\"\n"}}));
  EXPECT_EQ(file.entry("model.w").dtype, "F32");
  EXPECT_EQ(file.entry("model.w").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.entry("d").offset % 8, 0u);
  std::vector<float> read(6);
  file.read("model.w", read.data(), DType::f32, {2, 3});
  EXPECT_EQ(read, floats);
  EXPECT_EQ(file.read_as_double("d"), doubles);
  EXPECT_EQ(file.read_as_double("ids"), (std::vector<double>{-1, 7}));
  EXPECT_EQ(file.read_as_double("h"), (std::vector<double>{1.0, -3.5, 0.0}));
  EXPECT_TRUE(file.read_as_double("empty").empty());
}

TEST_F(SafetensorsTest, LeavesNothingBehindWithoutFinish) {
  put("an older file");
  {
    const float value = 1;
    SafetensorsWriter writer(path(), {{"w", DType::f32, {1}}}, {});
    writer.write("w", &value);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1)
      << "only the older file";
  std::string kept;
  std::getline(std::ifstream(path()), kept);
  EXPECT_EQ(kept, "an older file");
}

TEST_F(SafetensorsTest, WritesInDeclaredOrderOnly) {
  const float value = 1;
  SafetensorsWriter writer(path(), {{"a", DType::f32, {1}}, {"b", DType::f32, {1}}}, {});
  EXPECT_THROW(writer.write("b", &value), std::logic_error);
  EXPECT_THROW(writer.finish(), std::logic_error);
  writer.write("a", &value);
  writer.write("b", &value);
  EXPECT_THROW(writer.write("b", &value), std::logic_error);
  writer.finish();
}

TEST_F(SafetensorsTest, RefusesDeclarationsThatCannotBeWritten) {
  using Declarations = std::vector<SafetensorsWriter::Declaration>;
  const auto write = [&](const Declarations& tensors) { SafetensorsWriter(path(), tensors, {}); };
  EXPECT_THROW(write({{"a", DType::f32, {1}}, {"a", DType::f32, {1}}}), std::logic_error);
  EXPECT_THROW(write({{"__metadata__", DType::f32, {1}}}), std::logic_error);
  EXPECT_THROW(write({{"a", DType::u16, {1}}, {"b", DType::f32, {1}}}), std::logic_error);
  EXPECT_THROW(write({{"a", DType::f32, {-1}}}), std::logic_error);
  EXPECT_THROW(write({{"a", DType::f32, {int64_t{1} << 40, int64_t{1} << 40}}}), std::logic_error);
}

TEST_F(SafetensorsTest, NamesTheFileThatCannotBeOpened) {
  try {
    const SafetensorsFile file(folder_ / "missing.safetensors");
    FAIL() << "no error";
  } catch (const SafetensorsError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("missing.safetensors"), HasSubstr("No such file")));
  }
  EXPECT_THROW(SafetensorsFile(folder_.string()), SafetensorsError) << "a folder";
  EXPECT_THROW(SafetensorsWriter(folder_ / "none" / "file", {}, {}), SafetensorsError);
}

TEST_F(SafetensorsTest, SaysWhatATensorIsWhenAnotherIsExpected) {
  put(content(R"({"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}})", 8));
  const SafetensorsFile file(path());
  float values[2];
  const auto error = [&](DType dtype, const std::vector<int64_t>& shape) -> std::string {
    try {
      file.read("w", values, dtype, shape);
    } catch (const SafetensorsError& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_EQ(error(DType::f32, {2, 1}), "no error");
  EXPECT_THAT(error(DType::f32, {1, 2}),
              HasSubstr("tensor 'w' is F32 (2, 1), expected F32 (1, 2)"));
  EXPECT_THAT(error(DType::bf16, {2, 1}), HasSubstr("expected BF16 (2, 1)"));
  EXPECT_THROW(file.entry("v"), SafetensorsError);
}

TEST_F(SafetensorsTest, AcceptsScalarsAndForeignTypes) {
  put(content(
      R"({"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"f":{"dtype":"F16","shape":[1],"data_offsets":[8,10]}}   )",
      10));
  const SafetensorsFile file(path());
  EXPECT_EQ(file.read_as_double("s").size(), 1u);
  EXPECT_THROW(file.read_as_double("f"), SafetensorsError);
}

TEST_F(SafetensorsTest, RefusesAHeaderThatDoesNotFit) {
  EXPECT_THAT(error_of(""), HasSubstr("too few"));
  EXPECT_THAT(error_of("1234567"), HasSubstr("too few"));
  EXPECT_THAT(error_of(std::string(8, '\xff')),
              HasSubstr("header would have 18446744073709551615 bytes"));
  EXPECT_THAT(error_of(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
              HasSubstr("header would have 3 bytes"));
  EXPECT_THAT(error_of_header("", 0), HasSubstr("header: "));
  // Announces more than 100 MB, in a file that (sparsely) has them.
  std::string length(8, '\0');
  const uint64_t huge = 100'000'001;
  std::memcpy(length.data(), &huge, sizeof(huge));
  put(length);
  std::filesystem::resize_file(path(), 8 + huge);
  EXPECT_THROW(SafetensorsFile{path()}, SafetensorsError);
}

TEST_F(SafetensorsTest, RefusesBrokenHeaders) {
  EXPECT_THAT(error_of_header("{", 0), HasSubstr("parse error"));
  EXPECT_THAT(error_of_header("[]", 0), HasSubstr("no object"));
  EXPECT_THAT(error_of_header("{\"\xff\":{}}", 0), HasSubstr("header: "));
  EXPECT_THAT(error_of_header(R"({"a":1})", 0), HasSubstr("tensor 'a': its entry is no object"));
  EXPECT_THAT(error_of_header(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("'dtype' is missing"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("\"F31\" is not known"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("7 is not known"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,4]}})", 4),
              HasSubstr("'shape' is no list"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
              HasSubstr("no number from 0"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4),
              HasSubstr("no number from 0"));
  EXPECT_THAT(error_of_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4),
              HasSubstr("no pair"));
  EXPECT_THAT(
      error_of_header(
          R"({"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})",
          1),
      HasSubstr("'a' is there twice"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":{"n":1}})", 0),
              HasSubstr("metadata 'n' is no string"));
  EXPECT_THAT(error_of_header(R"({"__metadata__":1})", 0),
              HasSubstr("'__metadata__' is no object"));
}

TEST_F(SafetensorsTest, RefusesDeepNestingBeforeItCostsMemory) {
  EXPECT_THAT(error_of_header("{\"a\":" + std::string(1'000'000, '['), 0),
              HasSubstr("nested too deeply"));
}

TEST_F(SafetensorsTest, RefusesRangesThatDoNotFit) {
  const auto tensor = [](const char* name, const char* shape, const char* offsets) {
    return std::string("\"") + name + R"(":{"dtype":"F32","shape":)" + shape +
           R"(,"data_offsets":)" + offsets + "}";
  };
  EXPECT_THAT(error_of_header("{" + tensor("a", "[1]", "[0,8]") + "}", 8),
              HasSubstr("it has 8 bytes, but 4 for its shape"));
  EXPECT_THAT(error_of_header("{" + tensor("a", "[2]", "[0,8]") + "}", 4),
              HasSubstr("bytes 0 to 8 are no part of the 4"));
  EXPECT_THAT(error_of_header("{" + tensor("a", "[1]", "[4,0]") + "}", 4),
              HasSubstr("bytes 4 to 0"));
  EXPECT_THAT(error_of_header("{" + tensor("a", "[4294967296,4294967296,4]", "[0,0]") + "}", 0),
              HasSubstr("more than 2^64 bytes"));
  EXPECT_THAT(error_of_header("{" + tensor("a", "[1]", "[0,18446744073709551615]") + "}", 4),
              HasSubstr("no number from 0"));
  EXPECT_THAT(error_of_header(
                  "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("b", "[1]", "[2,6]") + "}", 6),
              HasSubstr("overlap at byte"));
  EXPECT_THAT(error_of_header(
                  "{" + tensor("a", "[1]", "[0,4]") + "," + tensor("b", "[1]", "[6,10]") + "}", 10),
              HasSubstr("leave a gap at byte"));
  EXPECT_THAT(error_of_header("{" + tensor("a", "[1]", "[0,4]") + "}", 7),
              HasSubstr("3 bytes at the end belong to no tensor"));
}

// Any single byte of a header may be anything: the file is read or refused, and never read outside
// of its bounds.
TEST_F(SafetensorsTest, SurvivesEveryDamagedByte) {
  const std::string good = content(
      R"({"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})",
      11);
  std::mt19937 random(1);
  int refused = 0;
  for (size_t i = 0; i < good.size() - 11; ++i) {
    for (int repeat = 0; repeat < 4; ++repeat) {
      std::string bytes = good;
      bytes[i] = static_cast<char>(random());
      put(bytes);
      try {
        const SafetensorsFile file(path());
        for (const auto& [name, entry] : file.tensors())
          EXPECT_LE(file.read_as_double(name).size(), 11u);
      } catch (const SafetensorsError&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 300);
}

TEST_F(SafetensorsTest, SurvivesTruncationAnywhere) {
  const std::string good = content(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_NE(error_of(good.substr(0, size)), "no error") << size << " bytes";
  EXPECT_EQ(error_of(good), "no error");
}

// The file that the model test compares itself with (tests/golden/README.md).
TEST(GoldenFile, HoldsWhatItsReadmeLists) {
  const SafetensorsFile file(std::string(STRAIT_SOURCE_DIR) +
                             "/tests/golden/llama_tiny.safetensors");
  EXPECT_FALSE(file.metadata().at("torch_version").empty());
  int weights = 0;
  for (const auto& [name, entry] : file.tensors()) {
    if (!name.starts_with("model.") && !name.starts_with("lm_head.")) continue;
    ++weights;
    EXPECT_EQ(file.entry("gradient." + name).shape, entry.shape);
    EXPECT_EQ(file.entry("adamw.final_sum_squares." + name).shape, (std::vector<int64_t>{1}));
  }
  EXPECT_EQ(weights, 21);
  for (const char* name : {"embedding", "block.0", "block.1", "final_norm"}) {
    EXPECT_EQ(file.entry(std::string("activation.") + name).shape,
              (std::vector<int64_t>{2, 32, 64}));
  }
  EXPECT_EQ(file.entry("activation.logits").shape, (std::vector<int64_t>{2, 32, 97}));
  for (const double id : file.read_as_double("input.ids")) EXPECT_TRUE(id >= 0 && id < 97);
  double sum = 0;
  for (const double loss : file.read_as_double("loss.per_token")) sum += loss;
  // Both are float64 results; the means differ by the order of 64 additions.
  EXPECT_NEAR(sum / 64, file.read_as_double("adamw.losses").at(0), 1e-13);
}

}  // namespace
}  // namespace strait
