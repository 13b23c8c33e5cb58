// Writes one rank's log: what it computed (with every op's cost), sent and received, in program order. While paused
// (evaluation, set-up) nothing is written. Knows durations as the backend measured them, and no other time; they are read
// when the step is over, so that nobody waits for a device inside it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/message_ledger.h"
#include "kernels/backend.h"
#include "sim/record/log.h"

namespace strait {

class RankRecorder {
 public:
  RankRecorder(int rank, Backend& ops) : rank_(rank), ops_(ops) {}

  void begin_step();       // clears the log, restarts message numbers
  record::RankLog take();  // the step's log
  void pause(bool on);     // not inside a segment; sender and receiver of a message pause alike

  // What this rank holds in messages.
  const std::shared_ptr<MessageLedger>& messages() const { return messages_; }

  // Called by Communicator. next_id() is (rank << 32) | running number.
  uint64_t next_id();
  void sent(uint64_t id, int to, record::MessageKind kind, int microbatch, Bytes payload,
            Bytes sync, Bytes dense);
  void received(uint64_t id, int from);

  // Books everything computed in its lifetime as one entry, or as several where messages come between (between()). Not nested. With
  // no op inside, no entry is written.
  class Segment {
   public:
    Segment(RankRecorder& recorder, record::Category category, record::Phase phase, int microbatch);
    ~Segment();
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

   private:
    friend class RankRecorder;
    void open();
    void close();

    RankRecorder& recorder_;
    record::Compute entry_;
    std::vector<OpCost> costs_;
    int64_t started_;
    bool abandoned_ = false;
  };

  // Sends or receives in the middle of a segment, if one is open: it is closed before and opened again after.
  template <class Exchange>
  auto between(Exchange&& exchange) {
    const Break pause(*this);
    return exchange();
  }
  // Books `work`, in the middle of a segment, as an entry of its own, of the same microbatch.
  template <class Work>
  void aside(record::Category category, record::Phase phase, Work&& work) {
    const Break pause(*this);
    const Segment own(*this, category, phase, pause.microbatch());
    work();
  }

 private:
  class Break {
   public:
    explicit Break(RankRecorder& recorder);
    ~Break();
    Break(const Break&) = delete;
    Break& operator=(const Break&) = delete;
    int microbatch() const { return segment_ == nullptr ? -1 : segment_->entry_.microbatch; }

   private:
    RankRecorder& recorder_;
    Segment* segment_;
    int exceptions_;  // in flight at its beginning
  };
  // Marks of the backend around an entry of the log.
  struct Measured {
    size_t entry;
    int64_t begin, end;
  };

  int rank_;
  Backend& ops_;
  bool paused_ = false;
  std::shared_ptr<MessageLedger> messages_ = std::make_shared<MessageLedger>();
  Segment* segment_ = nullptr;  // that is open
  uint64_t next_message_ = 0;
  record::RankLog log_;
  std::vector<Measured> measured_;
};

// The names that record::OpWork::name indexes: those of enum Op, in order.
std::vector<std::string> op_names();

}  // namespace strait
