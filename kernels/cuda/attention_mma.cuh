// What the tensor-core attention kernels share: bf16 tiles in shared memory, their fragments, and
// which tiles of the streamed side a block needs at all.
//
// The tiling (Dao 2023): a block of four warps owns rows, each warp whole tiles of 16 of them, and
// streams the other side in tiles of kStreamed rows, two stages deep by asynchronous copies. A
// tile's row is kWidth bf16; its chunks of 16 bytes are permuted by exclusive or with the row, so
// that the eight rows of a matrix load, and the rows of a copy, hit all banks. Head widths are
// padded with zeros up to kWidth.
#pragma once

#include <initializer_list>

#include "kernels/cuda/attention_tiles.cuh"
#include "kernels/cuda/mma.cuh"

namespace strait::attention {

constexpr int kMmaRows = 16;  // of one mma tile
constexpr float kLog2E = 1.4426950408889634f;

// Whether the tensor-core kernels take these operands: bf16, rows of whole chunks of 16 bytes (of
// pairs, where they are written), a width with a compiled kernel. Everything else goes to the fp32
// kernels.
bool mma_fits(std::initializer_list<Tensor> read, std::initializer_list<Tensor> written,
              double scale);

// The op of kernels/backend.h, for operands that fit; attention_mma.cu, attention_mma_backward.cu.
void mma_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v, const AttentionMask& mask,
                 double scale, cudaStream_t stream);
void mma_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k, Tensor v,
                  Tensor lse, Tensor delta, const AttentionMask& mask, double scale,
                  bool accumulate, cudaStream_t stream);

// The element (row, 8 * chunk) of a tile.
template <int kWidth>
__device__ bf16* at(bf16* tile, int row, int chunk) {
  return tile + row * kWidth + ((chunk ^ (row & 7)) * 8);
}

// Begins the copy of rows [begin, begin + kRows) of a head; zeros past the last token and past the
// head's width. All threads of the block take part; the caller commits.
template <int kRows, int kWidth>
__device__ void copy_tile(bf16* tile, const Heads<bf16>& source, int b, int h, int begin) {
  constexpr int kChunks = kWidth / 8;
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kThreads; ++i) {
    const int place = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = place / kChunks, chunk = place % kChunks;
    const bool inside = begin + row < source.tokens && chunk * 8 < source.width;
    copy_async_16(at<kWidth>(tile, row, chunk),
                  inside ? source.row(b, begin + row, h) + chunk * 8 : source.data, inside);
  }
}

// The A fragment of rows [row, row + 16), columns [16 k, 16 k + 16).
template <int kWidth>
__device__ void load_a(uint32_t (&a)[4], bf16* tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  load_matrices(a, at<kWidth>(tile, row + lane % 16, 2 * k + lane / 16));
}

// The B fragments of two products with the tile's transpose: (b[0], b[1]) for the tile's rows [row,
// row + 8), (b[2], b[3]) for the next eight, over its columns [16 k, 16 k + 16).
template <int kWidth>
__device__ void load_b_of_transpose(uint32_t (&b)[4], bf16* tile, int row, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  load_matrices(b, at<kWidth>(tile, row + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
}

// The B fragments of two products with the tile: over its rows [row, row + 16), for its columns
// [16 n, 16 n + 8) and the next eight.
template <int kWidth>
__device__ void load_b(uint32_t (&b)[4], bf16* tile, int row, int n) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  load_matrices_transposed(b, at<kWidth>(tile, row + lane % 16, 2 * n + lane / 16));
}

// Adds the products of all A fragments with the two B fragments of columns [16 n, 16 n + 16).
template <int kTiles, int kCount>
__device__ __forceinline__ void add_products(float (&sum)[kTiles][kCount][4], int n,
                                             const uint32_t (&a)[kTiles][4],
                                             const uint32_t (&b)[4]) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    mma_m16n8k16(sum[t][2 * n], a[t], b[0], b[1]);
    mma_m16n8k16(sum[t][2 * n + 1], a[t], b[2], b[3]);
  }
}

// scores += A B^T: `tiles` of 16 owned rows from `owned_row` on, with all rows of a streamed tile.
template <int kWidth, int kTiles, int kStreamed>
__device__ void multiply_transposed(float (&scores)[kTiles][kStreamed / 8][4], bf16* owned,
                                    int owned_row, bf16* streamed) {
  // Unrolled further, the addresses of all the loads take the registers that the sums need.
  [[maybe_unused]] constexpr int kUnroll = kWidth <= 64 ? 2 : 1;
#pragma unroll kUnroll
  for (int k = 0; k < kWidth / 16; ++k) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) load_a<kWidth>(a[t], owned, owned_row + t * kMmaRows, k);
#pragma unroll
    for (int n = 0; n < kStreamed / 16; ++n) {
      uint32_t b[4];
      load_b_of_transpose<kWidth>(b, streamed, n * 16, k);
      add_products(scores, n, a, b);
    }
  }
}

// sum += W B: weights rounded to bf16, which is what two neighbouring accumulators of a product
// already are: an A fragment (mma.cuh).
template <int kWidth, int kTiles, int kStreamed>
__device__ void multiply(float (&sum)[kTiles][kWidth / 8][4],
                         const float (&weights)[kTiles][kStreamed / 8][4], bf16* streamed) {
#pragma unroll
  for (int k = 0; k < kStreamed / 16; ++k) {
    uint32_t a[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const float(&low)[4] = weights[t][2 * k];
      const float(&high)[4] = weights[t][2 * k + 1];
      a[t][0] = pack_bf16(low[0], low[1]);
      a[t][1] = pack_bf16(low[2], low[3]);
      a[t][2] = pack_bf16(high[0], high[1]);
      a[t][3] = pack_bf16(high[2], high[3]);
    }
#pragma unroll
    for (int n = 0; n < kWidth / 16; ++n) {
      uint32_t b[4];
      load_b<kWidth>(b, streamed, k * 16, n);
      add_products(sum, n, a, b);
    }
  }
}

// ---- which tiles

// Lowest and highest position and document of a range of rows; no rows: an empty range.
struct Bounds {
  int first_position, last_position, first_document, last_document;
};

// All lanes of a warp take part and get the result.
__device__ inline Bounds bounds_of(const int32_t* position, const int32_t* document, int begin,
                                   int end) {
  Bounds all{std::numeric_limits<int>::max(), std::numeric_limits<int>::min(),
             std::numeric_limits<int>::max(), std::numeric_limits<int>::min()};
  for (int i = begin + static_cast<int>(threadIdx.x) % kWarp; i < end; i += kWarp) {
    all.first_position = min(all.first_position, position[i]);
    all.last_position = max(all.last_position, position[i]);
    if (document == nullptr) continue;
    all.first_document = min(all.first_document, document[i]);
    all.last_document = max(all.last_document, document[i]);
  }
  all.first_position = __reduce_min_sync(kAllLanes, all.first_position);
  all.last_position = __reduce_max_sync(kAllLanes, all.last_position);
  if (document == nullptr) return all;
  all.first_document = __reduce_min_sync(kAllLanes, all.first_document);
  all.last_document = __reduce_max_sync(kAllLanes, all.last_document);
  return all;
}

// The tiles of the streamed side that some pair of rows allows, in ascending order. A tile that is
// left out would add zeros. Every thread of the block calls every function.
template <bool kOwnsKeys, int kStreamed>
class NeededTiles {
 public:
  static constexpr int kLooked = 128;  // tiles whose bounds are in shared memory at a time

  __device__ NeededTiles(const Mask& mask, int b, int owned_begin, int owned_end, Bounds* looked)
      : mask_(mask), looked_(looked), tokens_(kOwnsKeys ? mask.q_tokens : mask.k_tokens) {
    const auto document = [&](const int32_t* all, int tokens) {
      return all == nullptr ? nullptr : all + static_cast<int64_t>(b) * tokens;
    };
    q_document_ = document(mask.q_document, mask.q_tokens);
    k_document_ = document(mask.k_document, mask.k_tokens);
    owned_ = bounds_of(kOwnsKeys ? mask.k_position : mask.q_position,
                       kOwnsKeys ? k_document_ : q_document_, owned_begin, owned_end);
  }

  __device__ int end() const { return (tokens_ + kStreamed - 1) / kStreamed; }

  // The first needed tile from `tile` on, or end(); `whole`: every pair of it is allowed, if the
  // owned rows are all there.
  __device__ int next(int tile, bool& whole) {
    for (; tile < end(); ++tile) {
      if (tile / kLooked != chunk_) look(tile / kLooked);
      const Bounds streamed = looked_[tile % kLooked];
      const Bounds& queries = kOwnsKeys ? streamed : owned_;
      const Bounds& keys = kOwnsKeys ? owned_ : streamed;
      if (mask_.causal && keys.first_position > queries.last_position) continue;
      const bool documents = mask_.q_document != nullptr;
      if (documents && (keys.first_document > queries.last_document ||
                        keys.last_document < queries.first_document)) {
        continue;
      }
      whole = (tile + 1) * kStreamed <= tokens_ &&
              (!mask_.causal || keys.last_position <= queries.first_position) &&
              (!documents || (keys.first_document == queries.last_document &&
                              keys.last_document == queries.first_document));
      return tile;
    }
    return end();
  }

 private:
  __device__ void look(int chunk) {
    __syncthreads();  // the last chunk has been used
    const int warp = static_cast<int>(threadIdx.x) / kWarp;
    for (int i = warp; i < kLooked && chunk * kLooked + i < end(); i += kWarps) {
      const int begin = (chunk * kLooked + i) * kStreamed;
      const Bounds bounds =
          bounds_of(kOwnsKeys ? mask_.q_position : mask_.k_position,
                    kOwnsKeys ? q_document_ : k_document_, begin, min(begin + kStreamed, tokens_));
      if (threadIdx.x % kWarp == 0) looked_[i] = bounds;
    }
    __syncthreads();
    chunk_ = chunk;
  }

  const Mask& mask_;
  Bounds* looked_;
  const int32_t* q_document_;
  const int32_t* k_document_;
  Bounds owned_;
  int tokens_;
  int chunk_ = -1;
};

// ---- results

// Writes [+]= factor * sum of one row of an accumulator tile: columns [8 n + 2 (l%4)] and the next.
template <int kWidth>
__device__ void store_row(const HeadsOut& out, int64_t row, const float (&sum)[kWidth / 8][4],
                          int half, float factor, bool accumulate) {
  const int column = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
  for (int n = 0; n < kWidth / 8; ++n) {
    if (8 * n >= out.width) break;
    const int64_t place = row + 8 * n + column;
    float x = sum[n][2 * half] * factor, y = sum[n][2 * half + 1] * factor;
    if (accumulate) {
      x += out.data.load(place);
      y += out.data.load(place + 1);
    }
    out.data.store_pair(place, x, y);
  }
}

// Calls function(std::integral_constant<int, W>) with the smallest compiled width.
template <typename Function>
void dispatch_mma_width(int64_t width, Function&& function) {
  if (width <= 64) return function(std::integral_constant<int, 64>{});
  return function(std::integral_constant<int, 128>{});
}

}  // namespace strait::attention
