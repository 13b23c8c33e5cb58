// Attention forward on the tensor cores, bf16 operands: the formulas of attention.cu with products
// by mma.sync, scores, maxima and sums in fp32 registers (FlashAttention-2, Dao 2023, written anew
// for masks by global positions).
//
// Shapes: as attention.cu. A block owns 128 queries of a head (64 where heads are wider than 64),
// a warp two tiles of 16 (one), so that every fragment of keys and values is used twice. Weights are rounded to bf16 for the second
// product, their sum is not. Exponentials are of base 2, with scale * log2(e) in one multiply-add.
// Elements per query from memory: 2 H Dh, and k and v once per block. Determinism: a query by
// one quad of lanes, keys in ascending order.
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/cuda_backend.h"

namespace strait {
namespace attention {
namespace {

constexpr int kKeys = 64;  // in a streamed tile

// Tiles of 16 queries a warp: as many as have room for their outputs in registers.
template <int kWidth>
constexpr int kTilesOf = kWidth <= 64 ? 2 : 1;
template <int kWidth>
constexpr int kQueries = kWarps* kTilesOf<kWidth>* kMmaRows;

template <int kWidth>
struct ForwardTiles {
  bf16 q[kQueries<kWidth> * kWidth];
  bf16 k[2][kKeys * kWidth];
  bf16 v[2][kKeys * kWidth];
  Bounds bounds[NeededTiles<false, kKeys>::kLooked];
};

// Softmax of the queries of a warp over the keys so far. Of a row, a quad of lanes holds the
// maximum, each lane the total of its own columns.
template <int kWidth>
struct State {
  static constexpr int kTiles = kTilesOf<kWidth>;
  float maximum[kTiles][2];
  float total[kTiles][2];
  float sum[kTiles][kWidth / 8][4];

  __device__ State() {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        maximum[t][half] = -INFINITY;
        total[t][half] = 0.0f;
      }
#pragma unroll
      for (int n = 0; n < kWidth / 8; ++n)
#pragma unroll
        for (float& x : sum[t][n]) x = 0.0f;
    }
  }

  // Scores become weights 2^(factor (score - maximum)); a score that is not allowed is -inf.
  template <int kCount>
  __device__ void take(float (&scores)[kTiles][kCount][4], float factor) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = maximum[t][half];
#pragma unroll
        for (int n = 0; n < kCount; ++n)
          largest = fmaxf(largest, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, 2));
        // Without any key yet, all weights must come out as 0, not as NaN.
        const float base = largest == -INFINITY ? 0.0f : largest * factor;
        const float correction = exp2_approximate(fmaf(maximum[t][half], factor, -base));
        maximum[t][half] = largest;
        float here = 0.0f;
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            float& score = scores[t][n][2 * half + j];
            score = exp2_approximate(fmaf(score, factor, -base));
            here += score;
          }
        }
        total[t][half] = fmaf(total[t][half], correction, here);
#pragma unroll
        for (int n = 0; n < kWidth / 8; ++n) {
          sum[t][n][2 * half] *= correction;
          sum[t][n][2 * half + 1] *= correction;
        }
      }
    }
  }
};

// Block (queries, head, sequence); the last queries, which see the most keys where a mask is
// causal, begin first.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    mma_forward_kernel(HeadsOut o, float* lse, Heads<bf16> q, Heads<bf16> k, Heads<bf16> v,
                       Mask mask, float scale) {
  constexpr int kTiles = kTilesOf<kWidth>, kBlockQueries = kQueries<kWidth>;
  STRAIT_DYNAMIC_SHARED_MEMORY(shared);
  auto& tiles = *reinterpret_cast<ForwardTiles<kWidth>*>(shared);
  const int b = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y),
            kv_head = h / (q.heads / k.heads);
  const int block_query = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockQueries;
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp_row = static_cast<int>(threadIdx.x) / kWarp * kTiles * kMmaRows;
  // The row of accumulator tile t, half i, is block_query + row + 16 t + 8 i.
  const int row = warp_row + lane / 4, column = 2 * (lane % 4);

  NeededTiles<false, kKeys> needed(mask, b, block_query, min(block_query + kBlockQueries, q.tokens),
                                   tiles.bounds);
  const auto copy_stage = [&](int tile, int stage) {
    if (tile < needed.end()) {
      copy_tile<kKeys, kWidth>(tiles.k[stage], k, b, kv_head, tile * kKeys);
      copy_tile<kKeys, kWidth>(tiles.v[stage], v, b, kv_head, tile * kKeys);
    }
    commit_copies();
  };
  bool whole = false, next_whole = false;
  int tile = needed.next(0, whole), stage = 0;
  copy_tile<kBlockQueries, kWidth>(tiles.q, q, b, h, block_query);
  copy_stage(tile, 0);

  State<kWidth> state;
  const float factor = scale * kLog2E;
  while (tile < needed.end()) {
    const int next = needed.next(tile + 1, next_whole);
    copy_stage(next, stage ^ 1);
    wait_for_copies<1>();
    __syncthreads();

    float scores[kTiles][kKeys / 8][4] = {};
    multiply_transposed<kWidth, kTiles, kKeys>(scores, tiles.q, warp_row, tiles.k[stage]);
    if (!whole) {
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int t = 0; t < kTiles; ++t)
#pragma unroll
          for (int j = 0; j < 4; ++j)
            if (!mask.allows(b, block_query + row + t * kMmaRows + j / 2 * 8,
                             tile * kKeys + 8 * n + column + j % 2))
              scores[t][n][j] = -INFINITY;
      }
    }
    state.take(scores, factor);
    multiply<kWidth, kTiles, kKeys>(state.sum, scores, tiles.v[stage]);
    __syncthreads();  // the stage may be overwritten
    tile = next;
    whole = next_whole;
    stage ^= 1;
  }
  wait_for_copies<0>();

#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = state.total[t][half];
      total += __shfl_xor_sync(kAllLanes, total, 1);
      total += __shfl_xor_sync(kAllLanes, total, 2);
      const int query = block_query + row + t * kMmaRows + half * 8;
      if (query >= q.tokens) continue;
      const bool empty = total == 0.0f;
      if (lane % 4 == 0) {
        lse[(static_cast<int64_t>(b) * q.heads + h) * q.tokens + query] =
            empty ? -INFINITY : fmaf(state.maximum[t][half], scale, logf(total));
      }
      store_row<kWidth>(o, o.row(b, query, h), state.sum[t], half, empty ? 0.0f : 1.0f / total,
                        false);
    }
  }
}

}  // namespace

bool mma_fits(std::initializer_list<Tensor> read, std::initializer_list<Tensor> written,
              double scale) {
  const auto rows_of = [](const Tensor& t, int64_t elements, size_t bytes) {
    return t.stride(0) % elements == 0 && t.stride(1) % elements == 0 &&
           reinterpret_cast<uintptr_t>(t.data) % bytes == 0;
  };
  for (const Tensor& t : read)
    if (t.dtype != DType::bf16 || t.size(3) % 8 != 0 || t.size(3) > 128 || !rows_of(t, 8, 16))
      return false;
  for (const Tensor& t : written)
    if (!rows_of(t, 2, 2 * size_of(t.dtype))) return false;
  return scale > 0;
}

void mma_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                 double scale, cudaStream_t stream) {
  dispatch_mma_width(q.size(3), [&](auto width) {
    const dim3 grid = grid_of(blocks_for(q.size(1), kQueries<width()>), q.size(2), q.size(0));
    launch(mma_forward_kernel<width()>, grid, kThreads, sizeof(ForwardTiles<width()>), stream,
           HeadsOut(o), lse.as<float>(), Heads<bf16>(q), Heads<bf16>(k), Heads<bf16>(v), Mask(mask),
           scale);
  });
}

}  // namespace attention
}  // namespace strait
