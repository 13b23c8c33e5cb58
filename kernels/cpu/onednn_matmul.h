// oneDNN's matmul primitive behind a cache. Creating a primitive takes 0.3 ms, finding one in oneDNN's own cache 7 us, here
// 0.1 us. One instance belongs to one backend; oneDNN itself always runs on one thread, the rows are split above it.
#pragma once

#include <dnnl.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "kernels/tensor.h"

namespace strait::cpu {

class OneDnnMatmul {
 public:
  explicit OneDnnMatmul(int threads);

  // Whether oneDNN multiplies bf16 on this machine.
  bool has_bf16() const { return has_bf16_; }

  // y (M,N) = a (M,K) op(b) [+ y]; a, b f32 or bf16, y f32 or theirs; rows may be strided.
  struct Product {
    Tensor y, a, b;
    bool transpose_b = false;
    bool accumulate = false;
  };
  // Makes the primitive, if need be; then run() may be called for this shape from any thread.
  void prepare(const Product& product);
  void run(const Product& product, int thread);

 private:
  // Everything that a primitive depends on: M N K, the three row strides, dtypes and flags.
  using Key = std::array<int64_t, 7>;
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Slot {  // what one thread needs to execute
    dnnl::stream stream;
    dnnl::memory a, b, y, scratch;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  struct Entry {
    dnnl::matmul primitive;
    std::vector<Slot> slots;
  };
  static Key key_of(const Product& product);
  dnnl::matmul::primitive_desc describe(const Product& product) const;

  int threads_;
  dnnl::engine engine_;
  bool has_bf16_ = false;
  std::vector<std::vector<std::byte>> scratch_;  // one per thread, shared by all primitives
  std::unordered_map<Key, Entry, KeyHash> entries_;
};

}  // namespace strait::cpu
