// Attention backward from the final lse and delta: P = exp(S - lse), dS = P (dO V^T - delta), dV +=
// P^T dO, dK += dS^T Q, dQ += dS K. One unit of work is (batch entry, key head): key blocks
// outside, then query heads, then query blocks, one pass in that fixed order, so that scores and dO
// V^T are computed once. dq, dk and dv of a unit belong to it alone: no thread meets another, and
// the number of threads changes nothing. Scratch per thread: three f32 copies of the unit's
// queries.
#pragma once

#include <cmath>

#include "kernels/cpu/attention_blocks.h"

namespace strait::cpu {

template <class V>
class AttentionBackward {
 public:
  AttentionBackward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v,
                    Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                    bool accumulate)
      : dq_(dq),
        dk_(dk),
        dv_(dv),
        dout_(dout),
        q_(q),
        k_(k),
        v_(v),
        lse_(lse),
        delta_(delta),
        mask_(mask),
        scale_(static_cast<float>(scale)),
        accumulate_(accumulate),
        n_(q, k) {}

  void run(int threads, Scratch& scratch) {
    scratch.reserve(Buffers(n_, nullptr).bytes);
    parallel_for(threads, n_.B * n_.Hkv, [&](int64_t unit, int thread) {
      Buffers buffers(n_, scratch.of_thread<float>(thread));
      run_unit(buffers, unit / n_.Hkv, unit % n_.Hkv);
    });
  }

 private:
  struct Buffers {
    float *q, *dout, *dq;  // (group, Tq, padded): scaled queries, gradients of the outputs,
                           // gradient of the queries
    float *k_t, *v_t, *k;  // (Dh, 64), (Dh, 64), (64, padded)
    float *dk, *dv;        // (64, padded)
    float *p, *ds;         // (64, 64)
    size_t bytes;

    Buffers(const AttentionSizes& n, float* memory) {
      Carver carver(memory);
      const int64_t rows = n.group * n.Tq;
      for (float** x : {&q, &dout, &dq}) *x = carver.take(rows * n.padded);
      for (float** x : {&k_t, &v_t}) *x = carver.take(n.Dh * kKeyBlock);
      for (float** x : {&k, &dk, &dv}) *x = carver.take(kKeyBlock * n.padded);
      for (float** x : {&p, &ds}) *x = carver.take(kQueryBlock * kKeyBlock);
      bytes = carver.bytes();
    }
  };

  void run_unit(Buffers& buffer, int64_t b, int64_t hkv) const {
    for (int64_t g = 0; g < n_.group; ++g) {
      pack_rows<V>(buffer.q + g * n_.Tq * n_.padded, q_, b, hkv * n_.group + g, 0, n_.Tq, n_.padded,
                   scale_);
      pack_rows<V>(buffer.dout + g * n_.Tq * n_.padded, dout_, b, hkv * n_.group + g, 0, n_.Tq,
                   n_.padded, 1.0f);
    }
    std::fill_n(buffer.dq, n_.group * n_.Tq * n_.padded, 0.0f);
    const QueryPositions queries(mask_, b);
    for (int64_t begin = 0; begin < n_.Tk; begin += kKeyBlock) {
      const int64_t end = std::min(begin + kKeyBlock, n_.Tk);
      const KeyPositions keys(mask_, b, begin, end);
      std::fill_n(buffer.dk, kKeyBlock * n_.padded, 0.0f);
      std::fill_n(buffer.dv, kKeyBlock * n_.padded, 0.0f);
      if (queries.coverage(keys, 0, n_.Tq) != Coverage::none) {
        pack_transposed<V>(buffer.k_t, k_, b, hkv, begin, end);
        pack_transposed<V>(buffer.v_t, v_, b, hkv, begin, end);
        if (end - begin < kKeyBlock) std::fill_n(buffer.k, kKeyBlock * n_.padded, 0.0f);
        pack_rows<V>(buffer.k, k_, b, hkv, begin, end, n_.padded, 1.0f);
        for (int64_t g = 0; g < n_.group; ++g)
          for (int64_t u = 0; u < n_.Tq; u += kQueryBlock)
            add_block(buffer, b, hkv * n_.group + g, g * n_.Tq + u, keys, queries, u,
                      std::min(u + kQueryBlock, n_.Tq));
      }
      // dk was summed with scaled queries.
      unpack_rows<V>(dk_, b, hkv, begin, end, buffer.dk, n_.padded, 1.0f, accumulate_);
      unpack_rows<V>(dv_, b, hkv, begin, end, buffer.dv, n_.padded, 1.0f, accumulate_);
    }
    for (int64_t g = 0; g < n_.group; ++g)
      unpack_rows<V>(dq_, b, hkv * n_.group + g, 0, n_.Tq, buffer.dq + g * n_.Tq * n_.padded,
                     n_.padded, scale_, accumulate_);
  }

  // Queries [begin, end) of head h, packed from row `first` on, meet one block of keys.
  void add_block(Buffers& buffer, int64_t b, int64_t h, int64_t first, const KeyPositions& keys,
                 const QueryPositions& queries, int64_t begin, int64_t end) const {
    const Coverage coverage = queries.coverage(keys, begin, end);
    if (coverage == Coverage::none) return;
    const float *lse = lse_.as<const float>() + (b * n_.H + h) * n_.Tq,
                *delta = delta_.as<const float>() + (b * n_.H + h) * n_.Tq;
    int64_t groups[kQueryBlock];  // of keys, for each tile of rows
    for (int64_t u = begin, tile = 0; u < end; u += V::kTileRows, ++tile) {
      const int64_t height = std::min<int64_t>(V::kTileRows, end - u),
                    row = (first + u - begin) * n_.padded, at = (u - begin) * kKeyBlock;
      groups[tile] = coverage == Coverage::all
                         ? kKeyBlock / 16
                         : groups_below(keys, queries.highest_bound(u, u + height));
      gemm_row_tile<V>(height, groups[tile], buffer.p + at, kKeyBlock,
                       {buffer.q + row, n_.padded, 1}, buffer.k_t, kKeyBlock, n_.Dh, false);
      gemm_row_tile<V>(height, groups[tile], buffer.ds + at, kKeyBlock,
                       {buffer.dout + row, n_.padded, 1}, buffer.v_t, kKeyBlock, n_.Dh, false);
    }
    for (int64_t u = begin; u < end; ++u) {
      const int64_t at = (u - begin) * kKeyBlock, width = groups[(u - begin) / V::kTileRows];
      if (coverage == Coverage::some) mask_row<V>(buffer.p + at, width, keys, queries, u);
      gradient_row(buffer.p + at, buffer.ds + at, width, lse[u], delta[u]);
    }
    add_products(buffer, first, end - begin, groups);
  }

  // p <- exp(p - lse), ds <- p (ds - delta); zero behind the tile's last key.
  void gradient_row(float* p, float* ds, int64_t groups, float lse, float delta) const {
    // A row that sees no key at all has lse = -inf and only masked scores: any finite shift gives
    // 0.
    const V shift = V::set1(lse == -std::numeric_limits<float>::infinity() ? 0.0f : lse),
            minus = V::set1(delta);
    for (int64_t j = 0; j < 16 * groups; j += 16) {
      const V probability = exponential(V::load(p + j) - shift);
      probability.store(p + j);
      (probability * (V::load(ds + j) - minus)).store(ds + j);
    }
    for (int64_t j = 16 * groups; j < kKeyBlock; j += 16) {
      V::zero().store(p + j);
      V::zero().store(ds + j);
    }
  }

  // dQ += dS K, dV += P^T dO, dK += dS^T Q for `rows` queries from packed row `first` on.
  void add_products(Buffers& buffer, int64_t first, int64_t rows, const int64_t* groups) const {
    const int64_t wide = n_.padded / 16;
    for (int64_t u = 0, tile = 0; u < rows; u += V::kTileRows, ++tile)
      gemm_row_tile<V>(std::min<int64_t>(V::kTileRows, rows - u), wide,
                       buffer.dq + (first + u) * n_.padded, n_.padded,
                       {buffer.ds + u * kKeyBlock, kKeyBlock, 1}, buffer.k, n_.padded,
                       16 * groups[tile], true);
    for (int64_t j = 0; j < kKeyBlock; j += V::kTileRows) {
      const int64_t height = std::min<int64_t>(V::kTileRows, kKeyBlock - j);
      int64_t u = 0;  // the first tile of queries that reaches these keys
      while (u < rows && 16 * groups[u / V::kTileRows] <= j) u += V::kTileRows;
      if (u >= rows) continue;
      gemm_row_tile<V>(height, wide, buffer.dv + j * n_.padded, n_.padded,
                       {buffer.p + u * kKeyBlock + j, 1, kKeyBlock},
                       buffer.dout + (first + u) * n_.padded, n_.padded, rows - u, true);
      gemm_row_tile<V>(height, wide, buffer.dk + j * n_.padded, n_.padded,
                       {buffer.ds + u * kKeyBlock + j, 1, kKeyBlock},
                       buffer.q + (first + u) * n_.padded, n_.padded, rows - u, true);
    }
  }

  Tensor dq_, dk_, dv_, dout_, q_, k_, v_, lse_, delta_;
  const AttentionMask& mask_;
  float scale_;
  bool accumulate_;
  AttentionSizes n_;
};

}  // namespace strait::cpu
