// Small file tools for the data folder: the cache directory, memory-mapped reading, whole-file
// writing, and directories that appear complete or not at all. Every error names the path and the
// system's reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>

namespace strait {

// $STRAIT_CACHE, else $XDG_CACHE_HOME/strait, else ~/.cache/strait. Not created.
// Throws std::runtime_error where none of the three variables is set.
std::filesystem::path cache_directory();

// A file mapped read-only into memory for the object's lifetime. Safe to read from any thread. The
// file must not be truncated meanwhile (reading past its new end would be a bus error, as with
// every mapping).
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);  // throws std::runtime_error
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::filesystem::path path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

// The whole content of a file. Throws std::runtime_error.
std::string read_file(const std::filesystem::path& path);

// Writes `content` under a temporary name beside `path` and renames it: readers see the old file or
// the new one. Creates missing parent directories. Throws std::runtime_error (a full disk
// included), leaving the old file as it was.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Appends to a file that it creates; a failed write (full disk) throws at the call or at finish(),
// never silently.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void write_at(int64_t offset, const void* data,
                size_t bytes);  // overwrites; later writes append again
  void finish();                // flushes and closes

 private:
  std::filesystem::path path_;
  std::ofstream stream_;
};

// An exclusive lock between processes and threads, held for the object's lifetime; waits for the
// holder. The file stays.
class FileLock {
 public:
  explicit FileLock(
      const std::filesystem::path& path);  // creates parent directories; throws std::runtime_error
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

// A directory under a temporary name beside `target`, which publish() renames to `target`; deleted
// if never published. If another process published first, that one stays and this one is dropped:
// both hold the same content by design.
class PendingDirectory {
 public:
  explicit PendingDirectory(const std::filesystem::path& target);  // creates parent directories
  ~PendingDirectory();
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  void publish();

  // Deletes what killed processes have left beside `target`. Call it while no one can be building
  // `target`.
  static void remove_leftovers(const std::filesystem::path& target);

 private:
  std::filesystem::path target_, path_;
};

}  // namespace strait
