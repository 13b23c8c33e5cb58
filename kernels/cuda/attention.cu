// Attention forward in fp32 (and for operands that the tensor cores' kernel of attention_mma.cu does
// not take), block-wise with online softmax (Milakov & Gimelshein 2018; Dao et al. 2022),
// and delta = sum_d dout o. For a query, over key tiles in ascending order:
//   m' = max(m, max_j s_j);  l <- l e^(m-m') + sum_j e^(s_j-m');
//   o <- o e^(m-m') + sum_j e^(s_j-m') v_j;
// and at the end o / l and lse = m + ln l; o = 0 and lse = -inf where no key is allowed.
//
// Shapes: q, o (B,Tq,H,Dh), k, v (B,Tk,Hkv,Dh), strided over B and T; lse, delta (B,H,Tq) f32.
// Positions decide what is causal, so a shard of a sequence in any order needs no other kernel.
// Elements per query from memory: 2 H Dh, and k and v once per 16 queries of a head, mostly from
// the L2 cache. Determinism: a query by one warp, keys in ascending order. The tiling is described
// in attention_tiles.cuh; the scores of a tile live in registers, one a lane and owned row.
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/cuda_backend.h"

namespace strait {
namespace attention {
namespace {

// The running softmax of one query row: the same on all lanes but for `sum`, which holds this
// lane's columns.
template <int kColumns>
struct OnlineSoftmax {
  float maximum[kRowsPerWarp];
  float total[kRowsPerWarp];
  float sum[kRowsPerWarp][kColumns];

  __device__ OnlineSoftmax() {
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      maximum[r] = -INFINITY;
      total[r] = 0.0f;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum[r][c] = 0.0f;
    }
  }

  // Takes in this lane's score of row r (-inf: not allowed); returns its weight e^(score -
  // maximum). A NaN among the scores makes the row NaN.
  __device__ float take(int r, bool allowed, float score) {
    if (!__any_sync(kAllLanes, allowed)) return 0.0f;
    const float updated = fmaxf(maximum[r], warp_max(score));
    const float correction = expf(maximum[r] - updated);
    const float weight = expf(score - updated);
    maximum[r] = updated;
    total[r] = total[r] * correction + warp_sum(weight);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum[r][c] *= correction;
    return weight;
  }
};

template <int kWidth>
constexpr size_t forward_shared_bytes() {
  return sizeof(float) * (kOwnedRows * kWidth + 2 * kTileRows * (kWidth + kPadding));
}

// Block (16 queries, head, sequence).
template <typename T, int kWidth>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(HeadsOut o, float* lse, Heads<T> q, Heads<T> k, Heads<T> v, Mask mask,
                   float scale) {
  constexpr int kColumns = kWidth / kWarp, kStride = kWidth + kPadding;
  STRAIT_DYNAMIC_SHARED_MEMORY(shared_memory);
  auto* q_rows = reinterpret_cast<float*>(shared_memory);
  float* k_tile = q_rows + kOwnedRows * kWidth;
  float* v_tile = k_tile + kTileRows * kStride;

  const int b = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y),
            kv_head = h / (q.heads / k.heads);
  const int first_query = static_cast<int>(blockIdx.x) * kOwnedRows;
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warp_query = first_query + warp * kRowsPerWarp;
  load_rows<kOwnedRows, kWidth>(q_rows, kWidth, q, b, h, first_query);

  OnlineSoftmax<kColumns> softmax;
  for (int begin = 0; begin < k.tokens; begin += kTileRows) {
    if (mask.forbids_all(first_query, kOwnedRows, begin, kTileRows)) continue;
    __syncthreads();  // the last tile has been used
    load_rows<kTileRows, kWidth>(k_tile, kStride, k, b, kv_head, begin);
    load_rows<kTileRows, kWidth>(v_tile, kStride, v, b, kv_head, begin);
    __syncthreads();

    float weight[kRowsPerWarp];
    dot_products<kWidth>(weight, q_rows + warp * kRowsPerWarp * kWidth, k_tile + lane * kStride);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const bool allowed = mask.allows(b, warp_query + r, begin + lane);
      weight[r] = softmax.take(r, allowed, allowed ? weight[r] * scale : -INFINITY);
    }
    add_weighted_rows<kColumns>(softmax.sum, weight, v_tile, kStride);
  }

#pragma unroll
  for (int r = 0; r < kRowsPerWarp; ++r) {
    const int query = warp_query + r;
    if (query >= q.tokens) continue;
    const bool empty = softmax.total[r] == 0.0f;
    if (lane == 0) {
      lse[(static_cast<int64_t>(b) * q.heads + h) * q.tokens + query] =
          empty ? -INFINITY : softmax.maximum[r] + logf(softmax.total[r]);
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const int column = lane + kWarp * c;
      if (column < q.width)
        o.data.store(o.row(b, query, h) + column,
                     empty ? 0.0f : softmax.sum[r][c] / softmax.total[r]);
    }
  }
}

// A warp a query and head.
template <typename T>
__global__ void delta_kernel(float* delta, Heads<T> dout, Heads<T> o, int64_t count) {
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;  // over (B,H,Tq)
  if (i >= count) return;
  const auto query = static_cast<int>(i % o.tokens), h = static_cast<int>(i / o.tokens % o.heads),
             b = static_cast<int>(i / o.tokens / o.heads);
  const T* gradient = dout.row(b, query, h);
  const T* output = o.row(b, query, h);
  float total = 0.0f;
  for (int c = static_cast<int>(threadIdx.x % kWarp); c < o.width; c += kWarp)
    total = fmaf(widen(gradient[c]), widen(output[c]), total);
  total = warp_sum(total);
  if (threadIdx.x % kWarp == 0) delta[i] = total;
}

}  // namespace
}  // namespace attention

void CudaBackend::do_attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                                       const AttentionMask& mask, double scale) {
  using namespace attention;
  if (mma_fits({q, k, v}, {o}, scale)) return mma_forward(o, lse, q, k, v, mask, scale, stream_);
  const dim3 grid = grid_of(blocks_for(q.size(1), kOwnedRows), q.size(2), q.size(0));
  dispatch(q.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_width(q.size(3), [&](auto width) {
      launch(forward_kernel<T, width()>, grid, kThreads, forward_shared_bytes<width()>(), stream_,
             HeadsOut(o), lse.as<float>(), Heads<T>(q), Heads<T>(k), Heads<T>(v), Mask(mask),
             scale);
    });
  });
}

void CudaBackend::do_attention_delta(Tensor delta, Tensor dout, Tensor o) {
  using namespace attention;
  dispatch(o.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(delta_kernel<T>, grid_of(blocks_for(delta.elements(), kWarps)), kThreads, 0, stream_,
           delta.as<float>(), Heads<T>(dout), Heads<T>(o), delta.elements());
  });
}

}  // namespace strait
