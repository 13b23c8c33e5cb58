// Writes a record to disk while training runs: append-only, one write a frame, so that a reader
// beside it never sees more than a torn last frame. The structure of a step is stored once, later
// steps as differences (docs/record_format.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/record/format.h"
#include "sim/record/log.h"

namespace strait::record {

struct ResumeAt {
  uint64_t bytes = 0;
};

// Not thread-safe: one thread at a time.
class RecordWriter {
 public:
  // Creates `path`, replacing a file of that name; its directory must exist. `encoding` stored
  // writes plain frames. Throws RecordError with the path and the system's reason.
  explicit RecordWriter(const std::string& path, Encoding encoding = Encoding::zstd);
  // Goes on with the record at `path` after its first `bytes`, which must end with a whole frame and hold no footer; what follows
  // them is cut off. The file that grows is then byte for byte the one that would have grown without the interruption. Throws
  // RecordError for a file that is shorter, damaged before `bytes`, or finished.
  RecordWriter(const std::string& path, ResumeAt bytes, Encoding encoding = Encoding::zstd);
  ~RecordWriter();
  RecordWriter(const RecordWriter&) = delete;
  RecordWriter& operator=(const RecordWriter&) = delete;

  // Appends a frame and hands it to the operating system before it returns. Order: RecordHeader
  // first, steps 1, 2, 3 ..., evaluations and diagnostics after the step they name, RecordFooter
  // last. Throws std::invalid_argument, writing nothing, for a frame that breaks the rules of
  // validate.h; RecordError when the file cannot be written (a full disk): it is then cut to the
  // last whole frame, and every later write fails the same way.
  void write(const Frame& frame);

  // Length of the file: whole frames.
  uint64_t bytes() const;
  // Waits until all that was written is on disk. Throws RecordError.
  void sync();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strait::record
