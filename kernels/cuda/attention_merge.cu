// Joins the attention of the same queries to two blocks of keys (specs/context_parallelism.md 3.2
// (a)): with r = exp(-|lse - lse_block|) and w = 1 / (1 + r), or r / (1 + r) where the block's lse is
// the smaller one, o += w (o_block - o) and lse = max + log1p(r).
//
// Shapes: o, o_block (B,Tq,H,Dh), strided over B and T; lse, lse_block (B,H,Tq) f32. Elements per query
// from memory: 3 H Dh + 3 H, once each. Determinism: row-local, no sum. A warp a row (b, u, h), so
// that neighbouring lanes read neighbouring elements; every lane computes the row's weight itself, lane 0 writes
// the new lse after all have read the old one.
#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/cuda_backend.h"

namespace strait {
namespace attention {
namespace {

template <typename T>
__global__ void merge_kernel(HeadsOut o, float* lse, Heads<T> block, const float* lse_block,
                             int64_t count) {
  const int64_t i =
      static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;  // over (B,H,Tq)
  if (i >= count) return;
  const float mine = lse[i], other = lse_block[i];
  if (other == -INFINITY) return;
  const auto query = static_cast<int>(i % block.tokens),
             h = static_cast<int>(i / block.tokens % block.heads),
             b = static_cast<int>(i / block.tokens / block.heads);
  const int64_t out = o.row(b, query, h);
  const T* in = block.row(b, query, h);
  const bool empty = mine == -INFINITY;
  const float ratio = expf(-fabsf(other - mine));
  const float weight = (other >= mine ? 1.0f : ratio) / (1.0f + ratio);
  const auto lane = static_cast<int>(threadIdx.x % kWarp);
  for (int d = lane; d < block.width; d += kWarp) {
    const float before = empty ? 0.0f : o.data.load(out + d), value = widen(in[d]);
    o.data.store(out + d, empty ? value : fmaf(weight, value - before, before));
  }
  __syncwarp();  // every lane has read lse[i]
  if (lane == 0) lse[i] = empty ? other : fmaxf(mine, other) + log1pf(ratio);
}

}  // namespace
}  // namespace attention

void CudaBackend::do_attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block) {
  using namespace attention;
  dispatch(o_block.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(merge_kernel<T>, grid_of(blocks_for(lse.elements(), kWarps)), kThreads, 0, stream_,
           HeadsOut(o), lse.as<float>(), Heads<T>(o_block), lse_block.as<float>(), lse.elements());
  });
}

}  // namespace strait
