// Attention forward with online softmax (Milakov & Gimelshein 2018; Dao et al. 2022): for each
// block of 64 keys, the scores of 64 queries at a time, their running maximum m and sum l, and o +=
// P V, all in f32 and in cache.
//
// One unit of work is (batch entry, key head, up to 256 query rows of its group of heads); keys and
// values are packed once per unit and block, keys transposed, so that both products are the tile of
// gemm_tile.h. Blocks that no query may see are skipped, in partly masked ones each tile of rows
// stops behind its last allowed key. A row's result depends on that row and the keys alone, never
// on how rows are split.
#pragma once

#include <cmath>

#include "kernels/cpu/attention_blocks.h"

namespace strait::cpu {

template <class V>
class AttentionForward {
 public:
  AttentionForward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                   double scale)
      : o_(o),
        lse_(lse),
        q_(q),
        k_(k),
        v_(v),
        mask_(mask),
        scale_(static_cast<float>(scale)),
        n_(q, k) {
    rows_ = std::max(kQueryBlock, 256 / n_.group / kQueryBlock * kQueryBlock);
    rows_ = std::min(rows_, n_.Tq);
  }

  void run(int threads, Scratch& scratch) {
    scratch.reserve(Buffers(*this, nullptr).bytes);
    const int64_t pieces = chunks_of(n_.Tq, rows_);
    parallel_for(threads, n_.B * n_.Hkv * pieces, [&](int64_t unit, int thread) {
      Buffers buffers(*this, scratch.of_thread<float>(thread));
      const Range rows = chunk_range(unit % pieces, rows_, n_.Tq);
      run_unit(buffers, unit / pieces / n_.Hkv, unit / pieces % n_.Hkv, rows);
    });
  }

 private:
  struct Buffers {
    float *q, *o;   // (group, rows, padded): scaled queries, unnormalised outputs
    float *m, *l;   // (group, rows), (group, rows, 16): running maximum; running sum, lane by lane
    float *k, *v;   // (Dh, 64), (64, padded)
    float* scores;  // (64, 64)
    size_t bytes;

    Buffers(const AttentionForward& a, float* memory) {
      Carver carver(memory);
      const int64_t rows = a.n_.group * a.rows_;
      q = carver.take(rows * a.n_.padded);
      o = carver.take(rows * a.n_.padded);
      m = carver.take(rows);
      l = carver.take(rows * 16);
      k = carver.take(a.n_.Dh * kKeyBlock);
      v = carver.take(kKeyBlock * a.n_.padded);
      scores = carver.take(kQueryBlock * kKeyBlock);
      bytes = carver.bytes();
    }
  };

  void run_unit(Buffers& buffer, int64_t b, int64_t hkv, Range rows) const {
    const int64_t stacked = n_.group * rows_;
    std::fill_n(buffer.o, stacked * n_.padded, 0.0f);
    std::fill_n(buffer.m, stacked, -std::numeric_limits<float>::infinity());
    std::fill_n(buffer.l, stacked * 16, 0.0f);
    for (int64_t g = 0; g < n_.group; ++g)
      pack_rows<V>(buffer.q + g * rows_ * n_.padded, q_, b, hkv * n_.group + g, rows.begin,
                   rows.end, n_.padded, scale_);

    const QueryPositions queries(mask_, b);
    for (int64_t begin = 0; begin < n_.Tk; begin += kKeyBlock) {
      const int64_t end = std::min(begin + kKeyBlock, n_.Tk);
      const KeyPositions keys(mask_, b, begin, end);
      if (queries.coverage(keys, rows.begin, rows.end) == Coverage::none) continue;
      pack_transposed<V>(buffer.k, k_, b, hkv, begin, end);
      if (end - begin < kKeyBlock) std::fill_n(buffer.v, kKeyBlock * n_.padded, 0.0f);
      pack_rows<V>(buffer.v, v_, b, hkv, begin, end, n_.padded, 1.0f);
      for (int64_t g = 0; g < n_.group; ++g)
        for (int64_t u = rows.begin; u < rows.end; u += kQueryBlock)
          add_block(buffer, g * rows_ + u - rows.begin, keys, queries, u,
                    std::min(u + kQueryBlock, rows.end));
    }
    for (int64_t g = 0; g < n_.group; ++g) finish(buffer, g * rows_, b, hkv * n_.group + g, rows);
  }

  // Queries [begin, end), whose state begins at row `first`, meet one block of keys.
  void add_block(Buffers& buffer, int64_t first, const KeyPositions& keys,
                 const QueryPositions& queries, int64_t begin, int64_t end) const {
    const Coverage coverage = queries.coverage(keys, begin, end);
    if (coverage == Coverage::none) return;
    int64_t groups[kQueryBlock];  // of keys, for each tile of rows
    for (int64_t u = begin, tile = 0; u < end; u += V::kTileRows, ++tile) {
      const int64_t height = std::min<int64_t>(V::kTileRows, end - u), row = first + u - begin;
      groups[tile] = coverage == Coverage::all
                         ? kKeyBlock / 16
                         : groups_below(keys, queries.highest_bound(u, u + height));
      gemm_row_tile<V>(height, groups[tile], buffer.scores + (u - begin) * kKeyBlock, kKeyBlock,
                       {buffer.q + row * n_.padded, n_.padded, 1}, buffer.k, kKeyBlock, n_.Dh,
                       false);
    }
    for (int64_t u = begin; u < end; ++u) {
      const int64_t row = first + u - begin, width = groups[(u - begin) / V::kTileRows];
      float* scores = buffer.scores + (u - begin) * kKeyBlock;
      if (coverage == Coverage::some) mask_row<V>(scores, width, keys, queries, u);
      softmax_row(scores, width, buffer.m + row, buffer.l + row * 16, buffer.o + row * n_.padded);
    }
    for (int64_t u = begin, tile = 0; u < end; u += V::kTileRows, ++tile)
      gemm_row_tile<V>(std::min<int64_t>(V::kTileRows, end - u), n_.padded / 16,
                       buffer.o + (first + u - begin) * n_.padded, n_.padded,
                       {buffer.scores + (u - begin) * kKeyBlock, kKeyBlock, 1}, buffer.v, n_.padded,
                       16 * groups[tile], true);
  }

  // scores <- exp(scores - m'), with the new maximum m'; l and o are rescaled to it.
  void softmax_row(float* scores, int64_t groups, float* m, float* l, float* o) const {
    V largest = V::set1(*m);
    for (int64_t j = 0; j < 16 * groups; j += 16) largest = larger(V::load(scores + j), largest);
    const float maximum = largest.max();
    if (maximum == -std::numeric_limits<float>::infinity()) {  // nothing allowed so far
      for (int64_t j = 0; j < 16 * groups; j += 16) V::zero().store(scores + j);
      return;
    }
    V sum = V::load(l);
    if (maximum > *m) {
      const V shrink = exponential(V::set1(*m - maximum));  // 0 for the first block
      sum = sum * shrink;
      for (int64_t d = 0; d < n_.padded; d += 16) (V::load(o + d) * shrink).store(o + d);
      *m = maximum;
    }
    const V shift = V::set1(maximum);
    for (int64_t j = 0; j < 16 * groups; j += 16) {
      const V p = exponential(V::load(scores + j) - shift);
      sum = sum + p;
      p.store(scores + j);
    }
    sum.store(l);
  }

  void finish(Buffers& buffer, int64_t first, int64_t b, int64_t h, Range rows) const {
    float* lse = lse_.as<float>() + (b * n_.H + h) * n_.Tq;
    for (int64_t u = rows.begin; u < rows.end; ++u) {
      const int64_t row = first + u - rows.begin;
      const float sum = V::load(buffer.l + row * 16).sum(), m = buffer.m[row];
      const bool empty = m == -std::numeric_limits<float>::infinity();
      lse[u] =
          empty ? m
                : static_cast<float>(static_cast<double>(m) + std::log(static_cast<double>(sum)));
      const V inverse = V::set1(empty ? 0.0f : 1.0f / sum);
      for (float* o = buffer.o + row * n_.padded; o < buffer.o + (row + 1) * n_.padded; o += 16)
        (V::load(o) * inverse).store(o);
    }
    unpack_rows<V>(o_, b, h, rows.begin, rows.end, buffer.o + first * n_.padded, n_.padded, 1.0f,
                   false);
  }

  Tensor o_, lse_, q_, k_, v_;
  const AttentionMask& mask_;
  float scale_;
  AttentionSizes n_;
  int64_t rows_;  // query rows of a unit
};

// delta = sum_d dout o, row by row.
template <class V>
void attention_delta(Tensor delta, Tensor dout, Tensor o, int threads) {
  const int64_t B = o.size(0), Tq = o.size(1), H = o.size(2), Dh = o.size(3),
                rows = rows_per_chunk(H * Dh);
  by_type(o.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(threads, chunks_of(B * Tq, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, B * Tq);
      for (int64_t n = range.begin; n < range.end; ++n)
        for (int64_t h = 0, b = n / Tq, u = n % Tq; h < H; ++h) {
          const T* left = dout.as<const T>() + b * dout.stride(0) + u * dout.stride(1) + h * Dh;
          const T* right = o.as<const T>() + b * o.stride(0) + u * o.stride(1) + h * Dh;
          V sum = V::zero();
          for_groups(Dh, [&](int64_t d, auto lanes) {
            sum = fma(load<V>(left + d, lanes), load<V>(right + d, lanes), sum);
          });
          delta.as<float>()[(b * H + h) * Tq + u] = sum.sum();
        }
    });
  });
}

}  // namespace strait::cpu
