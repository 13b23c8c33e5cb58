// Files that are whole at any moment: rows are appended with one write each and cut back when the
// disk is full, everything else is written to a temporary name and renamed. Errors are RunFileError
// with path and the system's reason.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "sim/record/units.h"

namespace strait::sim {

class RunFileError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A CSV file that grows row by row. Rows are collected and appended whole by flush().
class CsvFile {
 public:
  // Creates or empties `path` and writes the line `columns`.
  CsvFile(std::string path, std::string_view columns);
  ~CsvFile();
  CsvFile(const CsvFile&) = delete;
  CsvFile& operator=(const CsvFile&) = delete;

  // One cell each; cells of one row follow each other until end_row().
  CsvFile& cell(int64_t value);
  CsvFile& cell(int value) { return cell(int64_t{value}); }
  CsvFile& cell(Bytes value);
  CsvFile& cell(uint64_t value);
  CsvFile& cell(Nanoseconds value);  // seconds with nine decimals
  CsvFile& cell(
      double value);  // the shortest text that reads back as the same double; "nan", "inf", "-inf"
  CsvFile& cell(std::string_view text);  // quoted where it holds a comma, a quote or a line end
  void end_row();

  // Appends the finished rows to the file. On failure the file is cut to what it was, and
  // RunFileError thrown.
  void flush();

 private:
  void separate();

  std::string path_;
  int file_ = -1;
  uint64_t size_ = 0;
  std::string rows_;
  bool row_begun_ = false;
};

// A cell's text: quoted where it holds a comma, a quote or a line end.
std::string csv_text(std::string_view text);

// "12.000000345": seconds of virtual time with nine decimals.
std::string seconds_text(Nanoseconds time);

// Writes `text` to `path` by way of `path`.tmp and a rename.
void write_whole_file(const std::string& path, std::string_view text);

}  // namespace strait::sim
