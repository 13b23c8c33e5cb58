// What makes a record meaningful beyond its bytes: a step whose messages, events and ops refer to
// things that exist. Writer and reader apply the same rules, so a producer hears of a mistake when
// it makes it.
#pragma once

#include "sim/record/log.h"

namespace strait::record {

// All of these throw std::invalid_argument with a text that names rank, entry and what is wrong.

// Grid sizes >= 1 whose product is the number of ranks, each rank at its place; sizes within
// format.h's limits.
void validate_header(const RecordHeader& header);

// Everything about a step but its values: ranks as in the header; ops and message ends in range;
// message ids unique and (sender << 32 | number); every message received exactly once, by the rank
// it is sent to; events signalled once, and waited for only where they are signalled; entries and
// ops within format.h's limits.
void validate_structure(const StepLog& step, const RecordHeader& header);

// The values: 0 <= measured <= kMaxMeasured, 1 <= payload + sync <= kMaxMessageBytes, no `dense` on
// sync messages.
void validate_values(const StepLog& step);

// The order of frames: a header; steps 1, 2, 3 ...; evaluations and diagnostics of steps that are
// there; a footer, last.
class FrameOrder {
 public:
  void accept(const Frame& frame);
  bool has_header() const { return has_header_; }
  bool finished() const { return finished_; }
  int64_t last_step() const { return last_step_; }

 private:
  bool has_header_ = false;
  bool finished_ = false;
  int64_t last_step_ = 0;
};

}  // namespace strait::record
