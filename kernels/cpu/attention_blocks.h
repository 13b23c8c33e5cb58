// What both directions of attention share: packing a block of keys or queries as f32, deciding by positions which part of a
// block is allowed, and cutting a per-thread scratch region into arrays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/cpu/exponential.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/transpose.h"

namespace strait::cpu {

// Rows of queries and of keys in a block: the scores of one take 16 KiB, and so does a block of 64-wide keys.
inline constexpr int64_t kQueryBlock = 64;
inline constexpr int64_t kKeyBlock = 64;

// Sizes of one attention op.
struct AttentionSizes {
  int64_t B, Tq, Tk, H, Hkv, Dh;
  int64_t group;   // query heads per key head
  int64_t padded;  // Dh rounded up to whole lanes: the row stride of packed blocks

  AttentionSizes(const Tensor& q, const Tensor& k)
      : B(q.size(0)), Tq(q.size(1)), Tk(k.size(1)), H(q.size(2)), Hkv(k.size(2)), Dh(q.size(3)), group(H / Hkv),
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

// Positions and documents of one block of keys, padded to whole lanes by keys that no query may see. Without a causal mask
// every real key stands at the lowest position, so that only the padding is cut.
struct KeyPositions {
  static constexpr int32_t kNever = std::numeric_limits<int32_t>::max();
  int32_t position[kKeyBlock];
  int32_t document[kKeyBlock];
  int32_t lowest, highest, first_document, last_document;
  int64_t count;

  KeyPositions(const AttentionMask& mask, int64_t b, int64_t begin, int64_t end) : count(end - begin) {
    const int32_t* documents = mask.k_document.defined() ? mask.k_document.as<const int32_t>() + b * mask.k_document.size(1) : nullptr;
    lowest = first_document = kNever;
    highest = last_document = std::numeric_limits<int32_t>::min();
    for (int64_t j = 0; j < kKeyBlock; ++j) {
      const bool real = j < count;
      position[j] = !real ? kNever : mask.causal ? mask.k_position.as<const int32_t>()[begin + j] : std::numeric_limits<int32_t>::min();
      document[j] = real && documents != nullptr ? documents[begin + j] : 0;
      if (!real) continue;
      lowest = std::min(lowest, position[j]);
      highest = std::max(highest, position[j]);
      first_document = std::min(first_document, document[j]);
      last_document = std::max(last_document, document[j]);
    }
  }
};

// Positions and documents of the queries of one batch entry. A key is allowed where key position <= bound(u) and, if there
// are documents, key document == document(u).
struct QueryPositions {
  const int32_t* position;
  const int32_t* documents;  // null: no document mask

  QueryPositions(const AttentionMask& mask, int64_t b)
      : position(mask.q_position.as<const int32_t>()),
        documents(mask.q_document.defined() ? mask.q_document.as<const int32_t>() + b * mask.q_document.size(1) : nullptr) {}
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
    if (documents != nullptr && (keys.first_document > last || keys.last_document < first)) return Coverage::none;
    const bool one_document = first == last && keys.first_document == first && keys.last_document == first;
    const bool everything = keys.highest <= low && keys.count == kKeyBlock && (documents == nullptr || one_document);
    return everything ? Coverage::all : Coverage::some;
  }
};

// Leading groups of sixteen keys that hold any key at or below `bound`.
inline int64_t groups_below(const KeyPositions& keys, int32_t bound) {
  int64_t j = kKeyBlock;
  while (j > 0 && keys.position[j - 1] > bound) --j;
  return (j + 15) / 16;
}

// scores[0, 16 groups) = -inf where query u may not see the key.
template <class V>
void mask_row(float* scores, int64_t groups, const KeyPositions& keys, const QueryPositions& queries, int64_t u) {
  const V never = V::set1(-std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < 16 * groups; j += 16) {
    V s = V::where_at_most(keys.position + j, queries.bound(u), V::load(scores + j), never);
    if (queries.documents != nullptr) s = V::where_equal(keys.document + j, queries.documents[u], s, never);
    s.store(scores + j);
  }
}

// Rows [begin, end) of head h of x (B,T,H,Dh) as f32 times `factor`, with row stride `padded`; the padding is 0.
template <class V>
void pack_rows(float* out, const Tensor& x, int64_t b, int64_t h, int64_t begin, int64_t end, int64_t padded, float factor) {
  const V f = V::set1(factor);
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const T* base = x.as<const T>() + b * x.stride(0) + h * x.size(3);
    for (int64_t t = begin; t < end; ++t)
      for_groups(x.size(3), [&](int64_t d, auto lanes) { (load<V>(base + t * x.stride(1) + d, lanes) * f).store(out + (t - begin) * padded + d); });
  });
}

// The same rows transposed: out (Dh, kKeyBlock); columns behind the last row are 0.
template <class V>
void pack_transposed(float* out, const Tensor& x, int64_t b, int64_t h, int64_t begin, int64_t end) {
  if (end - begin < kKeyBlock) std::fill_n(out, x.size(3) * kKeyBlock, 0.0f);
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    transpose<V>(out, kKeyBlock, x.as<const T>() + b * x.stride(0) + begin * x.stride(1) + h * x.size(3), x.stride(1), end - begin, x.size(3));
  });
}

// Rows [begin, end) of head h of y (B,T,H,Dh) = or += in (rows, padded) times `factor`.
template <class V>
void unpack_rows(const Tensor& y, int64_t b, int64_t h, int64_t begin, int64_t end, const float* in, int64_t padded, float factor, bool accumulate) {
  const V f = V::set1(factor);
  by_type(y.dtype, [&](auto element) {
    using T = decltype(element);
    T* base = y.as<T>() + b * y.stride(0) + h * y.size(3);
    for (int64_t t = begin; t < end; ++t)
      for_groups(y.size(3), [&](int64_t d, auto lanes) {
        T* out = base + t * y.stride(1) + d;
        V value = V::load(in + (t - begin) * padded + d) * f;
        if (accumulate) value = value + load<V>(out, lanes);
        store(out, value, lanes);
      });
  });
}

}  // namespace strait::cpu
