// The backend that computes nothing: the contract is checked and the cost is booked, as on every
// backend, but there is no memory behind a tensor. A run of 100 billion parameters costs seconds,
// and its dry run sizes the arenas of the others. allocate() only remembers the size; upload() is
// dropped, download() gives zeros.
#include <cstring>
#include <limits>

#include "kernels/backend.h"

namespace strait {
namespace {

class NoMemory final : public DeviceMemory {
 public:
  explicit NoMemory(size_t bytes) { bytes_ = bytes; }
};

class MetaBackend final : public Backend {
 public:
  const char* name() const override { return "meta"; }
  bool host_memory() const override { return false; }
  std::unique_ptr<DeviceMemory> allocate(size_t bytes) override {
    return std::make_unique<NoMemory>(bytes);
  }
  void upload(const Tensor&, const void*) override {}
  void download(void* host, const Tensor& device) override { std::memset(host, 0, device.bytes()); }
  void synchronize() override {}
  uint64_t available_memory() const override { return std::numeric_limits<uint64_t>::max(); }

 protected:
  bool computes() const override { return false; }
  bool has_f64() const override { return true; }

  void do_matmul(Tensor, Tensor, bool, Tensor, bool, bool) override {}
  void do_rmsnorm_forward(Tensor, Tensor, Tensor, Tensor, double) override {}
  void do_add_rmsnorm_forward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, double) override {}
  void do_rmsnorm_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, bool) override {}
  void do_rope(Tensor, Tensor, Tensor, bool) override {}
  void do_swiglu_forward(Tensor, Tensor) override {}
  void do_swiglu_backward(Tensor, Tensor, Tensor) override {}
  void do_activation_forward(Tensor, Tensor, Activation) override {}
  void do_activation_backward(Tensor, Tensor, Tensor, Activation) override {}
  void do_attention_forward(Tensor, Tensor, Tensor, Tensor, Tensor, const AttentionMask&,
                            double) override {}
  void do_attention_merge(Tensor, Tensor, Tensor, Tensor) override {}
  void do_attention_delta(Tensor, Tensor, Tensor) override {}
  void do_attention_backward(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                             const AttentionMask&, double, bool) override {}
  void do_gather_rows(Tensor, Tensor, Tensor) override {}
  void do_scatter_add_rows(Tensor, Tensor, Tensor) override {}
  void do_add_gathered_rows(Tensor, Tensor, Tensor, Tensor, double) override {}
  void do_cross_entropy(Tensor, Tensor, Tensor, double, bool) override {}
  void do_add(Tensor, Tensor, Tensor) override {}
  void do_axpy(Tensor, double, Tensor) override {}
  void do_scale(Tensor, double) override {}
  void do_combine(Tensor, double, Tensor, double, Tensor) override {}
  void do_normalise(Tensor, Tensor, Tensor, double, double) override {}
  void do_cast(Tensor, Tensor) override {}
  void do_fill(Tensor, double) override {}
  void do_sum(Tensor, Tensor) override {}
  void do_sum_squares(Tensor, Tensor) override {}
  void do_add_statistics(Tensor, Tensor, Tensor) override {}
  void do_clip_factor(Tensor, Tensor, double) override {}
  void do_adamw(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, const AdamWParameters&) override {}
  void do_adamw_rows(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                     const AdamWParameters&) override {}
  void do_put_rows(Tensor, Tensor, Tensor) override {}
  void do_vq_encode(Tensor, Tensor, Tensor) override {}
  void do_vq_decode(Tensor, Tensor, Tensor, double) override {}
  void do_vq_statistics(Tensor, Tensor, Tensor, Tensor) override {}
  void do_vq_update(Tensor, Tensor, Tensor, Tensor, Tensor, double, double) override {}
  void do_vq_centroids(Tensor, Tensor, Tensor, Tensor) override {}
  void do_pack_bits(Tensor, Tensor, int) override {}
  void do_unpack_bits(Tensor, Tensor, int) override {}
  void do_momentum(Tensor, Tensor, Tensor, Tensor, double, bool) override {}
  void do_random_normal(Tensor, const Philox&, uint64_t, double) override {}
  void do_quantize_rows(Tensor, Tensor, Tensor, Quantization, int64_t, const Rounding&) override {}
  void do_dequantize_rows(Tensor, Tensor, Tensor, Quantization, int64_t) override {}
  void do_topk_rows(Tensor, Tensor, Tensor) override {}
  void do_gather_entries(Tensor, Tensor, Tensor) override {}
  void do_scatter_entries(Tensor, Tensor, Tensor) override {}
  void do_column_sum_squares(Tensor, Tensor) override {}
  void do_pack_columns(Tensor, Tensor) override {}
  void do_unpack_columns(Tensor, Tensor) override {}
  void do_inverse_cholesky(Tensor, Tensor) override {}
  void do_bound_forward(Tensor, Tensor, Bound, double) override {}
  void do_bound_backward(Tensor, Tensor, Tensor, Bound, double) override {}
  void do_rotation_coefficients(Tensor, Tensor, RotationSeries, bool) override {}
  void do_dot_rows(Tensor, Tensor, Tensor, bool) override {}
};

}  // namespace

std::unique_ptr<Backend> make_meta_backend() { return std::make_unique<MetaBackend>(); }

}  // namespace strait
