// Attention backward on the tensor cores, bf16 operands: the two passes of attention_backward.cu,
// again one kernel over who is owned, with products by mma.sync.
//
// Shapes: as attention_backward.cu. A block owns 64 rows (queries: dq; keys: dk and dv), a warp 16,
// and streams the other side. p and ds are rounded to bf16 for the products, scores and sums are
// fp32. Seven products a pair of tiles instead of five are the price for no atomics, no workspace
// and one order of sums. Determinism: as attention_backward.cu.
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/cuda_backend.h"

namespace strait {
namespace attention {
namespace {

constexpr int kOwned = kWarps * kMmaRows;

// Streamed rows in a tile: what leaves room for two sums of 16 rows in registers.
template <int kWidth>
constexpr int kStreamedRows = kWidth <= 64 ? 64 : 32;

// Passes over the rows of a streamed tile, each with its own scores. Two where keys are owned and two sums of 128 columns leave the
// registers of an sm_80 no room for all scores; sm_90's compiler finds it.
template <int kWidth, bool kOwnsKeys>
constexpr int passes() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  return 1;
#else
  return kOwnsKeys && kWidth > 64 ? 2 : 1;
#endif
}

// (q, dout) or (k, v).
struct Side {
  Heads<bf16> first, second;
};

struct Gradients {
  HeadsOut first, second;  // dq or dk; dv (only where keys are owned)
  bool accumulate;
};

template <int kWidth>
struct BackwardTiles {
  bf16 owned_first[kOwned * kWidth];
  bf16 owned_second[kOwned * kWidth];
  bf16 first[2][kStreamedRows<kWidth> * kWidth];
  bf16 second[2][kStreamedRows<kWidth> * kWidth];
  Bounds bounds[NeededTiles<false, kStreamedRows<kWidth>>::kLooked];
};

// Block (64 owned rows, owned head, sequence).
template <int kWidth, bool kOwnsKeys>
__global__ void __launch_bounds__(kThreads)
    mma_backward_kernel(Gradients out, Side owned, Side streamed, const float* lse,
                        const float* delta, Mask mask, float scale) {
  constexpr int kStreamed = kStreamedRows<kWidth>, kPasses = passes<kWidth, kOwnsKeys>(),
                kRows = kStreamed / kPasses, kCount = kRows / 8;
  STRAIT_DYNAMIC_SHARED_MEMORY(shared);
  auto& tiles = *reinterpret_cast<BackwardTiles<kWidth>*>(shared);
  const int b = static_cast<int>(blockIdx.z), h = static_cast<int>(blockIdx.y);
  // The rows with the most partners where a mask is causal begin first: early keys, late queries.
  const int block = static_cast<int>(kOwnsKeys ? blockIdx.x : gridDim.x - 1 - blockIdx.x);
  const int block_row = block * kOwned;
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp_row = static_cast<int>(threadIdx.x) / kWarp * kMmaRows;
  const int row = block_row + warp_row + lane / 4, column = 2 * (lane % 4);

  // A KV head meets the query heads of its group, a query head its one KV head.
  const int group = kOwnsKeys ? streamed.first.heads / owned.first.heads
                              : owned.first.heads / streamed.first.heads;
  const int head_begin = kOwnsKeys ? h * group : h / group,
            head_end = kOwnsKeys ? head_begin + group : head_begin + 1;

  NeededTiles<kOwnsKeys, kStreamed> needed(
      mask, b, block_row, min(block_row + kOwned, owned.first.tokens), tiles.bounds);
  const auto copy_stage = [&](int head, int tile, int stage) {
    if (tile < needed.end()) {
      copy_tile<kStreamed, kWidth>(tiles.first[stage], streamed.first, b, head, tile * kStreamed);
      copy_tile<kStreamed, kWidth>(tiles.second[stage], streamed.second, b, head, tile * kStreamed);
    }
    commit_copies();
  };

  copy_tile<kOwned, kWidth>(tiles.owned_first, owned.first, b, h, block_row);
  copy_tile<kOwned, kWidth>(tiles.owned_second, owned.second, b, h, block_row);
  const float factor = scale * kLog2E;
  float sum_first[1][kWidth / 8][4] = {};
  float sum_second[1][kOwnsKeys ? kWidth / 8 : 1][4] = {};
  for (int head = head_begin; head < head_end; ++head) {
    const int64_t statistics_row =
        (static_cast<int64_t>(b) * (kOwnsKeys ? streamed : owned).first.heads +
         (kOwnsKeys ? head : h)) *
        mask.q_tokens;
    // log2 of the weight's denominator and delta of a query; past the end nothing is allowed.
    const auto statistic = [&](const float* all, int query) {
      return query < mask.q_tokens ? all[statistics_row + query] : 0.0f;
    };
    float row_lse[2], row_delta[2];  // where queries are owned
    if constexpr (!kOwnsKeys) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        row_lse[half] = statistic(lse, row + 8 * half) * kLog2E;
        row_delta[half] = statistic(delta, row + 8 * half);
      }
    }
    bool whole = false, next_whole = false;
    int tile = needed.next(0, whole), stage = 0;
    copy_stage(head, tile, 0);
    while (tile < needed.end()) {
      const int next = needed.next(tile + 1, next_whole);
      copy_stage(head, next, stage ^ 1);
      wait_for_copies<1>();
      __syncthreads();

#pragma unroll 1
      for (int pass = 0; pass < kPasses; ++pass) {
        bf16 *first = tiles.first[stage] + pass * kRows * kWidth,
             *second = tiles.second[stage] + pass * kRows * kWidth;
        float weight[1][kCount][4] = {}, score_gradient[1][kCount][4] = {};
        multiply_transposed<kWidth, 1, kRows>(weight, tiles.owned_first, warp_row, first);
        multiply_transposed<kWidth, 1, kRows>(score_gradient, tiles.owned_second, warp_row, second);
#pragma unroll
        for (int n = 0; n < kCount; ++n) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int streamed_row = tile * kStreamed + pass * kRows + 8 * n + column + j % 2,
                      owned_row = row + j / 2 * 8;
            float query_lse, query_delta;
            if constexpr (kOwnsKeys) {
              query_lse = statistic(lse, streamed_row) * kLog2E;
              query_delta = statistic(delta, streamed_row);
            } else {
              query_lse = row_lse[j / 2];
              query_delta = row_delta[j / 2];
            }
            const bool allowed = (whole && owned_row < owned.first.tokens) ||
                                 (kOwnsKeys ? mask.allows(b, streamed_row, owned_row)
                                            : mask.allows(b, owned_row, streamed_row));
            const float p =
                allowed ? exp2_approximate(fmaf(weight[0][n][j], factor, -query_lse)) : 0.0f;
            weight[0][n][j] = p;
            score_gradient[0][n][j] = allowed ? p * (score_gradient[0][n][j] - query_delta) : 0.0f;
          }
        }
        multiply<kWidth, 1, kRows>(sum_first, score_gradient, first);
        if constexpr (kOwnsKeys) multiply<kWidth, 1, kRows>(sum_second, weight, second);
      }
      __syncthreads();  // the stage may be overwritten
      tile = next;
      whole = next_whole;
      stage ^= 1;
    }
    wait_for_copies<0>();
    __syncthreads();
  }

#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (row + 8 * half >= owned.first.tokens) continue;
    store_row<kWidth>(out.first, out.first.row(b, row + 8 * half, h), sum_first[0], half, scale,
                      out.accumulate);
    if constexpr (kOwnsKeys)
      store_row<kWidth>(out.second, out.second.row(b, row + 8 * half, h), sum_second[0], half, 1.0f,
                        out.accumulate);
  }
}

}  // namespace

void mma_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v,
                  Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                  bool accumulate, cudaStream_t stream) {
  const Side queries{Heads<bf16>(q), Heads<bf16>(dout)}, keys{Heads<bf16>(k), Heads<bf16>(v)};
  dispatch_mma_width(q.size(3), [&](auto width) {
    constexpr size_t shared = sizeof(BackwardTiles<width()>);
    launch(mma_backward_kernel<width(), false>,
           grid_of(blocks_for(q.size(1), kOwned), q.size(2), q.size(0)), kThreads, shared, stream,
           Gradients{HeadsOut(dq), HeadsOut(dq), accumulate}, queries, keys, lse.as<float>(),
           delta.as<float>(), Mask(mask), scale);
    launch(mma_backward_kernel<width(), true>,
           grid_of(blocks_for(k.size(1), kOwned), k.size(2), k.size(0)), kThreads, shared, stream,
           Gradients{HeadsOut(dk), HeadsOut(dv), accumulate}, keys, queries, lse.as<float>(),
           delta.as<float>(), Mask(mask), scale);
  });
}

}  // namespace attention
}  // namespace strait
