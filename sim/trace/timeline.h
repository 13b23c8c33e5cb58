// timeline.json: the Chrome trace event format, which Perfetto and chrome://tracing open. One track
// a rank with what it computes, one track a link direction with its messages, and an arrow from
// every send to its receive.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sim/executor/timing.h"

namespace strait::sim {

// Collects some steps and then writes them; holds about 100 bytes an event until then.
class Timeline {
 public:
  explicit Timeline(int ranks)
      : last_delivered_(static_cast<size_t>(ranks) * ranks), ranks_(ranks) {}

  void add(const StepTiming& step);

  // The whole file. Times are microseconds of virtual time with three decimals, so that nanoseconds
  // are kept.
  //   pid 1, tid r            a slice for every compute of rank r, and one of 1 ns for every send
  //   and receive pid 2, tid from*R+to    a slice for every message, from its sending, or from the
  //   delivery of the message before it
  //                           in that direction, to its delivery: slices of a track never overlap
  //   ph s, f                 the arrow; its id is the same at both ends and unique in the file
  std::string json() const;

 private:
  struct Slice {
    int pid, tid;
    Nanoseconds start, length;
    std::string name, category, arguments;
  };
  struct Arrow {
    uint64_t id;
    int tid;
    bool begins;
    Nanoseconds at;
    std::string name;
  };

  void add_computes(const StepTiming& step);
  void add_message(const StepTiming& step, const MessageTiming& message);

  std::vector<Slice> slices_;
  std::vector<Arrow> arrows_;
  std::vector<Nanoseconds> last_delivered_;  // by direction
  std::vector<int> directions_;              // that carried a message
  uint64_t next_arrow_ = 1;
  int ranks_;
};

}  // namespace strait::sim
