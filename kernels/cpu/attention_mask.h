// What attention needs besides lanes: its sizes, deciding by positions which part of a block is
// allowed, and cutting a per-thread scratch region into arrays. Included before any target pragma:
// plain code.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/backend.h"

namespace strait::cpu {

// Rows of queries and of keys in a block: the scores of one take 16 KiB, and so does a block of
// 64-wide keys.
inline constexpr int64_t kQueryBlock = 64;
inline constexpr int64_t kKeyBlock = 64;

// Sizes of one attention op.
struct AttentionSizes {
  int64_t B, Tq, Tk, H, Hkv, Dh;
  int64_t group;   // query heads per key head
  int64_t padded;  // Dh rounded up to whole lanes: the row stride of packed blocks

  AttentionSizes(const Tensor& q, const Tensor& k)
      : B(q.size(0)),
        Tq(q.size(1)),
        Tk(k.size(1)),
        H(q.size(2)),
        Hkv(k.size(2)),
        Dh(q.size(3)),
        group(H / Hkv),
        padded((Dh + 15) / 16 * 16) {}
};

// Consecutive arrays in one scratch region; counts only while `memory` is null.
class Carver {
 public:
  explicit Carver(float* memory) : memory_(memory) {}
  float* take(int64_t count) {
    const int64_t begin = used_;
    used_ += (count + 15) / 16 * 16;
    return memory_ == nullptr ? nullptr : memory_ + begin;
  }
  size_t bytes() const { return static_cast<size_t>(used_) * sizeof(float); }

 private:
  float* memory_;
  int64_t used_ = 0;
};

// The queries and keys of one block pair that may meet.
enum class Coverage { none, some, all };

// Positions and documents of one block of keys, padded to whole lanes by keys that no query may
// see. Without a causal mask every real key stands at the lowest position, so that only the padding
// is cut.
struct KeyPositions {
  static constexpr int32_t kNever = std::numeric_limits<int32_t>::max();
  int32_t position[kKeyBlock];
  int32_t document[kKeyBlock];
  int32_t lowest, highest, first_document, last_document;
  int64_t count;

  KeyPositions(const AttentionMask& mask, int64_t b, int64_t begin, int64_t end)
      : count(end - begin) {
    const int32_t* documents = mask.k_document.defined() ? mask.k_document.as<const int32_t>() +
                                                               b * mask.k_document.size(1)
                                                         : nullptr;
    lowest = first_document = kNever;
    highest = last_document = std::numeric_limits<int32_t>::min();
    for (int64_t j = 0; j < kKeyBlock; ++j) {
      const bool real = j < count;
      position[j] = !real         ? kNever
                    : mask.causal ? mask.k_position.as<const int32_t>()[begin + j]
                                  : std::numeric_limits<int32_t>::min();
      document[j] = real && documents != nullptr ? documents[begin + j] : 0;
      if (!real) continue;
      lowest = std::min(lowest, position[j]);
      highest = std::max(highest, position[j]);
      first_document = std::min(first_document, document[j]);
      last_document = std::max(last_document, document[j]);
    }
  }
};

// Positions and documents of the queries of one batch entry. A key is allowed where key position <=
// bound(u) and, if there are documents, key document == document(u).
struct QueryPositions {
  const int32_t* position;
  const int32_t* documents;  // null: no document mask

  QueryPositions(const AttentionMask& mask, int64_t b)
      : position(mask.q_position.as<const int32_t>()),
        documents(mask.q_document.defined()
                      ? mask.q_document.as<const int32_t>() + b * mask.q_document.size(1)
                      : nullptr) {}
  // Never so high that padding would be allowed.
  int32_t bound(int64_t u) const { return std::min(position[u], KeyPositions::kNever - 1); }

  // The highest bound of queries [begin, end).
  int32_t highest_bound(int64_t begin, int64_t end) const {
    int32_t highest = bound(begin);
    for (int64_t u = begin + 1; u < end; ++u) highest = std::max(highest, bound(u));
    return highest;
  }

  Coverage coverage(const KeyPositions& keys, int64_t begin, int64_t end) const {
    int32_t low = bound(begin), high = low;
    int32_t first = documents != nullptr ? documents[begin] : 0, last = first;
    for (int64_t u = begin; u < end; ++u) {
      low = std::min(low, bound(u));
      high = std::max(high, bound(u));
      if (documents == nullptr) continue;
      first = std::min(first, documents[u]);
      last = std::max(last, documents[u]);
    }
    if (keys.lowest > high) return Coverage::none;
    if (documents != nullptr && (keys.first_document > last || keys.last_document < first))
      return Coverage::none;
    const bool one_document =
        first == last && keys.first_document == first && keys.last_document == first;
    const bool everything =
        keys.highest <= low && keys.count == kKeyBlock && (documents == nullptr || one_document);
    return everything ? Coverage::all : Coverage::some;
  }
};

// Leading groups of sixteen keys that hold any key at or below `bound`.
inline int64_t groups_below(const KeyPositions& keys, int32_t bound) {
  int64_t j = kKeyBlock;
  while (j > 0 && keys.position[j - 1] > bound) --j;
  return (j + 15) / 16;
}

// Rows of a head lie far apart in packed operands, out of reach of hardware prefetching: ask for
// the row some rows ahead.
inline constexpr int64_t kRowsAhead = 16;
inline void prefetch_row(const void* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(row) + i);
}

}  // namespace strait::cpu
