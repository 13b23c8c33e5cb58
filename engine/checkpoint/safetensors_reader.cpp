// Reading and checking safetensors files. Every number in a header is checked before it is used;
// tensors must cover the data exactly, without overlaps or gaps, as the format demands.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/safetensors.h"

namespace strait {
namespace {

using Json = nlohmann::json;

// The format's own limit; keeps a hostile length from becoming an allocation.
constexpr uint64_t kLargestHeader = 100'000'000;
// {"name": {"shape": [1, 2]}}: deeper nesting is never valid.
constexpr int kDeepest = 3;

struct TypeWidth {
  std::string_view name;
  uint64_t width;
};
constexpr std::array<TypeWidth, 13> kTypes{{{"BOOL", 1},
                                            {"U8", 1},
                                            {"I8", 1},
                                            {"U16", 2},
                                            {"I16", 2},
                                            {"F16", 2},
                                            {"BF16", 2},
                                            {"U32", 4},
                                            {"I32", 4},
                                            {"F32", 4},
                                            {"U64", 8},
                                            {"I64", 8},
                                            {"F64", 8}}};

// 0 if there is no such type.
uint64_t width_of(std::string_view dtype) {
  for (const TypeWidth& type : kTypes) {
    if (type.name == dtype) return type.width;
  }
  return 0;
}

// Refuses keys that are there twice (the parser would silently keep the last) and deep nesting
// (memory).
class HeaderFilter {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    if (depth > kDeepest) throw std::invalid_argument("it is nested too deeply");
    if (event == Json::parse_event_t::object_start) keys_.emplace_back();
    if (event == Json::parse_event_t::object_end) keys_.pop_back();
    if (event == Json::parse_event_t::key &&
        !keys_.back().insert(parsed.get<std::string>()).second) {
      throw std::invalid_argument(fmt::format("'{}' is there twice", parsed.get<std::string>()));
    }
    return true;
  }

 private:
  std::vector<std::set<std::string>> keys_;
};

uint64_t to_unsigned(const Json& value, std::string_view what) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw std::invalid_argument(
        fmt::format("{} holds something that is no number from 0 to 2^63 - 1", what));
  }
  return value.get<uint64_t>();
}

const Json& member(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end()) throw std::invalid_argument(fmt::format("'{}' is missing", name));
  return *found;
}

// One tensor's entry; `data_bytes` bytes begin at `data_begin`. Throws std::invalid_argument
// without the tensor's name.
SafetensorsEntry to_entry(const Json& json, uint64_t data_begin, uint64_t data_bytes) {
  if (!json.is_object()) throw std::invalid_argument("its entry is no object");
  SafetensorsEntry entry;
  const Json& dtype = member(json, "dtype");
  const Json& shape = member(json, "shape");
  const Json& offsets = member(json, "data_offsets");
  if (!dtype.is_string() || width_of(dtype.get<std::string>()) == 0) {
    throw std::invalid_argument(fmt::format("dtype {} is not known", dtype.dump(-1, ' ', true)));
  }
  if (!shape.is_array()) throw std::invalid_argument("'shape' is no list");
  if (!offsets.is_array() || offsets.size() != 2)
    throw std::invalid_argument("'data_offsets' is no pair");
  entry.dtype = dtype.get<std::string>();
  uint64_t bytes = width_of(entry.dtype);
  for (const Json& size : shape) {
    const uint64_t n = to_unsigned(size, "'shape'");
    if (__builtin_mul_overflow(bytes, n, &bytes))
      throw std::invalid_argument("its shape has more than 2^64 bytes");
    entry.shape.push_back(static_cast<int64_t>(n));
  }
  const uint64_t begin = to_unsigned(offsets[0], "'data_offsets'");
  const uint64_t end = to_unsigned(offsets[1], "'data_offsets'");
  if (begin > end || end > data_bytes) {
    throw std::invalid_argument(fmt::format(
        "bytes {} to {} are no part of the {} that the file holds", begin, end, data_bytes));
  }
  if (end - begin != bytes)
    throw std::invalid_argument(
        fmt::format("it has {} bytes, but {} for its shape", end - begin, bytes));
  entry.offset = data_begin + begin;
  entry.bytes = bytes;
  return entry;
}

// Ranges that follow one another from data_begin to data_end. Empty tensors may sit on any border
// between others.
void check_coverage(const std::map<std::string, SafetensorsEntry>& tensors, uint64_t data_begin,
                    uint64_t data_end) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [name, entry] : tensors)
    ranges.emplace_back(entry.offset, entry.offset + entry.bytes);
  std::sort(ranges.begin(), ranges.end());
  uint64_t position = data_begin;
  for (const auto& [begin, end] : ranges) {
    if (begin != position) {
      throw std::invalid_argument(fmt::format("tensors {} at byte {}",
                                              begin < position ? "overlap" : "leave a gap",
                                              std::min(begin, position)));
    }
    position = end;
  }
  if (position != data_end)
    throw std::invalid_argument(
        fmt::format("{} bytes at the end belong to no tensor", data_end - position));
}

template <typename T>
std::vector<double> widen(const std::vector<std::byte>& bytes) {
  std::vector<double> values(bytes.size() / sizeof(T));
  for (size_t i = 0; i < values.size(); ++i) {
    T value;
    std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
    if constexpr (std::is_same_v<T, bfloat16>) {
      values[i] = static_cast<double>(static_cast<float>(value));
    } else {
      values[i] = static_cast<double>(value);
    }
  }
  return values;
}

}  // namespace

static_assert(std::endian::native == std::endian::little,
              "safetensors are little-endian and read as they are");

std::string safetensors_dtype(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::f64:
      return "F64";
    case DType::i32:
      return "I32";
    case DType::u16:
      return "U16";
    case DType::u8:
      return "U8";
    case DType::f16:
      return "F16";
    case DType::f8_e4m3:
      return "F8_E4M3";
  }
  return "?";
}

// O_NONBLOCK: a pipe in place of a file is refused below instead of waited for.
SafetensorsFile::SafetensorsFile(const std::string& path)
    : path_(path), file_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (file_ < 0) fail(std::strerror(errno));
  try {
    struct stat status {};
    if (fstat(file_, &status) != 0) fail(std::strerror(errno));
    if (!S_ISREG(status.st_mode)) fail("not a file");
    const auto size = static_cast<uint64_t>(status.st_size);
    uint64_t header = 0;
    if (size < sizeof(header))
      fail(fmt::format("{} bytes are too few for a safetensors file", size));
    read_bytes(&header, 0, sizeof(header));
    if (header > kLargestHeader || header > size - sizeof(header)) {
      fail(fmt::format("its header would have {} bytes; the file has {} and at most {} are allowed",
                       header, size, kLargestHeader));
    }
    std::string text(header, '\0');
    read_bytes(text.data(), sizeof(header), header);
    parse_header(text, sizeof(header) + header, size - sizeof(header) - header);
  } catch (...) {
    close(file_);
    throw;
  }
}

SafetensorsFile::~SafetensorsFile() { close(file_); }

void SafetensorsFile::parse_header(const std::string& text, uint64_t data_begin,
                                   uint64_t data_bytes) {
  try {
    const Json header = Json::parse(text, HeaderFilter());
    if (!header.is_object()) throw std::invalid_argument("it is no object");
    for (const auto& [name, json] : header.items()) {
      if (name == "__metadata__") {
        if (!json.is_object()) throw std::invalid_argument("'__metadata__' is no object");
        for (const auto& [key, value] : json.items()) {
          if (!value.is_string())
            throw std::invalid_argument(fmt::format("metadata '{}' is no string", key));
          metadata_[key] = value.get<std::string>();
        }
        continue;
      }
      try {
        tensors_[name] = to_entry(json, data_begin, data_bytes);
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument(fmt::format("tensor '{}': {}", name, error.what()));
      }
    }
    check_coverage(tensors_, data_begin, data_begin + data_bytes);
  } catch (const std::invalid_argument& error) {
    fail(fmt::format("header: {}", error.what()));
  } catch (const Json::exception& error) {
    fail(fmt::format("header: {}", error.what()));
  }
}

const SafetensorsEntry& SafetensorsFile::entry(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(fmt::format("no tensor '{}'", name));
  return found->second;
}

void SafetensorsFile::read(const std::string& name, void* destination, DType dtype,
                           const std::vector<int64_t>& shape) const {
  const SafetensorsEntry& found = entry(name);
  if (found.dtype != safetensors_dtype(dtype) || found.shape != shape) {
    fail(fmt::format("tensor '{}' is {} ({}), expected {} ({})", name, found.dtype,
                     fmt::join(found.shape, ", "), safetensors_dtype(dtype),
                     fmt::join(shape, ", ")));
  }
  read_bytes(destination, found.offset, found.bytes);
}

std::vector<double> SafetensorsFile::read_as_double(const std::string& name) const {
  const SafetensorsEntry& found = entry(name);
  std::vector<std::byte> bytes(found.bytes);
  read_bytes(bytes.data(), found.offset, found.bytes);
  if (found.dtype == "F32") return widen<float>(bytes);
  if (found.dtype == "BF16") return widen<bfloat16>(bytes);
  if (found.dtype == "F64") return widen<double>(bytes);
  if (found.dtype == "U8") return widen<uint8_t>(bytes);
  if (found.dtype == "I8") return widen<int8_t>(bytes);
  if (found.dtype == "U16") return widen<uint16_t>(bytes);
  if (found.dtype == "I16") return widen<int16_t>(bytes);
  if (found.dtype == "U32") return widen<uint32_t>(bytes);
  if (found.dtype == "I32") return widen<int32_t>(bytes);
  if (found.dtype == "U64") return widen<uint64_t>(bytes);
  if (found.dtype == "I64") return widen<int64_t>(bytes);
  fail(fmt::format("tensor '{}' is {}, which cannot be read as numbers", name, found.dtype));
}

void SafetensorsFile::read_bytes(void* destination, uint64_t offset, uint64_t bytes) const {
  auto* position = static_cast<std::byte*>(destination);
  while (bytes > 0) {
    const ssize_t n = pread(file_, position, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(std::strerror(errno));
    if (n == 0) fail(fmt::format("ends at byte {}, where {} more were announced", offset, bytes));
    position += n;
    offset += static_cast<uint64_t>(n);
    bytes -= static_cast<uint64_t>(n);
  }
}

void SafetensorsFile::fail(const std::string& what) const {
  throw SafetensorsError(fmt::format("{}: {}", path_, what));
}

}  // namespace strait
