// The CUDA backend's class: one cuBLASLt handle and one scratch buffer an instance, one stream for
// all instances of the process, so that what one writes another may read without waiting; the ops are in the .cu files of their topics, which carry the names of the CPU side. Every kernel
// sums in an order that its shapes alone fix, none uses an atomic: the same inputs give the same
// bits on the same device (docs/determinism.md).
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "kernels/backend.h"

namespace strait {

class MatmulPlans;   // matmul.cu
class UploadBuffer;  // upload_buffer.h

class CudaBackend final : public Backend {
 public:
  CudaBackend();
  ~CudaBackend() override;
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  const char* name() const override { return "cuda"; }
  std::string device_name() const override;
  bool host_memory() const override { return false; }
  std::unique_ptr<DeviceMemory> allocate(size_t bytes) override;
  void upload(const Tensor& device, const void* host) override;
  void download(void* host, const Tensor& device) override;
  void synchronize() override;
  uint64_t available_memory() const override;

  int64_t mark() override;
  int64_t nanoseconds_between(int64_t first, int64_t second) override;
  void forget_marks() override { marks_ = 0; }

  bool notes_ops() const override { return true; }

 protected:
  void do_begin_noting() override;
  std::unique_ptr<OpSequence> do_end_noting() override;
  void do_perform(OpSequence& sequence) override;

  void do_matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                 bool accumulate) override;
  void do_rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) override;
  void do_add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta, Tensor w,
                              double eps) override;
  void do_rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd,
                           bool accumulate_dx) override;
  void do_rope(Tensor x, Tensor table, Tensor positions, bool inverse) override;
  void do_swiglu_forward(Tensor y, Tensor gate_up) override;
  void do_swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) override;
  void do_activation_forward(Tensor y, Tensor x, Activation activation) override;
  void do_activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) override;
  void do_attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                            const AttentionMask& mask, double scale) override;
  void do_attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block) override;
  void do_attention_delta(Tensor delta, Tensor dout, Tensor o) override;
  void do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                             Tensor v, Tensor lse, Tensor delta, const AttentionMask& mask,
                             double scale, bool accumulate) override;
  void do_gather_rows(Tensor y, Tensor table, Tensor ids) override;
  void do_scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids) override;
  void do_add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha) override;
  void do_cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale,
                        bool gradient) override;
  void do_add(Tensor y, Tensor a, Tensor b) override;
  void do_axpy(Tensor y, double alpha, Tensor x) override;
  void do_scale(Tensor y, double alpha) override;
  void do_combine(Tensor y, double alpha, Tensor x, double beta, Tensor z) override;
  void do_normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps) override;
  void do_cast(Tensor y, Tensor x) override;
  void do_fill(Tensor y, double value) override;
  void do_sum(Tensor out, Tensor x) override;
  void do_sum_squares(Tensor out, Tensor x) override;
  void do_add_statistics(Tensor y, Tensor a, Tensor b) override;
  void do_clip_factor(Tensor factor, Tensor sum_squares, double max_norm) override;
  void do_adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad, Tensor grad_scale,
                const AdamWParameters& p) override;
  void do_adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                     Tensor grad_scale, const AdamWParameters& p) override;
  void do_put_rows(Tensor table, Tensor x, Tensor ids) override;
  void do_vq_encode(Tensor index, Tensor z, Tensor codebook) override;
  void do_vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha) override;
  void do_vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index) override;
  void do_vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum, Tensor donors,
                    double decay, double threshold) override;
  void do_vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows) override;
  void do_pack_bits(Tensor bytes, Tensor values, int bits) override;
  void do_unpack_bits(Tensor values, Tensor bytes, int bits) override;
  void do_momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta,
                   bool nesterov) override;
  void do_random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev) override;
  void do_quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                        const Rounding& rounding) override;
  void do_dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind,
                          int64_t group) override;
  void do_topk_rows(Tensor values, Tensor indices, Tensor x) override;
  void do_gather_entries(Tensor values, Tensor x, Tensor indices) override;
  void do_scatter_entries(Tensor x, Tensor values, Tensor indices) override;
  void do_column_sum_squares(Tensor sums, Tensor x) override;
  void do_pack_columns(Tensor bits, Tensor columns) override;
  void do_unpack_columns(Tensor columns, Tensor bits) override;
  void do_inverse_cholesky(Tensor inverse, Tensor gram) override;
  void do_bound_forward(Tensor y, Tensor x, Bound bound, double limit) override;
  void do_bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit) override;
  void do_rotation_coefficients(Tensor f, Tensor angle, RotationSeries series,
                                bool derivative) override;
  void do_dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate) override;

 private:
  // At least `bytes` of device memory for the op that asks, valid until the next op asks. Grows
  // when a shape is met that needs more than all before; outgrown buffers live on, because kernels
  // in flight may still use them.
  void* scratch(size_t bytes);
  void reduce(Tensor out, Tensor x, bool squares);
  void cast_half(Tensor y, Tensor x);  // float <-> f16

  std::shared_ptr<CUstream_st> stream_owner_;
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<MatmulPlans> matmul_plans_;
  std::unique_ptr<UploadBuffer> uploads_;
  std::vector<cudaEvent_t> events_;  // of the marks, kept for the next ones
  size_t marks_ = 0;
  std::vector<std::unique_ptr<DeviceMemory>> scratch_;  // the last one is the current one
};

}  // namespace strait
