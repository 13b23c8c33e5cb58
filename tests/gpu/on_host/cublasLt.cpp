#include "tests/gpu/on_host/cublasLt.h"

namespace {

float element(const void* data, cudaDataType type, int64_t i) {
  return type == CUDA_R_32F ? static_cast<const float*>(data)[i]
                            : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}

// op(matrix) as rows of contiguous floats, or its transpose.
std::vector<float> rows_of(const void* data, const CublasLtOnHostLayout& layout, bool transposed) {
  const uint64_t rows = transposed ? layout.columns : layout.rows,
                 columns = transposed ? layout.rows : layout.columns;
  std::vector<float> all(rows * columns);
  for (uint64_t r = 0; r < rows; ++r) {
    for (uint64_t c = 0; c < columns; ++c) {
      const auto i = static_cast<int64_t>(transposed ? c : r),
                 j = static_cast<int64_t>(transposed ? r : c);
      all[r * columns + c] = element(data, layout.type, j * layout.ld + i);
    }
  }
  return all;
}

// d = alpha op(a) op(b) + beta c; first (k, m), second (n, k).
void multiply(float alpha, const std::vector<float>& first, const std::vector<float>& second,
              float beta, const void* c, void* d, const CublasLtOnHostLayout& layout) {
  const uint64_t m = layout.rows, n = layout.columns, k = first.size() / m;
  std::vector<float> column(m);
  for (uint64_t j = 0; j < n; ++j) {
    column.assign(m, 0.0f);
    for (uint64_t p = 0; p < k; ++p) {
      const float factor = second[j * k + p];
      for (uint64_t i = 0; i < m; ++i) column[i] += first[p * m + i] * factor;
    }
    for (uint64_t i = 0; i < m; ++i) {
      const int64_t at = static_cast<int64_t>(j) * layout.ld + static_cast<int64_t>(i);
      float value = alpha * column[i];
      if (beta != 0.0f) value += beta * element(c, layout.type, at);
      if (layout.type == CUDA_R_32F)
        static_cast<float*>(d)[at] = value;
      else
        static_cast<__nv_bfloat16*>(d)[at] = __float2bfloat16_rn(value);
    }
  }
}

}  // namespace

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t*, void*, size_t, cudaStream_t stream) {
  const uint64_t m = d_layout->rows, n = d_layout->columns;
  const uint64_t k = desc->transpose_a ? a_layout->rows : a_layout->columns;
  const bool fits = (desc->transpose_a ? a_layout->columns : a_layout->rows) == m &&
                    (desc->transpose_b ? b_layout->columns : b_layout->rows) == k &&
                    (desc->transpose_b ? b_layout->rows : b_layout->columns) == n;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  cuda_on_host::submit(
      stream, [=, desc = *desc, a_layout = *a_layout, b_layout = *b_layout, d_layout = *d_layout,
               alpha = *static_cast<const float*>(alpha), beta = *static_cast<const float*>(beta)] {
        multiply(alpha, rows_of(a, a_layout, !desc.transpose_a),
                 rows_of(b, b_layout, !desc.transpose_b), beta, c, d, d_layout);
      });
  return CUBLAS_STATUS_SUCCESS;
}
