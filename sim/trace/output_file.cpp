// CsvFile and write_whole_file (sim/trace/output_file.h). Text is made by fmt, which knows no
// locale.
#include "sim/trace/output_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace strait::sim {
namespace {

int open_empty(const std::string& path) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) throw RunFileError(fmt::format("cannot create {}: {}", path, std::strerror(errno)));
  return file;
}

// Writes everything; returns the error number, or 0.
int write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(file, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

}  // namespace

std::string csv_text(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

std::string seconds_text(Nanoseconds time) {
  const bool negative = time.count < 0;
  const uint64_t count =
      negative ? 0 - static_cast<uint64_t>(time.count) : static_cast<uint64_t>(time.count);
  return fmt::format("{}{}.{:09}", negative ? "-" : "", count / 1'000'000'000,
                     count % 1'000'000'000);
}

CsvFile::CsvFile(std::string path, std::string_view columns)
    : path_(std::move(path)), file_(open_empty(path_)) {
  rows_ = std::string(columns) + "\n";
  flush();
}

CsvFile::~CsvFile() {
  if (file_ >= 0) ::close(file_);
}

void CsvFile::separate() {
  if (row_begun_) rows_ += ',';
  row_begun_ = true;
}

CsvFile& CsvFile::cell(int64_t value) {
  separate();
  fmt::format_to(std::back_inserter(rows_), "{}", value);
  return *this;
}

CsvFile& CsvFile::cell(uint64_t value) {
  separate();
  fmt::format_to(std::back_inserter(rows_), "{}", value);
  return *this;
}

CsvFile& CsvFile::cell(Bytes value) { return cell(value.count); }

CsvFile& CsvFile::cell(Nanoseconds value) {
  separate();
  rows_ += seconds_text(value);
  return *this;
}

CsvFile& CsvFile::cell(double value) {
  separate();
  if (std::isnan(value)) {
    rows_ += "nan";
  } else {
    fmt::format_to(std::back_inserter(rows_), "{}", value);
  }
  return *this;
}

CsvFile& CsvFile::cell(std::string_view text) {
  separate();
  rows_ += csv_text(text);
  return *this;
}

void CsvFile::end_row() {
  rows_ += '\n';
  row_begun_ = false;
}

void CsvFile::flush() {
  if (const int error = write_all(file_, rows_)) {
    std::string text = fmt::format("cannot write {}: {}", path_, std::strerror(error));
    struct stat info {};
    if (::fstat(file_, &info) == 0 && S_ISREG(info.st_mode) &&
        ::ftruncate(file_, static_cast<off_t>(size_)) != 0)
      text += fmt::format("; its last row is torn ({})", std::strerror(errno));
    throw RunFileError(text);
  }
  size_ += rows_.size();
  rows_.clear();
}

void write_whole_file(const std::string& path, std::string_view text) {
  const std::string temporary = path + ".tmp";
  const int file = open_empty(temporary);
  int error = write_all(file, text);
  if (::close(file) != 0 && error == 0) error = errno;
  if (error == 0 && std::rename(temporary.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return;
  ::unlink(temporary.c_str());
  throw RunFileError(fmt::format("cannot write {}: {}", path, std::strerror(error)));
}

}  // namespace strait::sim
