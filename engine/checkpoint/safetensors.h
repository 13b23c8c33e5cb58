// Tensors in a file, in the safetensors format: 8 bytes little-endian header length, a JSON header
// with dtype, shape and byte range of every tensor and optional string metadata, then the tensors'
// bytes, row-major and little-endian, without gaps. Files come from strangers: whatever is in one,
// reading it ends in tensors or in an error that says what is wrong.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/dtype.h"

namespace strait {

// The file, and what is wrong with it.
class SafetensorsError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What a file says of one tensor. `dtype` by its name in the format: BOOL, U8, I8, U16, I16, F16,
// BF16, U32, I32, F32, U64, I64, F64; elements * width = bytes is checked.
struct SafetensorsEntry {
  std::string dtype;
  std::vector<int64_t> shape;  // each >= 0; empty: a scalar
  uint64_t offset = 0;         // of its first byte in the file
  uint64_t bytes = 0;
  bool operator==(const SafetensorsEntry&) const = default;
};

// Names of the types that Strait writes: "F32", "BF16", "F64", "I32", "U16", "U8".
std::string safetensors_dtype(DType dtype);

// Reads tensors on demand; holds the file open. Costs memory for the header only, which is at most
// 100 MB.
class SafetensorsFile {
 public:
  // Throws SafetensorsError if the file cannot be opened or its header breaks the format.
  explicit SafetensorsFile(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::map<std::string, SafetensorsEntry>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Throws SafetensorsError that names the file if there is no such tensor.
  const SafetensorsEntry& entry(const std::string& name) const;

  // The tensor's bytes into `destination`. Throws if it is not a `dtype` of `shape`, saying what it
  // is.
  void read(const std::string& name, void* destination, DType dtype,
            const std::vector<int64_t>& shape) const;

  // All elements as doubles, whatever float or integer type they have (F16 and BOOL excepted).
  std::vector<double> read_as_double(const std::string& name) const;

 private:
  void read_bytes(void* destination, uint64_t offset, uint64_t bytes) const;
  void parse_header(const std::string& text, uint64_t data_begin, uint64_t data_bytes);
  [[noreturn]] void fail(const std::string& what) const;

  std::string path_;
  int file_ = -1;
  std::map<std::string, SafetensorsEntry> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Writes a file tensor by tensor, so that none but the current one must be in host memory. The file
// appears under its name when finish() returns, whole and on disk; without finish() nothing
// remains.
class SafetensorsWriter {
 public:
  struct Declaration {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
  };

  // Put wider dtypes first, so that every tensor is aligned (checked). Throws SafetensorsError if
  // the file cannot be written, std::logic_error if a name is there twice or is "__metadata__".
  SafetensorsWriter(std::string path, const std::vector<Declaration>& tensors,
                    const std::map<std::string, std::string>& metadata);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The next declared tensor's bytes; `name` must be its name. Throws SafetensorsError (disk full).
  void write(std::string_view name, const void* data);
  // All declared tensors must have been written.
  void finish();

 private:
  void write_bytes(const void* data, uint64_t bytes);
  [[noreturn]] void fail(const std::string& what) const;

  struct Pending {
    std::string name;
    uint64_t bytes = 0;
  };
  std::string path_, temporary_;
  int file_ = -1;
  std::vector<Pending> pending_;  // in order
  size_t written_ = 0;
};

}  // namespace strait
