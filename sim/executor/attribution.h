// The critical path: walked back from a step's end to the previous step's end, every nanosecond of
// it is a rank that works or a message in one of its phases, because nothing starts before what it
// depends on and nothing waits without a reason.
//
// The cut. What began before the previous step's end is counted only from there on. A compute is
// simply clipped. Of a message, whose phases are known as durations, the latest count, in the order
// of a message's life: host, queue, window, recovery, serialisation, propagation. So a message of
// which 25 ms lie behind the cut counts its (up to) 25 ms of propagation first, then serialisation,
// and so on backwards.
#pragma once

#include "sim/executor/timing.h"

namespace strait::sim {

// Uses log, entries, messages, ranks' ends and last entries, begin and end of `step`; ignores
// step.path. Of several ranks that finish last together, the lowest is walked. Throws
// std::logic_error if the parts do not add up to end - begin, which would be a defect of the
// executor.
Attribution attribute(const StepTiming& step);

}  // namespace strait::sim
