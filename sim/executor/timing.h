// What the executor finds out about one step: when every entry ran, how every message travelled,
// where the time of the step and of every rank went. Plain data; trace/ writes it to files, `strait
// show` prints some of it.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/network/network.h"
#include "sim/record/log.h"
#include "sim/record/units.h"

namespace strait::sim {

// The critical path of a step by what it consists of (design, section 5.3; docs/metrics.md). Adds
// up to step_s exactly.
struct Attribution {
  Nanoseconds compute, codec;                                             // a rank works
  Nanoseconds host, serialisation, propagation, window, queue, recovery;  // a message travels

  Nanoseconds total() const {
    return compute + codec + host + serialisation + propagation + window + queue + recovery;
  }
  bool operator==(const Attribution&) const = default;
};

// When an entry of a rank's log ran. `start`: its queue reached it, and for a compute: it got the
// rank. `end`: the queue went on.
struct EntryTiming {
  Nanoseconds start, end;
  int32_t previous = -1;  // the entry of this rank and step whose end let this one go on; -1: the
                          // rank began the step with it
  int32_t message = -1;   // a receive that stood still: the message (index into
                          // StepTiming::messages) that let it go on
};

struct MessageTiming {
  uint64_t id = 0;
  int32_t from = 0, to = 0;
  record::MessageKind kind = record::MessageKind::forward;
  int32_t microbatch = -1;
  Bytes payload, sync, dense;
  int32_t send_entry = -1;     // index into the sender's entries
  int32_t receive_entry = -1;  // index into the receiver's entries
  Delivery delivery;           // sent, delivered and the phases between
  Nanoseconds received;        // the receiving queue took it: >= delivered

  Bytes bytes() const { return payload + sync; }
};

// Where a rank's time went between the ends of two steps: the four add up to step_s. The bytes are
// those of the messages of the step, whenever they travelled.
struct RankTiming {
  Nanoseconds compute, codec;
  Nanoseconds waiting;  // not computing, and a queue stands at a receive whose message is under way
  Nanoseconds idle;     // the rest: nothing to do, or the message has not been sent yet
  Bytes bytes_sent, bytes_received;
  Nanoseconds end;          // the rank finished its update of this step; <= the step's end
  int32_t last_entry = -1;  // the entry that finished last; -1: the rank has none
};

struct StepTiming {
  record::StepLog log;
  Nanoseconds begin, end;  // end of the previous step (0 before the first), and of this one
  Attribution path;
  std::vector<RankTiming> ranks;
  std::vector<std::vector<EntryTiming>> entries;  // as log.ranks[r].entries
  std::vector<MessageTiming> messages;            // by sender, then in the order of its log
  std::vector<LinkUse> links;                     // cumulative counters at `end`

  Nanoseconds step_time() const { return end - begin; }
};

}  // namespace strait::sim
