// Bounds how many ranks compute on the host at once: a rank holds a slot while it computes and
// gives it back while it waits for a message. Slots decide when ranks compute, never what: messages
// are matched by name (in_process.h), so results are the same for any number of slots.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>

namespace strait {

// Cannot deadlock on its own: nobody who holds a slot waits for another rank, so every slot comes
// back.
class HostSlots {
 public:
  explicit HostSlots(int slots);

  // Waits until a slot is free; in order of arrival, so that nobody starves.
  void acquire();
  void release();

 private:
  struct Waiter {
    std::condition_variable wake;
    bool granted = false;
  };
  std::mutex mutex_;
  int free_;
  std::deque<Waiter*> queue_;
};

}  // namespace strait
