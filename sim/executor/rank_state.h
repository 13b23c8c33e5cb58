// One rank while it is replayed: its queues, what it computes, and the book of where its time goes.
// The book closes at every change of state, so that the four parts add up to the time passed,
// exactly.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "sim/record/log.h"
#include "sim/record/units.h"

namespace strait::sim {

enum class QueueState : uint8_t { ready, on_device, asking_for_device, at_receive, at_wait, done };

struct Queue {
  QueueState state = QueueState::ready;
  size_t position = 0;  // of the entry that is next or under way
  int32_t last =
      -1;  // the entry that let the queue come so far; EntryTiming::previous of the next one
};

struct Running {
  int queue = 0;
  int32_t entry = 0;
  record::Category category = record::Category::compute;
  Nanoseconds end;
};

// Where time went, cumulative.
struct TimeBook {
  Nanoseconds compute, codec, waiting, idle;
};

struct RankState {
  int64_t step = 0;  // place of its step among all that were fed: 0, 1, 2 ...
  std::vector<Queue> queues;
  size_t queues_left = 0;  // that have not finished the step
  std::optional<Running> running;
  std::deque<int> asking;      // queues that wait for the rank, first come first served
  int receives_under_way = 0;  // queues at a receive whose message is in flight
  TimeBook book;
  TimeBook book_at_last_step_end;
  Nanoseconds booked_until;

  // Books the time since the last call under the present state; call it before the state changes.
  void book_until(Nanoseconds now) {
    const Nanoseconds passed = now - booked_until;
    booked_until = now;
    if (running) {
      (running->category == record::Category::codec ? book.codec : book.compute) += passed;
    } else if (receives_under_way > 0) {
      book.waiting += passed;
    } else {
      book.idle += passed;
    }
  }
};

}  // namespace strait::sim
