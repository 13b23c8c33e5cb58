// Attention backward in fp32 (attention_mma_backward.cu takes bf16), in two passes without atomics. With p = e^(s - lse), s = scale q.k, and
// ds = scale p (dout.v - delta), all from the final lse, so that KV blocks are independent:
//   dq = sum_k ds k;   dk = sum_q ds q,  dv = sum_q p dout.
// One pass owns queries and streams keys, the other owns keys and streams queries: the formulas are
// mirror images, with (q, dout) and (k, v) changing sides, so both are one kernel, a template over
// who is owned.
//
// Shapes: dq, dout, q (B,Tq,H,Dh), dk, dv, k, v (B,Tk,Hkv,Dh), strided over B and T; lse, delta
// (B,H,Tq) f32; the gradients f32 or T, added to if `accumulate`. Scores are computed twice, seven
// products a pair of tiles instead of five: the price for no workspace and no atomics. Elements per
// token from memory: those of both sides once, the streamed side once per 16 owned rows, mostly
// from the L2 cache. Determinism: an owned row by one warp; dk and dv over the query heads of the
// group in order, and over queries in ascending order within a head. The tiling is described in
// attention_tiles.cuh.
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/cuda_backend.h"

namespace strait {
namespace attention {
namespace {

// (q, dout) or (k, v): scores are first.first, gradients of the weights second.second.
template <typename T>
struct Side {
  Heads<T> first, second;
};

// What one pass writes: first = dq or dk, second = dv (only where keys are owned).
struct Gradients {
  HeadsOut first, second;
  bool accumulate;
};

struct Statistics {
  const float* lse;    // (B,H,Tq)
  const float* delta;  // (B,H,Tq)
};

template <int kWidth>
constexpr size_t backward_shared_bytes() {
  return sizeof(float) * 2 * (kOwnedRows * kWidth + kTileRows * (kWidth + kPadding));
}

template <int kColumns>
__device__ void store_rows(const HeadsOut& out, const float (&sum)[kRowsPerWarp][kColumns], int b,
                           int h, int begin, int tokens, bool accumulate) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    if (begin + r >= tokens) continue;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int column = lane + kWarp * c;
      if (column >= out.width) continue;
      const int64_t place = out.row(b, begin + r, h) + column;
      out.data.store(place, accumulate ? out.data.load(place) + sum[r][c] : sum[r][c]);
    }
  }
}

// Block (16 owned rows, owned head, sequence).
template <typename T, int kWidth, bool kOwnsKeys>
__global__ void __launch_bounds__(kThreads, 2)
    backward_kernel(Gradients out, Side<T> owned, Side<T> streamed, Statistics statistics,
                    Mask mask, float scale) {
  constexpr int kColumns = kWidth / kWarp, kStride = kWidth + kPadding;
  STRAIT_DYNAMIC_SHARED_MEMORY(shared_memory);
  auto* owned_first = reinterpret_cast<float*>(shared_memory);
  float* owned_second = owned_first + kOwnedRows * kWidth;
  float* tile_first = owned_second + kOwnedRows * kWidth;
  float* tile_second = tile_first + kTileRows * kStride;

  const int b = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y);
  const int first_row = static_cast<int>(blockIdx.x) * kOwnedRows;
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warp_row = first_row + warp * kRowsPerWarp;
  load_rows<kOwnedRows, kWidth>(owned_first, kWidth, owned.first, b, h, first_row);
  load_rows<kOwnedRows, kWidth>(owned_second, kWidth, owned.second, b, h, first_row);

  // A KV head meets the query heads of its group, a query head its one KV head.
  const int group = kOwnsKeys ? streamed.first.heads / owned.first.heads
                              : owned.first.heads / streamed.first.heads;
  const int head_begin = kOwnsKeys ? h * group : h / group,
            head_end = kOwnsKeys ? head_begin + group : head_begin + 1;

  float sum_first[kRowsPerWarp][kColumns] = {};
  float sum_second[kRowsPerWarp][kOwnsKeys ? kColumns : 1] = {};
  for (int head = head_begin; head < head_end; ++head) {
    const int64_t statistics_row =
        (static_cast<int64_t>(b) * (kOwnsKeys ? streamed : owned).first.heads +
         (kOwnsKeys ? head : h)) *
        mask.q_tokens;
    for (int begin = 0; begin < streamed.first.tokens; begin += kTileRows) {
      if (kOwnsKeys ? mask.forbids_all(begin, kTileRows, first_row, kOwnedRows)
                    : mask.forbids_all(first_row, kOwnedRows, begin, kTileRows)) {
        continue;
      }
      __syncthreads();  // the last tile has been used
      load_rows<kTileRows, kWidth>(tile_first, kStride, streamed.first, b, head, begin);
      load_rows<kTileRows, kWidth>(tile_second, kStride, streamed.second, b, head, begin);
      __syncthreads();

      float weight[kRowsPerWarp],
          score_gradient[kRowsPerWarp];  // scores and dout.v at first, then p and ds
      dot_products<kWidth>(weight, owned_first + warp * kRowsPerWarp * kWidth,
                           tile_first + lane * kStride);
      dot_products<kWidth>(score_gradient, owned_second + warp * kRowsPerWarp * kWidth,
                           tile_second + lane * kStride);
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) {
        const int query = kOwnsKeys ? begin + lane : warp_row + r,
                  key = kOwnsKeys ? warp_row + r : begin + lane;
        if (mask.allows(b, query, key)) {
          weight[r] = expf(weight[r] * scale - statistics.lse[statistics_row + query]);
          score_gradient[r] =
              scale * weight[r] * (score_gradient[r] - statistics.delta[statistics_row + query]);
        } else {
          weight[r] = score_gradient[r] = 0.0f;
        }
      }
      add_weighted_rows<kColumns>(sum_first, score_gradient, tile_first, kStride);
      if constexpr (kOwnsKeys)
        add_weighted_rows<kColumns>(sum_second, weight, tile_second, kStride);
    }
  }

  store_rows<kColumns>(out.first, sum_first, b, h, warp_row, owned.first.tokens, out.accumulate);
  if constexpr (kOwnsKeys)
    store_rows<kColumns>(out.second, sum_second, b, h, warp_row, owned.first.tokens,
                         out.accumulate);
}

}  // namespace
}  // namespace attention

void CudaBackend::do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,
                                        Tensor k, Tensor v, Tensor lse, Tensor delta,
                                        const AttentionMask& mask, double scale, bool accumulate) {
  using namespace attention;
  if (mma_fits({q, k, v, dout}, {dq, dk, dv}, scale))
    return mma_backward(dq, dk, dv, dout, q, k, v, lse, delta, mask, scale, accumulate, stream_);
  const Statistics statistics{lse.as<float>(), delta.as<float>()};
  const dim3 query_grid = grid_of(blocks_for(q.size(1), kOwnedRows), q.size(2), q.size(0));
  const dim3 key_grid = grid_of(blocks_for(k.size(1), kOwnedRows), k.size(2), k.size(0));
  dispatch(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    const Side<T> queries{Heads<T>(q), Heads<T>(dout)}, keys{Heads<T>(k), Heads<T>(v)};
    dispatch_width(q.size(3), [&](auto width) {
      constexpr size_t shared = backward_shared_bytes<width()>();
      launch(backward_kernel<T, width(), false>, query_grid, kThreads, shared, stream_,
             Gradients{HeadsOut(dq), HeadsOut(dq), accumulate}, queries, keys, statistics,
             Mask(mask), scale);
      launch(backward_kernel<T, width(), true>, key_grid, kThreads, shared, stream_,
             Gradients{HeadsOut(dk), HeadsOut(dv), accumulate}, keys, queries, statistics,
             Mask(mask), scale);
    });
  });
}

}  // namespace strait
