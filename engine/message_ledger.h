// How much memory a rank holds in messages: those that it makes until it sends them, and those that it has received until it lets go of
// them. What is on its way belongs to nobody.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>

namespace strait {

class MessageLedger : public std::enable_shared_from_this<MessageLedger> {
 public:
  // Counted as held until the result and its copies are gone.
  std::shared_ptr<void> hold(size_t bytes) {
    const size_t held = held_ += bytes;
    high_water_ = std::max(high_water_, held);
    return {this, [self = shared_from_this(), bytes](void*) { self->held_ -= bytes; }};
  }
  size_t high_water() const { return high_water_; }

 private:
  std::atomic<size_t> held_ = 0;  // the last holder may end on another thread
  size_t high_water_ = 0;
};

}  // namespace strait
