// The part of every op that all backends share: the contract of kernels/backend.h is checked, the
// backend's do_… function is called, and the cost is booked.
//
// Costs: bytes are those of every operand read plus those of every operand written, once each.
// FLOPs are those of the formula in backend.h; exp, log, division and square root count as one,
// copies and integer work as none. attention_backward counts the five products of the mathematics,
// not those that an implementation does twice.
#include "kernels/backend.h"

#include <fmt/format.h>

#include "kernels/contract.h"
#include "kernels/cost.h"

namespace strait {
namespace {

// What the three attention ops have in common; `o` stands for o or dout.
void check_attention(const Contract& c, const Operand& q, const Operand& k, const Operand& v,
                     const AttentionMask& mask) {
  c.rank(q, 4);
  c.rank(k, 4);
  const DType t = c.float_type(q);
  const Tensor &Q = q.tensor, &K = k.tensor;
  const int64_t B = Q.size(0), Tq = Q.size(1), H = Q.size(2), Dh = Q.size(3), Tk = K.size(1),
                Hkv = K.size(2);
  c.require(H % Hkv == 0, fmt::format("{} query heads are not a multiple of {} key heads", H, Hkv));
  c.is(q, t, Q.shape, Layout::heads);
  c.is(k, t, {B, Tk, Hkv, Dh}, Layout::heads);
  c.is(v, t, {B, Tk, Hkv, Dh}, Layout::heads);
  c.is({"q_position", mask.q_position}, DType::i32, {Tq});
  c.is({"k_position", mask.k_position}, DType::i32, {Tk});
  c.require(mask.q_document.defined() == mask.k_document.defined(),
            "q_document and k_document must be given together");
  if (!mask.q_document.defined()) return;
  c.is({"q_document", mask.q_document}, DType::i32, {B, Tq});
  c.is({"k_document", mask.k_document}, DType::i32, {B, Tk});
}

uint64_t mask_bytes(const AttentionMask& mask) {
  uint64_t bytes = bytes_of({mask.q_position, mask.k_position});
  if (mask.q_document.defined()) bytes += bytes_of({mask.q_document, mask.k_document});
  return bytes;
}

// FLOPs of one (Tq, Tk) product per batch entry and head.
uint64_t attention_product_flops(const Tensor& q, const Tensor& k, const AttentionMask& mask) {
  const uint64_t full = 2 * count(q.elements()) * count(k.size(1));
  return mask.causal && q.size(1) == k.size(1) ? full / 2 : full;
}

}  // namespace

void Backend::book(Op op, bool matrix, DType dtype, uint64_t flops, uint64_t bytes) {
  if (sink_ != nullptr) sink_->push_back({op, matrix, dtype == DType::bf16, flops, bytes});
}

// Here, and not in the header, so that the virtual table is where every user of a backend links to, the CUDA library included.
Backend::~Backend() = default;

void Backend::matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                     bool accumulate) {
  const Contract c(Op::matmul, computes(), has_f64());
  c.rank({"a", a}, 2);
  c.rank({"b", b}, 2);
  const DType t = c.float_type({"a", a});
  const int64_t M = a.size(transpose_a ? 1 : 0), K = a.size(transpose_a ? 0 : 1),
                N = b.size(transpose_b ? 0 : 1);
  c.is({"a", a}, t, a.shape, Layout::rows);
  c.is({"b", b}, t, transpose_b ? Shape{N, K} : Shape{K, N}, Layout::rows);
  c.is_either({"y", y}, t, {M, N}, Layout::rows);
  c.no_alias({"y", y}, {{"a", a}, {"b", b}});
  do_matmul(y, a, transpose_a, b, transpose_b, accumulate);
  book(Op::matmul, true, t, 2 * count(M) * count(N) * count(K),
       bytes_of({a, b}) + written(y, accumulate));
}

void Backend::rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  const Contract c(Op::rmsnorm_forward, computes(), has_f64());
  c.rank({"x", x}, 2);
  const DType t = c.float_type({"x", x});
  c.is({"x", x}, t, x.shape);
  c.is({"y", y}, t, x.shape);
  c.is({"rstd", rstd}, statistics_of(t), {x.size(0)});
  c.is({"w", w}, t, {x.size(1)});
  c.no_alias({"y", y}, {{"x", x}, {"w", w}});
  do_rmsnorm_forward(y, rstd, x, w, eps);
  book(Op::rmsnorm_forward, false, t, 4 * count(x.elements()), bytes_of({y, rstd, x, w}));
}

void Backend::add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta,
                                  Tensor w, double eps) {
  const Contract c(Op::add_rmsnorm_forward, computes(), has_f64());
  c.rank({"x", x}, 2);
  const DType t = c.float_type({"x", x});
  c.is({"x", x}, t, x.shape);
  c.is({"delta", delta}, t, x.shape);
  c.is({"sum", sum}, t, x.shape);
  c.is({"y", y}, t, x.shape);
  c.is({"rstd", rstd}, statistics_of(t), {x.size(0)});
  c.is({"w", w}, t, {x.size(1)});
  c.may_be({"sum", sum}, {"x", x});
  c.may_be({"sum", sum}, {"delta", delta});
  c.no_alias({"y", y}, {{"x", x}, {"delta", delta}, {"w", w}, {"sum", sum}});
  do_add_rmsnorm_forward(sum, y, rstd, x, delta, w, eps);
  book(Op::add_rmsnorm_forward, false, t, 5 * count(x.elements()),
       bytes_of({sum, y, rstd, x, delta, w}));
}

void Backend::rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd,
                               bool accumulate_dx) {
  const Contract c(Op::rmsnorm_backward, computes(), has_f64());
  c.rank({"x", x}, 2);
  const DType t = c.float_type({"x", x});
  c.is({"x", x}, t, x.shape);
  c.is({"dy", dy}, t, x.shape);
  c.is({"dx", dx}, t, x.shape);
  c.is({"w", w}, t, {x.size(1)});
  c.is({"dw", dw}, statistics_of(t), {x.size(1)});
  c.is({"rstd", rstd}, statistics_of(t), {x.size(0)});
  c.no_alias({"dx", dx}, {{"dy", dy}, {"x", x}, {"w", w}});
  c.no_alias({"dw", dw}, {{"dy", dy}, {"x", x}, {"w", w}, {"rstd", rstd}});
  do_rmsnorm_backward(dx, dw, dy, x, w, rstd, accumulate_dx);
  const uint64_t per_element = accumulate_dx ? 10 : 9;
  book(Op::rmsnorm_backward, false, t, per_element * count(x.elements()),
       bytes_of({dy, x, w, rstd}) + written(dw, true) + written(dx, accumulate_dx));
}

void Backend::rope(Tensor x, Tensor table, Tensor positions, bool inverse) {
  const Contract c(Op::rope, computes(), has_f64());
  c.rank({"x", x}, 4);
  c.rank({"table", table}, 2);
  const DType t = c.float_type({"x", x});
  c.require(x.size(3) % 2 == 0,
            fmt::format("the head width {} is odd: halves cannot rotate", x.size(3)));
  c.is({"x", x}, t, x.shape, Layout::heads);
  c.is({"table", table}, statistics_of(t), {table.size(0), x.size(3)});
  c.is({"positions", positions}, DType::i32, {x.size(1)});
  do_rope(x, table, positions, inverse);
  book(Op::rope, false, t, 3 * count(x.elements()),
       written(x, true) + count(x.size(1) * x.size(3)) * size_of(table.dtype) + positions.bytes());
}

void Backend::swiglu_forward(Tensor y, Tensor gate_up) {
  const Contract c(Op::swiglu_forward, computes(), has_f64());
  c.rank({"y", y}, 2);
  const DType t = c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  c.is({"gate_up", gate_up}, t, {y.size(0), 2 * y.size(1)});
  c.no_alias({"y", y}, {{"gate_up", gate_up}});
  do_swiglu_forward(y, gate_up);
  book(Op::swiglu_forward, false, t, 4 * count(y.elements()), bytes_of({y, gate_up}));
}

void Backend::swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) {
  const Contract c(Op::swiglu_backward, computes(), has_f64());
  c.rank({"dy", dy}, 2);
  const DType t = c.float_type({"dy", dy});
  c.is({"dy", dy}, t, dy.shape);
  c.is({"gate_up", gate_up}, t, {dy.size(0), 2 * dy.size(1)});
  c.is({"dgate_up", dgate_up}, t, gate_up.shape);
  c.may_be({"dgate_up", dgate_up}, {"gate_up", gate_up});
  c.no_alias({"dgate_up", dgate_up}, {{"dy", dy}});
  do_swiglu_backward(dgate_up, dy, gate_up);
  book(Op::swiglu_backward, false, t, 11 * count(dy.elements()), bytes_of({dgate_up, dy, gate_up}));
}

void Backend::activation_forward(Tensor y, Tensor x, Activation activation) {
  const Contract c(Op::activation_forward, computes(), has_f64());
  const DType t = c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  c.is({"x", x}, t, y.shape);
  c.may_be({"y", y}, {"x", x});
  do_activation_forward(y, x, activation);
  book(Op::activation_forward, false, t, 4 * count(y.elements()), bytes_of({y, x}));
}

void Backend::activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) {
  const Contract c(Op::activation_backward, computes(), has_f64());
  const DType t = c.float_type({"dx", dx});
  c.is({"dx", dx}, t, dx.shape);
  c.is({"dy", dy}, t, dx.shape);
  c.is({"x", x}, t, dx.shape);
  c.may_be({"dx", dx}, {"dy", dy});
  c.no_alias({"dx", dx}, {{"x", x}});
  do_activation_backward(dx, dy, x, activation);
  book(Op::activation_backward, false, t, 9 * count(dx.elements()), bytes_of({dx, dy, x}));
}

void Backend::attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                                const AttentionMask& mask, double scale) {
  const Contract c(Op::attention_forward, computes(), has_f64());
  check_attention(c, {"q", q}, {"k", k}, {"v", v}, mask);
  c.is_either({"o", o}, q.dtype, q.shape, Layout::heads);
  c.is({"lse", lse}, statistics_of(q.dtype), {q.size(0), q.size(2), q.size(1)});
  c.no_alias({"o", o}, {{"q", q}, {"k", k}, {"v", v}});
  do_attention_forward(o, lse, q, k, v, mask, scale);
  book(Op::attention_forward, true, q.dtype, 2 * attention_product_flops(q, k, mask),
       bytes_of({o, lse, q, k, v}) + mask_bytes(mask));
}

void Backend::attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block) {
  const Contract c(Op::attention_merge, computes(), has_f64());
  c.rank({"o", o}, 4);
  c.rank({"o_block", o_block}, 4);
  const DType s = statistics_of(c.float_type({"o_block", o_block}));
  const Shape rows = {o.size(0), o.size(2), o.size(1)};
  c.is({"o", o}, s, o.shape, Layout::heads);
  c.is({"o_block", o_block}, o_block.dtype, o.shape, Layout::heads);
  c.is({"lse", lse}, s, rows);
  c.is({"lse_block", lse_block}, s, rows);
  c.no_alias({"o", o}, {{"o_block", o_block}});
  c.no_alias({"lse", lse}, {{"lse_block", lse_block}});
  do_attention_merge(o, lse, o_block, lse_block);
  book(Op::attention_merge, false, o_block.dtype,
       3 * count(o.elements()) + 6 * count(lse.elements()),
       written(o, true) + written(lse, true) + bytes_of({o_block, lse_block}));
}

void Backend::attention_delta(Tensor delta, Tensor dout, Tensor o) {
  const Contract c(Op::attention_delta, computes(), has_f64());
  c.rank({"o", o}, 4);
  const DType t = c.float_type({"o", o});
  c.is({"o", o}, t, o.shape, Layout::heads);
  c.is({"dout", dout}, t, o.shape, Layout::heads);
  c.is({"delta", delta}, statistics_of(t), {o.size(0), o.size(2), o.size(1)});
  c.no_alias({"delta", delta}, {{"dout", dout}, {"o", o}});
  do_attention_delta(delta, dout, o);
  book(Op::attention_delta, false, t, 2 * count(o.elements()), bytes_of({delta, dout, o}));
}

void Backend::attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                                 Tensor v, Tensor lse, Tensor delta, const AttentionMask& mask,
                                 double scale, bool accumulate) {
  const Contract c(Op::attention_backward, computes(), has_f64());
  check_attention(c, {"q", q}, {"k", k}, {"v", v}, mask);
  const DType s = statistics_of(q.dtype);
  const Shape rows = {q.size(0), q.size(2), q.size(1)};
  c.is({"dout", dout}, q.dtype, q.shape, Layout::heads);
  c.is({"lse", lse}, s, rows);
  c.is({"delta", delta}, s, rows);
  c.is_either({"dq", dq}, q.dtype, q.shape, Layout::heads);
  c.is_either({"dk", dk}, q.dtype, k.shape, Layout::heads);
  c.is_either({"dv", dv}, q.dtype, k.shape, Layout::heads);
  c.no_alias({"dq", dq}, {{"dout", dout}, {"q", q}, {"k", k}, {"v", v}, {"dk", dk}, {"dv", dv}});
  c.no_alias({"dk", dk}, {{"dout", dout}, {"q", q}, {"k", k}, {"v", v}, {"dv", dv}});
  c.no_alias({"dv", dv}, {{"dout", dout}, {"q", q}, {"k", k}, {"v", v}});
  do_attention_backward(dq, dk, dv, dout, q, k, v, lse, delta, mask, scale, accumulate);
  book(Op::attention_backward, true, q.dtype, 5 * attention_product_flops(q, k, mask),
       bytes_of({dout, q, k, v, lse, delta}) + mask_bytes(mask) + written(dq, accumulate) +
           written(dk, accumulate) + written(dv, accumulate));
}

void Backend::gather_rows(Tensor y, Tensor table, Tensor ids) {
  const Contract c(Op::gather_rows, computes(), has_f64());
  c.rank({"y", y}, 2);
  c.rank({"table", table}, 2);
  const DType t = c.float_type({"table", table});
  c.is({"table", table}, t, {table.size(0), y.size(1)});
  c.is({"y", y}, t, y.shape);
  c.is({"ids", ids}, DType::i32, {y.size(0)});
  c.no_alias({"y", y}, {{"table", table}, {"ids", ids}});
  do_gather_rows(y, table, ids);
  book(Op::gather_rows, false, t, 0, 2 * y.bytes() + ids.bytes());
}

void Backend::scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids) {
  const Contract c(Op::scatter_add_rows, computes(), has_f64());
  c.rank({"dy", dy}, 2);
  c.rank({"dtable", dtable}, 2);
  const DType t = c.float_type({"dy", dy});
  c.is({"dy", dy}, t, dy.shape);
  c.is({"dtable", dtable}, statistics_of(t), {dtable.size(0), dy.size(1)});
  c.is({"ids", ids}, DType::i32, {dy.size(0)});
  c.no_alias({"dtable", dtable}, {{"dy", dy}, {"ids", ids}});
  do_scatter_add_rows(dtable, dy, ids);
  book(Op::scatter_add_rows, false, t, count(dy.elements()),
       dy.bytes() + ids.bytes() + 2 * count(dy.elements()) * size_of(dtable.dtype));
}

void Backend::add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha) {
  const Contract c(Op::add_gathered_rows, computes(), has_f64());
  c.rank({"x", x}, 2);
  c.rank({"table", table}, 2);
  // T is the narrower type of the three; f64 mixes with nothing.
  const DType s = statistics_of(c.float_type({"x", x}));
  const DType t = s == DType::f64 ? s : DType::bf16;
  c.is_either({"x", x}, t, x.shape, Layout::rows);
  c.is_either({"y", y}, t, x.shape, Layout::rows);
  c.is_either({"table", table}, t, {table.size(0), x.size(1)});
  c.is({"ids", ids}, DType::i32, {x.size(0)});
  c.may_be({"y", y}, {"x", x});
  c.no_alias({"y", y}, {{"table", table}, {"ids", ids}});
  do_add_gathered_rows(y, x, table, ids, alpha);
  book(Op::add_gathered_rows, false, x.dtype, 2 * count(x.elements()),
       bytes_of({y, x, ids}) + count(x.elements()) * size_of(table.dtype));
}

void Backend::cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale,
                            bool gradient) {
  const Contract c(Op::cross_entropy, computes(), has_f64());
  c.rank({"logits", logits}, 2);
  const DType t = c.float_type({"logits", logits});
  c.is({"logits", logits}, t, logits.shape);
  c.is({"loss", loss}, statistics_of(t), {logits.size(0)});
  c.is({"targets", targets}, DType::i32, {logits.size(0)});
  c.no_alias({"loss", loss}, {{"logits", logits}, {"targets", targets}});
  do_cross_entropy(loss, logits, targets, scale, gradient);
  const uint64_t per_element = gradient ? 6 : 4;
  book(Op::cross_entropy, false, t, per_element * count(logits.elements()),
       bytes_of({loss, targets}) + written(logits, gradient));
}

void Backend::add(Tensor y, Tensor a, Tensor b) {
  const Contract c(Op::add, computes(), has_f64());
  const DType t = c.float_type({"a", a});
  c.is({"a", a}, t, a.shape);
  c.is({"b", b}, t, a.shape);
  c.is({"y", y}, t, a.shape);
  c.may_be({"y", y}, {"a", a});
  c.may_be({"y", y}, {"b", b});
  do_add(y, a, b);
  book(Op::add, false, t, count(a.elements()), bytes_of({y, a, b}));
}

void Backend::axpy(Tensor y, double alpha, Tensor x) {
  const Contract c(Op::axpy, computes(), has_f64());
  c.is({"x", x}, c.float_type({"x", x}), x.shape);
  c.is({"y", y}, c.float_type({"y", y}), x.shape);
  c.no_alias({"y", y}, {{"x", x}});
  do_axpy(y, alpha, x);
  book(Op::axpy, false, x.dtype, 2 * count(x.elements()), x.bytes() + written(y, true));
}

void Backend::scale(Tensor y, double alpha) {
  const Contract c(Op::scale, computes(), has_f64());
  c.is({"y", y}, c.float_type({"y", y}), y.shape);
  do_scale(y, alpha);
  book(Op::scale, false, y.dtype, count(y.elements()), written(y, true));
}

void Backend::cast(Tensor y, Tensor x) {
  const Contract c(Op::cast, computes(), has_f64());
  const auto is_id = [](const Tensor& t) { return t.dtype == DType::i32 || t.dtype == DType::u16; };
  const bool ids = is_id(x) && is_id(y);
  const auto type = [&](const Operand& o, const Tensor& other) {
    const bool half = o.tensor.dtype == DType::f16 && is_float(other.dtype);
    return ids || half ? o.tensor.dtype : c.float_type(o);
  };
  c.is({"x", x}, type({"x", x}, y), x.shape, Layout::rows);
  c.is({"y", y}, type({"y", y}, x), x.shape, Layout::rows);
  c.no_alias({"y", y}, {{"x", x}});
  do_cast(y, x);
  book(Op::cast, false, x.dtype, 0, bytes_of({y, x}));
}

void Backend::fill(Tensor y, double value) {
  const Contract c(Op::fill, computes(), has_f64());
  const DType t = y.dtype == DType::i32 ? y.dtype : c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  do_fill(y, value);
  book(Op::fill, false, t, 0, y.bytes());
}

void Backend::sum(Tensor out, Tensor x) {
  const Contract c(Op::sum, computes(), has_f64());
  const DType t = c.float_type({"x", x});
  c.is({"x", x}, t, x.shape);
  c.is({"out", out}, out.dtype == DType::f64 ? DType::f64 : statistics_of(t), {1});
  c.no_alias({"out", out}, {{"x", x}});
  do_sum(out, x);
  book(Op::sum, false, t, count(x.elements()), bytes_of({out, x}));
}

void Backend::sum_squares(Tensor out, Tensor x) {
  const Contract c(Op::sum_squares, computes(), has_f64());
  const DType t = c.float_type({"x", x});
  c.is({"x", x}, t, x.shape);
  c.is({"out", out}, out.dtype == DType::f64 ? DType::f64 : statistics_of(t), {1});
  c.no_alias({"out", out}, {{"x", x}});
  do_sum_squares(out, x);
  book(Op::sum_squares, false, t, 2 * count(x.elements()), bytes_of({out, x}));
}

void Backend::add_statistics(Tensor y, Tensor a, Tensor b) {
  const Contract c(Op::add_statistics, computes(), has_f64());
  c.is({"a", a}, DType::f64, a.shape);
  c.is({"y", y}, DType::f64, a.shape);
  c.may_be({"y", y}, {"a", a});
  if (b.defined()) {
    c.is({"b", b}, DType::f64, a.shape);
    c.may_be({"y", y}, {"b", b});
  }
  do_add_statistics(y, a, b);
  book(Op::add_statistics, false, DType::f64, b.defined() ? count(a.elements()) : 0,
       bytes_of({y, a, b}));
}

void Backend::clip_factor(Tensor factor, Tensor sum_squares, double max_norm) {
  const Contract c(Op::clip_factor, computes(), has_f64());
  c.is({"factor", factor}, statistics_of(c.float_type({"factor", factor})), {1});
  c.is({"sum_squares", sum_squares}, DType::f64, {1});
  c.no_alias({"factor", factor}, {{"sum_squares", sum_squares}});
  c.require(max_norm > 0, fmt::format("max_norm is {}; it must be positive", max_norm));
  do_clip_factor(factor, sum_squares, max_norm);
  book(Op::clip_factor, false, DType::f64, 2, bytes_of({factor, sum_squares}));
}

namespace {

void check_adamw(const Contract& c, const Tensor& master, const Tensor& compute, const Tensor& m,
                 const Tensor& v, const Shape& v_shape, const Tensor& grad,
                 const Tensor& grad_scale, const AdamWParameters& p) {
  const DType t = c.float_type({"compute", compute});
  const DType s = statistics_of(t);
  const Shape n = master.shape;
  c.is({"master", master}, s, n);
  c.is({"compute", compute}, t, n);
  c.is({"m", m}, s, n);
  c.is({"v", v}, s, v_shape);
  c.is({"grad", grad}, s, n);
  c.is({"grad_scale", grad_scale}, s, {1});
  c.may_be({"compute", compute}, {"master", master});
  c.no_alias({"master", master}, {{"m", m}, {"v", v}, {"grad", grad}});
  c.no_alias({"m", m}, {{"v", v}, {"grad", grad}, {"compute", compute}});
  c.no_alias({"v", v}, {{"grad", grad}, {"compute", compute}});
  c.no_alias({"compute", compute}, {{"grad", grad}});
  c.require(p.step >= 1, fmt::format("step is {}, but counts from 1", p.step));
}

// With T == S the compute copy is the master itself.
uint64_t adamw_bytes(const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
                     const Tensor& grad, const Tensor& grad_scale) {
  return written(master, true) + written(m, true) + written(v, true) +
         bytes_of({grad, grad_scale}) + (compute.dtype == master.dtype ? 0 : compute.bytes());
}

}  // namespace

void Backend::adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                    Tensor grad_scale, const AdamWParameters& p) {
  const Contract c(Op::adamw, computes(), has_f64());
  check_adamw(c, master, compute, m, v, master.shape, grad, grad_scale, p);
  do_adamw(master, compute, m, v, grad, grad_scale, p);
  book(Op::adamw, false, compute.dtype, 17 * count(master.elements()),
       adamw_bytes(master, compute, m, v, grad, grad_scale));
}

void Backend::adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                         Tensor grad_scale, const AdamWParameters& p) {
  const Contract c(Op::adamw_rows, computes(), has_f64());
  c.rank({"master", master}, 2);
  check_adamw(c, master, compute, m, v, {master.size(0)}, grad, grad_scale, p);
  do_adamw_rows(master, compute, m, v, grad, grad_scale, p);
  // Per element: scaling, sum of squares, first moment, update; per row: second moment and its root.
  book(Op::adamw_rows, false, compute.dtype,
       12 * count(master.elements()) + 7 * count(master.size(0)),
       adamw_bytes(master, compute, m, v, grad, grad_scale));
}

void Backend::random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev) {
  const Contract c(Op::random_normal, computes(), has_f64());
  const DType t = c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  do_random_normal(y, rng, stream, stddev);
  book(Op::random_normal, false, t, 22 * count(y.elements()), y.bytes());
}

}  // namespace strait
