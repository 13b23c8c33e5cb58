// Matrix products by cuBLASLt. Our matrices are row-major; read as column-major each is its own
// transpose, and y^T = op(b)^T op(a)^T, so the call is (m,n,k) = (N,M,K) with b as its first and a
// as its second operand.
//
// Shapes: y (M,N), a (M,K) or (K,M), b (K,N) or (N,K); a strided row is a leading dimension.
// Operands f32 or bf16, result f32 or that type; accumulation in f32, never TF32. Bytes: each
// operand once, y once more when accumulating. Determinism: no split-K (its reduction schemes are
// masked), the workspace has one size for ever because the choice of the algorithm depends on it,
// and the algorithm is chosen once for a key. The heuristic, not a timing, chooses.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/matmul_plans.h"

namespace strait {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuBLASLt: ") + cublasLtGetStatusString(status) + " in " +
                           what);
}

cudaDataType_t data_type(DType dtype) { return dtype == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

std::string describe(const MatmulKey& key) {
  std::string text;
  for (int64_t size : {key.m, key.n, key.k})
    text.append(text.empty() ? "(" : ", ").append(std::to_string(size));
  text.append("), ").append(name_of(key.in)).append(" to ").append(name_of(key.out));
  text.append(key.transpose_a ? ", a transposed" : ", a plain")
      .append(key.transpose_b ? ", b transposed" : ", b plain");
  text.append(", leading dimensions");
  for (int64_t ld : {key.y_ld, key.a_ld, key.b_ld}) text.append(" ").append(std::to_string(ld));
  return text;
}

// The largest power of two, up to 16, that divides the address: what a vector load needs to know.
int alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return static_cast<int>(std::min<uintptr_t>(address & (~address + 1), 16));
}

// A matrix of one row may carry any stride; cuBLASLt wants at least the row's length.
int64_t leading_dimension(const Tensor& t) {
  return std::max(t.stride(0), std::max<int64_t>(t.size(1), 1));
}

}  // namespace

struct MatmulPlan {
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatrixLayout_t first = nullptr, second = nullptr, result = nullptr;
  cublasLtMatmulAlgo_t algorithm{};

  // Delegates, so that the destructor runs when a later step throws.
  explicit MatmulPlan(const MatmulKey& key) : MatmulPlan() {
    check(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F),
          "cublasLtMatmulDescCreate");
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_b);
    set_transpose(CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_a);
    first =
        layout(key.in, key.transpose_b ? key.n : key.k, key.transpose_b ? key.k : key.n, key.b_ld);
    second =
        layout(key.in, key.transpose_a ? key.k : key.m, key.transpose_a ? key.m : key.k, key.a_ld);
    result = layout(key.out, key.m, key.n, key.y_ld);
  }
  ~MatmulPlan() {
    for (cublasLtMatrixLayout_t l : {first, second, result}) {
      if (l != nullptr) cublasLtMatrixLayoutDestroy(l);
    }
    if (description != nullptr) cublasLtMatmulDescDestroy(description);
  }
  MatmulPlan(const MatmulPlan&) = delete;
  MatmulPlan& operator=(const MatmulPlan&) = delete;

 private:
  MatmulPlan() = default;

  void set_transpose(cublasLtMatmulDescAttributes_t attribute, bool transpose) {
    const cublasOperation_t operation = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublasLtMatmulDescSetAttribute(description, attribute, &operation, sizeof(operation)),
          "cublasLtMatmulDescSetAttribute");
  }
  // A row-major (rows, columns) matrix, read as the column-major (columns, rows) that it is.
  static cublasLtMatrixLayout_t layout(DType dtype, int64_t rows, int64_t columns, int64_t ld) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublasLtMatrixLayoutCreate(&made, data_type(dtype), static_cast<uint64_t>(columns),
                                     static_cast<uint64_t>(rows), ld),
          "cublasLtMatrixLayoutCreate");
    return made;
  }
};

namespace {

// Owns the heuristic's search conditions: the fixed workspace, no reduction scheme, the operands'
// true alignments.
class Preference {
 public:
  explicit Preference(const MatmulKey& key) {
    check(cublasLtMatmulPreferenceCreate(&preference_), "cublasLtMatmulPreferenceCreate");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(key.b_alignment));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(key.a_alignment));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(key.y_alignment));
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(key.y_alignment));
  }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  template <typename Value>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, Value value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
  }
  cublasLtMatmulPreference_t preference_ = nullptr;
};

// The mask asks for it; this makes sure of it, because a split K would also be a correctness risk
// (lost tails of K).
bool splits_k(const cublasLtMatmulAlgo_t& algorithm) {
  int32_t splits = 1;
  uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
  check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits,
                                             sizeof(splits), nullptr),
        "cublasLtMatmulAlgoConfigGetAttribute");
  check(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                             &scheme, sizeof(scheme), nullptr),
        "cublasLtMatmulAlgoConfigGetAttribute");
  return splits > 1 || scheme != CUBLASLT_REDUCTION_SCHEME_NONE;
}

}  // namespace

MatmulPlans::MatmulPlans(cudaStream_t stream) : stream_(stream) {
  check(cublasLtCreate(&handle_), "cublasLtCreate");
  const cudaError_t status = cudaMalloc(&workspace_, kWorkspaceBytes);
  if (status != cudaSuccess) cublasLtDestroy(handle_);
  CUDA_CHECK(status);
}

MatmulPlans::~MatmulPlans() {
  plans_.clear();
  cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

const MatmulPlan& MatmulPlans::find(const MatmulKey& key) {
  const auto found = plans_.find(key);
  if (found != plans_.end()) return *found->second;

  auto plan = std::make_unique<MatmulPlan>(key);
  const Preference preference(key);
  std::array<cublasLtMatmulHeuristicResult_t, 8> results{};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan->description, plan->first, plan->second, plan->result, plan->result,
      preference.get(), static_cast<int>(results.size()), results.data(), &count);
  const auto end = results.begin() + (status == CUBLAS_STATUS_SUCCESS ? count : 0);
  const auto best =
      std::find_if(results.begin(), end, [](const cublasLtMatmulHeuristicResult_t& r) {
        return r.state == CUBLAS_STATUS_SUCCESS && !splits_k(r.algo);
      });
  if (best == end)
    throw std::runtime_error("cuBLASLt has no algorithm without split-K for matmul " +
                             describe(key));
  plan->algorithm = best->algo;
  return *plans_.emplace(key, std::move(plan)).first->second;
}

void MatmulPlans::run(const MatmulKey& key, void* y, const void* a, const void* b,
                      bool accumulate) {
  const MatmulPlan& plan = find(key);
  const float alpha = 1.0f, beta = accumulate ? 1.0f : 0.0f;
  check(cublasLtMatmul(handle_, plan.description, &alpha, b, plan.first, a, plan.second, &beta, y,
                       plan.result, y, plan.result, &plan.algorithm, workspace_, kWorkspaceBytes,
                       stream_),
        "cublasLtMatmul");
}

void CudaBackend::do_matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                            bool accumulate) {
  MatmulKey key;
  key.m = y.size(0);
  key.n = y.size(1);
  key.k = transpose_a ? a.size(0) : a.size(1);
  if (key.m == 0 || key.n == 0) return;
  STRAIT_CHECK(key.k > 0, "matmul over an empty dimension");
  key.y_ld = leading_dimension(y);
  key.a_ld = leading_dimension(a);
  key.b_ld = leading_dimension(b);
  key.y_alignment = alignment_of(y.data);
  key.a_alignment = alignment_of(a.data);
  key.b_alignment = alignment_of(b.data);
  key.transpose_a = transpose_a;
  key.transpose_b = transpose_b;
  key.in = a.dtype;
  key.out = y.dtype;
  matmul_plans_->run(key, y.data, a.data, b.data, accumulate);
}

}  // namespace strait
