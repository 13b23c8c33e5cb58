// A bump allocator over one region of device memory, with marks. Without memory it only counts: the dry run on the meta
// backend executes the same code and so sizes every region exactly (design, section 4).
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>

#include "kernels/tensor.h"

namespace strait {

class Arena {
 public:
  static constexpr size_t kAlignment = 256;

  // Counts only.
  Arena() = default;
  // Serves from [memory, memory + capacity); `memory` may be null on the meta backend with a capacity of 0 = unlimited.
  // `name` appears in the error when it is full.
  Arena(void* memory, size_t capacity, std::string name)
      : memory_(static_cast<std::byte*>(memory)), capacity_(capacity), name_(std::move(name)) {}

  // Throws std::logic_error if the region is full (the dry run sized it, so this is a bug, never the user's).
  Tensor take(Shape shape, DType dtype) {
    const size_t begin = used_;
    const size_t need = (static_cast<size_t>(shape.elements()) * size_of(dtype) + kAlignment - 1) /
                        kAlignment * kAlignment;
    used_ += need;
    high_water_ = std::max(high_water_, used_);
    if (memory_ == nullptr) return Tensor(nullptr, dtype, shape);
    STRAIT_CHECK(used_ <= capacity_, "arena '" + name_ + "' is full: " + std::to_string(used_) +
                                         " of " + std::to_string(capacity_) + " bytes");
    return Tensor(memory_ + begin, dtype, shape);
  }

  size_t mark() const { return used_; }
  void rewind(size_t mark) {
    STRAIT_CHECK(mark <= used_);
#ifndef NDEBUG
    if (memory_ != nullptr && poison_)
      std::fill(memory_ + mark, memory_ + used_, std::byte{0xFF});  // reads as NaN
#endif
    used_ = mark;
  }
  // Back to where take() had come to before: what was taken up to there is in use again.
  void restore(size_t mark) {
    STRAIT_CHECK(mark <= high_water_);
    used_ = mark;
  }
  size_t high_water() const { return high_water_; }
  // Debug builds fill rewound memory with NaN bytes; only for memory that the host may write.
  void set_poison(bool on) { poison_ = on; }

 private:
  std::byte* memory_ = nullptr;
  size_t capacity_ = 0;
  std::string name_ = "counting";
  size_t used_ = 0;
  size_t high_water_ = 0;
  bool poison_ = false;
};

// Rewinds an arena at the end of a scope.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.mark()) {}
  ~ArenaScope() { arena_.rewind(mark_); }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace strait
