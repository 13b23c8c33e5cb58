// Slots with a queue: release hands the slot to whoever has waited longest, without waking anybody
// else.
#include "engine/host_slots.h"

#include "kernels/check.h"

namespace strait {

HostSlots::HostSlots(int slots) : free_(slots) {
  STRAIT_CHECK(slots >= 1, "at least one rank must compute");
}

void HostSlots::acquire() {
  std::unique_lock lock(mutex_);
  if (free_ > 0) {
    --free_;
    return;
  }
  Waiter self;
  queue_.push_back(&self);
  self.wake.wait(lock, [&] { return self.granted; });
}

void HostSlots::release() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) {
    ++free_;
    return;
  }
  Waiter* const longest = queue_.front();
  queue_.pop_front();
  longest->granted = true;
  longest->wake
      .notify_one();  // under the lock: the waiter's condition variable ends with its acquire()
}

}  // namespace strait
