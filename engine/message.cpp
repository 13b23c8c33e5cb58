// Memory of messages and how their sections lie in it (message.h).
#include "engine/message.h"

#include <limits>
#include <new>
#include <utility>

#include <fmt/format.h>

namespace strait {

std::shared_ptr<DeviceMemory> MessagePool::take(Backend& ops, size_t bytes) {
  std::unique_ptr<DeviceMemory> memory;
  {
    const std::lock_guard lock(shelf_->mutex);
    if (const auto found = shelf_->free.find(bytes);
        found != shelf_->free.end() && !found->second.empty()) {
      memory = std::move(found->second.back());
      found->second.pop_back();
    }
  }
  if (memory == nullptr) memory = ops.allocate(bytes);
  // A weak reference: memory that outlives its pool is freed instead of shelved.
  auto put_back = [shelf = std::weak_ptr<Shelf>(shelf_), bytes](DeviceMemory* raw) noexcept {
    std::unique_ptr<DeviceMemory> released(raw);
    const auto alive = shelf.lock();
    if (alive == nullptr) return;
    const std::lock_guard lock(alive->mutex);
    try {
      alive->free[bytes].push_back(std::move(released));
    } catch (const std::bad_alloc&) {
      // No room to remember it; `released` still owns it and frees it.
    }
  };
  return {memory.release(), std::move(put_back)};
}

Message::Message(MessagePool& pool, Backend& ops, const std::vector<Section>& sections) {
  for (const Section& section : sections) {
    const int64_t elements = section.shape.elements();
    STRAIT_CHECK(section.shape.rank > 0 && elements >= 0,
                 "a section has a shape, not " + to_string(section.shape));
    const size_t width = size_of(section.dtype);
    STRAIT_CHECK(bytes_ % width == 0,
                 fmt::format("section {} ({}) would begin at byte {}: put wider dtypes first",
                             views_.size(), name_of(section.dtype), bytes_));
    STRAIT_CHECK(
        static_cast<uint64_t>(elements) <= (std::numeric_limits<int64_t>::max() - bytes_) / width,
        "message of more than 2^63 bytes");
    views_.emplace_back(nullptr, section.dtype, section.shape);
    bytes_ += static_cast<uint64_t>(elements) * width;
  }
  memory_ = pool.take(ops, bytes_);
  holder_ = pool.hold(bytes_);
  if (memory_->data() == nullptr) return;  // meta backend
  auto* position = static_cast<std::byte*>(memory_->data());
  for (Tensor& view : views_) {
    view.data = position;
    position += view.bytes();
  }
}

Message Message::part(const std::vector<size_t>& sections) const {
  Message some = *this;
  some.views_.clear();
  some.bytes_ = 0;
  for (size_t i : sections) {
    some.views_.push_back(section(i));
    some.bytes_ += section(i).bytes();
  }
  return some;
}

}  // namespace strait
