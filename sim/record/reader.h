// Reads a record, also while it is being written. Every frame is checked before it is given out:
// checksums, form, and the rules of validate.h; what is wrong is told with file and byte. Hostile
// files give an error, never a crash.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "sim/record/format.h"
#include "sim/record/log.h"

namespace strait::record {

class RecordReader {
 public:
  // Throws RecordError if `path` cannot be opened. The file may still be empty.
  explicit RecordReader(const std::string& path);
  ~RecordReader();
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;

  // The next frame; the first is the RecordHeader. nullopt at the end of the whole frames: after
  // the footer for good, before it until the file has grown, so a follower calls again later.
  // Throws RecordError for a damaged or foreign file, and again on every later call.
  std::optional<Frame> next();

  // The footer has been read: nothing more will come.
  bool finished() const;

  // After next() has returned nullopt: the offset of a last frame that is there only in part, if
  // there is one. A writer that was killed leaves such a tail; it is no damage.
  std::optional<uint64_t> torn_tail() const;

  // Bytes read as whole frames so far, and those frames, structures included.
  uint64_t offset() const;
  uint32_t frames() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strait::record
