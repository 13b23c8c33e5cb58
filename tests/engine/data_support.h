// What the data tests share: a scratch directory that is also the cache, and small writers of
// foreign formats.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace strait {

inline void write_bytes(const std::filesystem::path& path, const std::string& content) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

// Little-endian words, as the machine has them.
template <typename Word>
std::string raw(const std::vector<Word>& words) {
  return std::string(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(Word));
}

inline std::string big_endian(uint32_t value) {
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(value >> shift & 0xffu);
  return text;
}

inline std::string zlib_compressed(const std::string& text) {
  uLongf size = compressBound(text.size());
  std::string result(size, '\0');
  EXPECT_EQ(compress(reinterpret_cast<Bytef*>(result.data()), &size,
                     reinterpret_cast<const Bytef*>(text.data()), text.size()),
            Z_OK);
  result.resize(size);
  return result;
}

// One chunk of an R lazy-load database: a character vector of ASCII strings.
inline std::string r_chunk(const std::vector<std::string>& strings) {
  std::string object = "X\n" + big_endian(3) + big_endian(0x00040201) + big_endian(0x00030500) +
                       big_endian(5) + "UTF-8" + big_endian(16) +
                       big_endian(static_cast<uint32_t>(strings.size()));
  for (const auto& text : strings)
    object += big_endian(0x00040009) + big_endian(static_cast<uint32_t>(text.size())) + text;
  return big_endian(static_cast<uint32_t>(object.size())) + zlib_compressed(object);
}

// A fresh directory, also $STRAIT_CACHE, removed at the end.
class DataTest : public ::testing::Test {
 protected:
  DataTest() {
    std::string name = (std::filesystem::temp_directory_path() / "strait-data-XXXXXX").string();
    folder = ::mkdtemp(name.data());
    ::setenv("STRAIT_CACHE", (folder / "cache").c_str(), 1);
  }
  ~DataTest() override {
    ::unsetenv("STRAIT_CACHE");
    std::filesystem::remove_all(folder);
  }
  std::filesystem::path folder;
};

// The text of the exception that `call` throws.
template <typename Exception, typename Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return "";
  }
  ADD_FAILURE() << "no exception";
  return "";
}

}  // namespace strait
