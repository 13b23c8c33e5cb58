// What cuBLASLt needs for a product and what costs host time to build, cached by everything it
// depends on.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "kernels/tensor.h"

namespace strait {

// All that decides which algorithm runs. Row-major sizes; leading dimensions in elements;
// alignments in bytes, at most 16.
struct MatmulKey {
  int64_t m = 0, n = 0, k = 0;
  int64_t y_ld = 0, a_ld = 0, b_ld = 0;
  int y_alignment = 0, a_alignment = 0, b_alignment = 0;
  bool transpose_a = false, transpose_b = false;
  DType in = DType::f32, out = DType::f32;
  auto operator<=>(const MatmulKey&) const = default;
};

struct MatmulPlan;  // matmul.cu: descriptor, layouts, algorithm

class MatmulPlans {
 public:
  explicit MatmulPlans(cudaStream_t stream);
  ~MatmulPlans();
  MatmulPlans(const MatmulPlans&) = delete;
  MatmulPlans& operator=(const MatmulPlans&) = delete;

  // y = op(a) op(b) [+ y] on the stream; pointers as `key` describes them.
  void run(const MatmulKey& key, void* y, const void* a, const void* b, bool accumulate);

 private:
  const MatmulPlan& find(const MatmulKey& key);

  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<MatmulKey, std::unique_ptr<MatmulPlan>> plans_;
};

}  // namespace strait
