// The file tools of files.h on POSIX: mmap, flock and rename, which is atomic within one file
// system.
#include "engine/data/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace strait {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void fail(const fs::path& path, const char* what) {
  const int code = errno;
  throw std::runtime_error(fmt::format("{}: {}: {}", path.string(), what, std::strerror(code)));
}

void create_parents(const fs::path& path) {
  if (!path.has_parent_path()) return;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  if (error) {
    throw std::runtime_error(fmt::format("{}: cannot create this directory: {}",
                                         path.parent_path().string(), error.message()));
  }
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

fs::path cache_directory() {
  if (const auto cache = environment("STRAIT_CACHE"); !cache.empty()) return cache;
  if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty()) {
    return fs::path(cache) / "strait";
  }
  if (const auto home = environment("HOME"); !home.empty()) {
    return fs::path(home) / ".cache" / "strait";
  }
  throw std::runtime_error(
      "no place for the cache: none of STRAIT_CACHE, XDG_CACHE_HOME, HOME is set");
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail(path, "cannot open");
  struct stat status {};
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor);
    throw std::runtime_error(fmt::format("{}: not a regular file", path.string()));
  }
  size_ = static_cast<size_t>(status.st_size);
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapped == MAP_FAILED) {
      const int code = errno;
      ::close(descriptor);
      errno = code;
      fail(path, "cannot map into memory");
    }
    data_ = static_cast<const uint8_t*>(mapped);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

std::string read_file(const fs::path& path) { return std::string(MappedFile(path).text()); }

void write_file_atomically(const fs::path& path, std::string_view content) {
  create_parents(path);
  std::string temporary = path.string() + ".tmp-XXXXXX";
  const int descriptor = ::mkstemp(temporary.data());
  if (descriptor < 0) fail(path, "cannot create a temporary file beside it");
  ::fchmod(descriptor, 0644);  // mkstemp makes private files; a cache may be shared
  ::close(descriptor);
  try {
    OutputFile file(temporary);
    file.write(content);
    file.finish();
    fs::rename(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

OutputFile::OutputFile(const fs::path& path)
    : path_(path), stream_(path, std::ios::binary | std::ios::trunc) {
  if (!stream_) fail(path_, "cannot create");
}

void OutputFile::write(const void* data, size_t bytes) {
  stream_.write(static_cast<const char*>(data), static_cast<std::streamsize>(bytes));
  if (!stream_) fail(path_, "cannot write");
}

void OutputFile::write_at(int64_t offset, const void* data, size_t bytes) {
  stream_.seekp(offset);
  write(data, bytes);
  stream_.seekp(0, std::ios::end);
  if (!stream_) fail(path_, "cannot seek");
}

void OutputFile::finish() {
  stream_.close();
  if (!stream_) fail(path_, "cannot write");
}

FileLock::FileLock(const fs::path& path) {
  create_parents(path);
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail(path, "cannot create the lock file");
  while (::flock(descriptor_, LOCK_EX) != 0) {
    if (errno == EINTR) continue;
    const int code = errno;
    ::close(descriptor_);
    errno = code;
    fail(path, "cannot lock");
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

PendingDirectory::PendingDirectory(const fs::path& target) : target_(target) {
  create_parents(target);
  std::string name = target.string() + ".tmp-XXXXXX";
  if (!::mkdtemp(name.data())) fail(target, "cannot create a temporary directory beside it");
  path_ = name;
  ::chmod(name.c_str(), 0755);
}

PendingDirectory::~PendingDirectory() {
  std::error_code
      ignored;  // what cannot be deleted stays under its temporary name and is never read
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void PendingDirectory::publish() {
  std::error_code error;
  fs::rename(path_, target_, error);
  if (!error) {
    path_.clear();
  } else if (!fs::is_directory(target_)) {
    throw std::runtime_error(fmt::format("{}: cannot rename {} to it: {}", target_.string(),
                                         path_.string(), error.message()));
  }
}

void PendingDirectory::remove_leftovers(const fs::path& target) {
  const auto prefix = target.filename().string() + ".tmp-";
  for (const auto& entry : fs::directory_iterator(target.parent_path())) {
    if (entry.path().filename().string().starts_with(prefix)) fs::remove_all(entry.path());
  }
}

}  // namespace strait
