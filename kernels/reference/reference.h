// Every op as plain double-precision loops, stated like the mathematics: documentation of the ops
// and oracle of their tests. Takes any dtype that the op list allows, and f64 for all of them;
// everything is read as double, computed in double and rounded once, where it is stored. One
// thread, no blocking, no tricks.
#pragma once

#include <array>

#include "kernels/host_memory.h"

namespace strait {

// The element at an index, as a double; the index has as many numbers as the tensor has dimensions.
template <typename... Index>
double get(const Tensor& t, Index... index) {
  const std::array<int64_t, sizeof...(Index)> at = {static_cast<int64_t>(index)...};
  int64_t offset = 0;
  for (size_t i = 0; i < at.size(); ++i) offset += at[i] * t.strides[i];
  switch (t.dtype) {
    case DType::f64:
      return t.as<const double>()[offset];
    case DType::f32:
      return static_cast<double>(t.as<const float>()[offset]);
    case DType::bf16:
      return static_cast<double>(static_cast<float>(t.as<const bfloat16>()[offset]));
    case DType::i32:
      return t.as<const int32_t>()[offset];
    case DType::u16:
      return t.as<const uint16_t>()[offset];
    case DType::u8:
      return t.as<const uint8_t>()[offset];
    case DType::f16:
      return static_cast<double>(static_cast<float>(t.as<const float16>()[offset]));
    case DType::f8_e4m3:
      return static_cast<double>(static_cast<float>(t.as<const float8_e4m3>()[offset]));
  }
  return 0;
}

template <typename... Index>
int64_t get_id(const Tensor& t, Index... index) {
  return static_cast<int64_t>(get(t, index...));
}

// Stores a double, rounded to the tensor's dtype (bf16, f16, f8_e4m3: by way of f32).
template <typename... Index>
void set(const Tensor& t, double value, Index... index) {
  const std::array<int64_t, sizeof...(Index)> at = {static_cast<int64_t>(index)...};
  int64_t offset = 0;
  for (size_t i = 0; i < at.size(); ++i) offset += at[i] * t.strides[i];
  switch (t.dtype) {
    case DType::f64:
      t.as<double>()[offset] = value;
      break;
    case DType::f32:
      t.as<float>()[offset] = static_cast<float>(value);
      break;
    case DType::bf16:
      t.as<bfloat16>()[offset] = bfloat16(static_cast<float>(value));
      break;
    case DType::i32:
      t.as<int32_t>()[offset] = static_cast<int32_t>(value);
      break;
    case DType::u16:
      t.as<uint16_t>()[offset] = static_cast<uint16_t>(value);
      break;
    case DType::u8:
      t.as<uint8_t>()[offset] = static_cast<uint8_t>(value);
      break;
    case DType::f16:
      t.as<float16>()[offset] = float16(static_cast<float>(value));
      break;
    case DType::f8_e4m3:
      t.as<float8_e4m3>()[offset] = float8_e4m3(static_cast<float>(value));
      break;
  }
}

// A contiguous tensor as one long row, for element-wise ops.
inline Tensor flat(const Tensor& t) { return t.view({t.elements()}); }

class ReferenceBackend final : public HostBackend {
 public:
  const char* name() const override { return "reference"; }

 protected:
  bool has_f64() const override { return true; }

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
};

}  // namespace strait
