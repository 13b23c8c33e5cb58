// The cpu backend over one set of sixteen lanes V: hands every op to its header. Compiled once per
// instruction set.
#pragma once

#include "kernels/cpu/activation.h"
#include "kernels/cpu/adamw.h"
#include "kernels/cpu/attention_backward.h"
#include "kernels/cpu/attention_forward.h"
#include "kernels/cpu/attention_merge.h"
#include "kernels/cpu/codec.h"
#include "kernels/cpu/cross_entropy.h"
#include "kernels/cpu/dot_rows.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/momentum.h"
#include "kernels/cpu/plain.h"
#include "kernels/cpu/rmsnorm.h"
#include "kernels/cpu/rope.h"
#include "kernels/cpu/rows_by_id.h"
#include "kernels/cpu/swiglu.h"
#include "kernels/cpu/vq.h"

namespace strait::cpu {

template <class V>
class BackendOf final : public HostBackend {
 public:
  BackendOf(int threads, bool use_onednn)
      : threads_(threads), scratch_(threads), matmul_(threads, use_onednn) {}
  const char* name() const override { return "cpu"; }

 protected:
  void do_matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                 bool accumulate) override {
    matmul_.multiply(y, a, transpose_a, b, transpose_b, accumulate);
  }
  void do_rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) override {
    cpu::rmsnorm_forward<V>(y, rstd, x, w, eps, threads_);
  }
  void do_add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta, Tensor w,
                              double eps) override {
    cpu::add_rmsnorm_forward<V>(sum, y, rstd, x, delta, w, eps, threads_);
  }
  void do_rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd,
                           bool accumulate_dx) override {
    cpu::rmsnorm_backward<V>(dx, dw, dy, x, w, rstd, accumulate_dx, threads_, scratch_);
  }
  void do_rope(Tensor x, Tensor table, Tensor positions, bool inverse) override {
    cpu::rope<V>(x, table, positions, inverse, threads_);
  }
  void do_swiglu_forward(Tensor y, Tensor gate_up) override {
    cpu::swiglu_forward<V>(y, gate_up, threads_);
  }
  void do_swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) override {
    cpu::swiglu_backward<V>(dgate_up, dy, gate_up, threads_);
  }
  void do_activation_forward(Tensor y, Tensor x, Activation activation) override {
    cpu::activation_forward<V>(y, x, activation, threads_);
  }
  void do_activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) override {
    cpu::activation_backward<V>(dx, dy, x, activation, threads_);
  }
  void do_attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                            const AttentionMask& mask, double scale) override {
    AttentionForward<V>(o, lse, q, k, v, mask, scale).run(threads_, scratch_);
  }
  void do_attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block) override {
    cpu::attention_merge<V>(o, lse, o_block, lse_block, threads_);
  }
  void do_attention_delta(Tensor delta, Tensor dout, Tensor o) override {
    cpu::attention_delta<V>(delta, dout, o, threads_);
  }
  void do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                             Tensor v, Tensor lse, Tensor delta, const AttentionMask& mask,
                             double scale, bool accumulate) override {
    AttentionBackward<V>(dq, dk, dv, dout, q, k, v, lse, delta, mask, scale, accumulate)
        .run(threads_, scratch_);
  }
  void do_gather_rows(Tensor y, Tensor table, Tensor ids) override {
    cpu::gather_rows(y, table, ids, threads_);
  }
  void do_scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids) override {
    cpu::scatter_add_rows<V>(dtable, dy, ids, threads_);
  }
  void do_add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha) override {
    cpu::add_gathered_rows<V>(y, x, table, ids, alpha, threads_);
  }
  void do_cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale,
                        bool gradient) override {
    cpu::cross_entropy<V>(loss, logits, targets, scale, gradient, threads_, scratch_);
  }
  void do_add(Tensor y, Tensor a, Tensor b) override { cpu::add<V>(y, a, b, threads_); }
  void do_axpy(Tensor y, double alpha, Tensor x) override { cpu::axpy<V>(y, alpha, x, threads_); }
  void do_scale(Tensor y, double alpha) override { cpu::scale<V>(y, alpha, threads_); }
  void do_combine(Tensor y, double alpha, Tensor x, double beta, Tensor z) override {
    cpu::combine<V>(y, alpha, x, beta, z, threads_);
  }
  void do_normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps) override {
    cpu::normalise<V>(y, x, sum_squares, factor, eps, threads_);
  }
  void do_cast(Tensor y, Tensor x) override { cpu::cast<V>(y, x, threads_); }
  void do_fill(Tensor y, double value) override { cpu::fill<V>(y, value, threads_); }
  void do_sum(Tensor out, Tensor x) override {
    reduce<V>(
        out, x, [](V v) { return v; }, threads_, scratch_);
  }
  void do_sum_squares(Tensor out, Tensor x) override {
    reduce<V>(
        out, x, [](V v) { return v * v; }, threads_, scratch_);
  }
  void do_bound_forward(Tensor y, Tensor x, Bound bound, double limit) override {
    cpu::bound_forward(y, x, bound, limit);
  }
  void do_bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit) override {
    cpu::bound_backward(dx, dy, x, bound, limit);
  }
  void do_rotation_coefficients(Tensor f, Tensor angle, RotationSeries series,
                                bool derivative) override {
    cpu::rotation_coefficients(f, angle, series, derivative);
  }
  void do_dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate) override {
    cpu::dot_rows<V>(y, a, b, accumulate, threads_, scratch_);
  }
  void do_add_statistics(Tensor y, Tensor a, Tensor b) override { cpu::add_statistics(y, a, b); }
  void do_clip_factor(Tensor factor, Tensor sum_squares, double max_norm) override {
    cpu::clip_factor(factor, sum_squares, max_norm);
  }
  void do_adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad, Tensor grad_scale,
                const AdamWParameters& p) override {
    cpu::adamw<V>(master, compute, m, v, grad, grad_scale, p, threads_);
  }
  void do_adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                     Tensor grad_scale, const AdamWParameters& p) override {
    cpu::adamw_rows<V>(master, compute, m, v, grad, grad_scale, p, threads_);
  }
  void do_put_rows(Tensor table, Tensor x, Tensor ids) override {
    cpu::put_rows(table, x, ids, threads_);
  }
  void do_vq_encode(Tensor index, Tensor z, Tensor codebook) override {
    cpu::vq_encode<V>(index, z, codebook, threads_, scratch_);
  }
  void do_vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha) override {
    cpu::vq_decode(y, index, codebook, alpha, threads_);
  }
  void do_vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index) override {
    cpu::vq_statistics(count, sum, z, index, threads_);
  }
  void do_vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum, Tensor donors,
                    double decay, double threshold) override {
    cpu::vq_update(count, sum, batch_count, batch_sum, donors, decay, threshold, threads_);
  }
  void do_vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows) override {
    cpu::vq_centroids(y, sum, count, rows, threads_);
  }
  void do_pack_bits(Tensor bytes, Tensor values, int bits) override {
    cpu::pack_bits(bytes, values, bits, threads_);
  }
  void do_unpack_bits(Tensor values, Tensor bytes, int bits) override {
    cpu::unpack_bits(values, bytes, bits, threads_);
  }
  void do_momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta,
                   bool nesterov) override {
    cpu::momentum<V>(update, m, grad, grad_scale, beta, nesterov, threads_);
  }
  void do_random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev) override {
    cpu::random_normal(y, rng, stream, stddev, threads_);
  }
  void do_quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                        const Rounding& rounding) override {
    cpu::quantize_rows(q, scale, x, kind, group, rounding, threads_);
  }
  void do_dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind,
                          int64_t group) override {
    cpu::dequantize_rows(x, q, scale, kind, group, threads_);
  }
  void do_topk_rows(Tensor values, Tensor indices, Tensor x) override {
    cpu::topk_rows(values, indices, x, threads_);
  }
  void do_gather_entries(Tensor values, Tensor x, Tensor indices) override {
    cpu::gather_entries(values, x, indices, threads_);
  }
  void do_scatter_entries(Tensor x, Tensor values, Tensor indices) override {
    cpu::scatter_entries(x, values, indices, threads_);
  }
  void do_column_sum_squares(Tensor sums, Tensor x) override {
    cpu::column_sum_squares(sums, x, threads_);
  }
  void do_pack_columns(Tensor bits, Tensor columns) override { cpu::pack_columns(bits, columns); }
  void do_unpack_columns(Tensor columns, Tensor bits) override {
    cpu::unpack_columns(columns, bits);
  }
  void do_inverse_cholesky(Tensor inverse, Tensor gram) override {
    cpu::inverse_cholesky(inverse, gram);
  }

 private:
  int threads_;
  Scratch scratch_;
  Matmul<V> matmul_;
};

}  // namespace strait::cpu
