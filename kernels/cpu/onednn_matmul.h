// oneDNN's matmul primitive on dense operands, behind a cache. Creating a primitive takes 0.3 ms,
// finding one in oneDNN's own cache 7 us, here 0.1 us. One instance belongs to one backend; oneDNN
// itself always runs on one thread, rows are split above.
#pragma once

#include <array>
#include <cstdint>
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/dtype.h"

namespace strait::cpu {

class OneDnnMatmul {
 public:
  explicit OneDnnMatmul(int threads);

  // y (M,N) = a (M,K) op(b) [+ y]; a, b f32 or bf16, y f32 or theirs; all contiguous.
  struct Shape {
    int64_t M, N, K;
    DType dtype, y_dtype;
    bool transpose_b, accumulate;

    Shape with_rows(int64_t rows) const {
      Shape shape = *this;
      shape.M = rows;
      return shape;
    }
  };
  // Makes the primitive, if need be; then run() may be called for this shape from any thread. False
  // if oneDNN has no kernel for it whose rows are independent of each other.
  bool prepare(const Shape& shape);
  void run(const Shape& shape, void* y, void* a, void* b, int thread);

 private:
  using Key = std::array<int64_t, 4>;
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };
  struct Slot {  // what one thread needs to execute
    dnnl::stream stream;
    dnnl::memory a, b, y, scratch;
    std::unordered_map<int, dnnl::memory> arguments;
  };
  struct Entry {
    dnnl::matmul primitive;  // empty where there is no kernel
    std::vector<Slot> slots;
  };
  static Key key_of(const Shape& shape);
  Entry make(const Shape& shape);

  int threads_;
  dnnl::engine engine_;
  Scratch scratch_;  // one region a thread, shared by all primitives
  std::unordered_map<Key, Entry, KeyHash> entries_;
};

}  // namespace strait::cpu
