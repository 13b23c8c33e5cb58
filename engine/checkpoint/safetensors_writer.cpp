// Writing safetensors files: to a temporary name beside the target, synced to disk, then renamed,
// so that a file under its own name is always whole. The header is padded with blanks to 8 bytes,
// which aligns every tensor.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/checkpoint/safetensors.h"
#include "kernels/check.h"

namespace strait {

SafetensorsWriter::SafetensorsWriter(std::string path, const std::vector<Declaration>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(std::move(path)), temporary_(path_ + ".part") {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const Declaration& tensor : tensors) {
    STRAIT_CHECK(tensor.name != "__metadata__" && !header.contains(tensor.name),
                 "tensor name '" + tensor.name + "'");
    STRAIT_CHECK(offset % size_of(tensor.dtype) == 0,
                 "'" + tensor.name + "' would not be aligned: put wider dtypes first");
    uint64_t bytes = size_of(tensor.dtype);
    for (const int64_t size : tensor.shape) {
      STRAIT_CHECK(size >= 0 && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes),
                   "shape of '" + tensor.name + "'");
    }
    header[tensor.name] = {{"dtype", safetensors_dtype(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    pending_.push_back({tensor.name, bytes});
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');

  file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) fail(std::strerror(errno));
  try {
    const uint64_t length = text.size();
    write_bytes(&length, sizeof(length));
    write_bytes(text.data(), length);
  } catch (...) {
    close(file_);
    unlink(temporary_.c_str());
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
}

void SafetensorsWriter::write(std::string_view name, const void* data) {
  STRAIT_CHECK(file_ >= 0 && written_ < pending_.size() && pending_[written_].name == name,
               fmt::format("tensor '{}' is not the next one of {}", name, path_));
  write_bytes(data, pending_[written_].bytes);
  ++written_;
}

void SafetensorsWriter::finish() {
  STRAIT_CHECK(file_ >= 0 && written_ == pending_.size(),
               fmt::format("{} of {} tensors of {} are written", written_, pending_.size(), path_));
  if (fsync(file_) != 0) fail(std::strerror(errno));
  if (close(std::exchange(file_, -1)) != 0 || std::rename(temporary_.c_str(), path_.c_str()) != 0) {
    const int error = errno;
    unlink(temporary_.c_str());
    fail(std::strerror(error));
  }
}

void SafetensorsWriter::write_bytes(const void* data, uint64_t bytes) {
  const auto* position = static_cast<const std::byte*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(file_, position, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(std::strerror(errno));
    position += n;
    bytes -= static_cast<uint64_t>(n);
  }
}

void SafetensorsWriter::fail(const std::string& what) const {
  throw SafetensorsError(fmt::format("{}: {}", path_, what));
}

}  // namespace strait
