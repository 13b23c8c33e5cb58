// The op list. This header is the specification of every op: shapes, dtypes, aliasing, determinism, cost.
//
// The public functions are not virtual: they check the contract, book the cost, and call the backend's do_… function, so
// that every backend is held to the same contract and no FLOP goes uncounted. Backends: reference (fp64 loops: documentation
// and oracle), cpu, cuda, meta (computes nothing).
//
// Conventions
//   * Outputs first, then inputs, then sizes and scalars. Outputs never alias inputs unless an op says "may alias".
//   * A "float" tensor is f32 or bf16 (reference: also f64). All float operands of one op share one dtype T unless said
//     otherwise; S = statistics_of(T) is f32 (f64 under f64). Arithmetic inside an op is in S (GEMM: accumulation in S).
//   * Tensors are contiguous unless an op says "rows may be strided" (all but the last dimension, for attention and rope
//     all but the last two).
//   * `accumulate` adds to the output instead of overwriting it. Ops without it overwrite; gradients of parameters always
//     accumulate (…_backward: "dw +=").
//   * N = B*T rows (tokens). No op allocates; an op's own scratch belongs to the backend and has a fixed size per shape.
//   * Determinism: same inputs, same bits, on any number of threads. Row-local ops do not depend on other rows
//     (docs/determinism.md lists each op).
//   * An instance is used by one thread at a time; instances are independent.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/rng.h"
#include "kernels/tensor.h"

namespace strait {

enum class Op : uint8_t {
  matmul,
  rmsnorm_forward,
  rmsnorm_backward,
  add_rmsnorm_forward,
  rope,
  swiglu_forward,
  swiglu_backward,
  activation_forward,
  activation_backward,
  attention_forward,
  attention_merge,
  attention_delta,
  attention_backward,
  gather_rows,
  scatter_add_rows,
  add_gathered_rows,
  cross_entropy,
  add,
  axpy,
  scale,
  combine,
  normalise,
  cast,
  fill,
  sum,
  sum_squares,
  add_statistics,
  clip_factor,
  adamw,
  adamw_rows,
  momentum,
  random_normal,
  put_rows,
  vq_encode,
  vq_decode,
  vq_statistics,
  vq_update,
  vq_centroids,
  pack_bits,
  unpack_bits,
  quantize_rows,
  dequantize_rows,
  topk_rows,
  gather_entries,
  scatter_entries,
  column_sum_squares,
  pack_columns,
  unpack_columns,
  inverse_cholesky,
  bound_forward,
  bound_backward,
  rotation_coefficients,
  dot_rows,
  count_
};
const char* name_of(Op op);

// What an op costs: multiply and add are one FLOP each; `bytes` are those read and written once, in device memory.
struct OpCost {
  Op op = Op::matmul;
  bool matrix = false;  // worked off by matrix units
  bool bf16 = false;    // operands are bf16
  uint64_t flops = 0;
  uint64_t bytes = 0;
};

// Which pairs of query and key may meet, by global positions, so that a shard of a sequence needs no other kernel
// (specs/context_parallelism.md 3.1): allowed = (!causal || k_position <= q_position) && (q_document == k_document).
struct AttentionMask {
  Tensor q_position;  // (Tq) i32
  Tensor k_position;  // (Tk) i32
  Tensor q_document;  // (B, Tq) i32 or undefined: no document mask
  Tensor k_document;  // (B, Tk) i32 or undefined; defined together with q_document
  bool causal = true;
};

enum class Activation : uint8_t { silu, relu, gelu };

// How a number is kept within a limit c: max(-c, min(x, c)), or c tanh(x / c).
enum class Bound : uint8_t { hard, tanh };

// Functions f_j of an angle a by which a rotation is a sum of fixed matrices M_j, R(a) = sum_j f_j(a) M_j:
//   powers   f_j = a^j                             a power series: M_j = A^j / j! of exp(a A)
//   plane    f = (1, sin a, 1 - cos a), J = 3      M = (I, A, A^2) of the rotation by a in one plane, A = u v^T - v u^T
enum class RotationSeries : uint8_t { powers, plane };

// What a number becomes, and the largest code L of its scale: int8 in [-127, 127], int4 in [-7, 7], FP8 E4M3 in [-448, 448].
enum class Quantization : uint8_t { int8, int4, fp8 };

// How a code is chosen: the nearest (ties to even), or one of the two beside it at random, so that its mean is the number.
struct Rounding {
  bool stochastic = false;
  Philox rng;
  uint64_t stream = 0;
};

struct AdamWParameters {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;  // 1-based, for the bias corrections
};

// Ops that were noted instead of done, and can be done any number of times by one call (Backend::begin_noting()).
class OpSequence {
 public:
  virtual ~OpSequence() = default;
  std::vector<OpCost> costs;
};

// Memory of a device. The base of every owning object above this layer.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 protected:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

class Backend {
 public:
  virtual ~Backend();

  // ---- memory --------------------------------------------------------------------------------------------------
  virtual const char* name() const = 0;     // "cpu", "cuda", "reference", "meta"
  virtual std::string device_name() const;  // of the processor or the card, as its maker calls it
  virtual bool host_memory() const = 0;     // device memory can be read by the host
  virtual std::unique_ptr<DeviceMemory> allocate(
      size_t bytes) = 0;  // zeroed, 256-byte aligned; throws std::bad_alloc
  virtual void upload(const Tensor& device,
                      const void* host) = 0;                    // contiguous; device.bytes() bytes
  virtual void download(void* host, const Tensor& device) = 0;  // contiguous; waits for the device
  virtual void synchronize() = 0;
  // Bytes that allocate() could still give: what the host's system says, or the device's; the largest number where nobody
  // says.
  virtual uint64_t available_memory() const;

  // ---- time ----------------------------------------------------------------------------------------------------
  // The moment at which the work asked for so far is done, on the clock of what does it: the calling thread's processor time
  // (so that other ranks on the same core do not count; ops on several threads are undercounted), or the device's.
  virtual int64_t mark();
  // Between two marks, in nanoseconds; 0 on a backend that computes nothing. Waits until the second is reached.
  virtual int64_t nanoseconds_between(int64_t first, int64_t second);
  virtual void forget_marks() {}

  // ---- repetition ----------------------------------------------------------------------------------------------
  // Where notes_ops(), ops between begin_noting() and end_noting() are not done: perform() does them all, on the same memory and
  // with the same scalars, for less than asking for each costs (a CUDA graph). Every op must have run once on these shapes before; no
  // upload, download or allocation in between. abandon_noting() forgets them. perform() books the ops' costs.
  virtual bool notes_ops() const { return false; }
  void begin_noting();
  std::unique_ptr<OpSequence> end_noting();
  void abandon_noting();
  void perform(OpSequence& sequence);

  // Every op from now on is booked here (null: nowhere). Not owned.
  void set_cost_sink(std::vector<OpCost>* sink) { sink_ = sink; }

  // ---- matrix product --------------------------------------------------------------------------------------------
  // y (M,N) = op(a) op(b) [+ y]; op(a) is a (M,K) or, with transpose_a, a (K,M) read as its transpose; b likewise.
  // a, b: float of one dtype T; y: T or S. Rows of all three may be strided. Accumulation in S.
  // 2*M*N*K FLOPs. A row of y depends on that row of op(a) only, bit for bit (cpu: relied on by the tests of section 9.5).
  void matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b, bool accumulate);

  // ---- normalisation ---------------------------------------------------------------------------------------------
  // rstd[n] = 1/sqrt(mean_c x[n,c]^2 + eps);  y = x * rstd * w.  y, x (N,C) T; rstd (N) S; w (C) T.
  void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps);
  // sum = x + delta (rounded to T), then as above on sum.  sum, y, x, delta (N,C) T. sum may alias x or delta.
  void add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta, Tensor w,
                           double eps);
  // dx (N,C) T [+]= gradient of x; dw (C) S += gradient of w.  dy, x (N,C) T; w (C) T; rstd (N) S.
  // with xh = x*rstd: dx = rstd * (dy*w - xh * mean_c(dy*w*xh)); dw = sum_n dy*xh, rows in fixed chunks of 64, combined in order.
  void rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd,
                        bool accumulate_dx);

  // ---- rotary position embedding ---------------------------------------------------------------------------------
  // Rotates halves (Hugging Face): for i < Dh/2, angle a = position * theta^(-2i/Dh), table row = (cos a, sin a):
  // (x_i, x_{i+Dh/2}) <- (x_i cos - x_{i+Dh/2} sin, x_{i+Dh/2} cos + x_i sin); `inverse` rotates by -a (the backward).
  // In place. x (B,T,H,Dh) T, strided in all but the last two; table (P, Dh) S: cos in columns [0,Dh/2), sin behind;
  // positions (T) i32, each in [0,P).
  void rope(Tensor x, Tensor table, Tensor positions, bool inverse);

  // ---- SwiGLU ----------------------------------------------------------------------------------------------------
  // y (N,F) = silu(g) * u with gate_up (N,2F) = [g | u]; silu(g) = g / (1 + exp(-g)).
  void swiglu_forward(Tensor y, Tensor gate_up);
  // dgate_up (N,2F); may alias gate_up.
  void swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up);

  // ---- activation ------------------------------------------------------------------------------------------------
  // y = x s(x) (SiLU), max(x, 0) (ReLU) or x s(2 sqrt(2/pi) (x + 0.044715 x^3)) (GELU, tanh form), s the logistic function; T,
  // contiguous; y may alias x.
  void activation_forward(Tensor y, Tensor x, Activation activation);
  // dx = dy * its derivative at x (ReLU: 0 at 0); dx may alias dy.
  void activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation);

  // ---- attention -------------------------------------------------------------------------------------------------
  // Block-wise with online softmax; never a Tq x Tk matrix in memory. Grouped queries: query head h reads KV head h/(H/Hkv).
  // o (B,Tq,H,Dh) T or S; lse (B,H,Tq) S, natural logarithm, -inf for a row without allowed keys (its o is 0);
  // q (B,Tq,H,Dh), k, v (B,Tk,Hkv,Dh) T; strided in all but the last two. specs/context_parallelism.md 3.1.
  // 4*B*H*Dh FLOPs an allowed pair (counted for full rows: Tq*Tk, halved when causal and Tq == Tk).
  void attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                         const AttentionMask& mask, double scale);
  // Joins the attention of the same queries to two blocks of keys (specs/context_parallelism.md 3.2 (a)), in place, in S:
  //   w = 1 / (1 + exp(lse - lse_block));  o += w (o_block - o);  lse = max(lse, lse_block) + log1p(exp(-|lse - lse_block|))
  // A row whose lse_block is -inf (no key allowed) stays as it is, bit for bit; where lse is -inf the row becomes that of the block.
  // o (B,Tq,H,Dh), lse, lse_block (B,H,Tq) S; o_block (B,Tq,H,Dh) T or S; o and o_block strided in all but the last two.
  // 3 FLOPs an element, 6 a row. Row-local.
  void attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block);
  // delta (B,H,Tq) S = sum_d dout * o.  dout, o (B,Tq,H,Dh) T, strided in all but the last two.
  void attention_delta(Tensor delta, Tensor dout, Tensor o);
  // Gradients from the final lse and delta (specs/context_parallelism.md 3.3), so that KV blocks are independent.
  // dq (B,Tq,H,Dh), dk, dv (B,Tk,Hkv,Dh): T or S, [+]=; strided like q, k, v. dk, dv are summed over the query heads of a KV head
  // in head order. Two passes, no atomics.
  void attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q, Tensor k,
                          Tensor v, Tensor lse, Tensor delta, const AttentionMask& mask,
                          double scale, bool accumulate);

  // ---- rows ------------------------------------------------------------------------------------------------------
  // y[n] = table[ids[n]].  y (N,C), table (V,C) one dtype; ids (N) i32 in [0,V).
  void gather_rows(Tensor y, Tensor table, Tensor ids);
  // dtable[ids[n]] += dy[n], n in ascending order for each row.  dtable (V,C) S; dy (N,C) T; ids (N) i32.
  void scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids);
  // y[n] = x[n] + alpha * table[ids[n]].  y, x (N,C), each T or S; table (V,C) T or S; y may alias x. Rows of y and x may be strided.
  void add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha);

  // table[ids[n]] = x[n].  table (V,C), x (N,C), each T or S; ids (N) i32 in [0,V), no two alike.
  void put_rows(Tensor table, Tensor x, Tensor ids);

  // ---- loss ------------------------------------------------------------------------------------------------------
  // loss[n] = lse(logits[n]) - logits[n, target], 0 where target < 0 (ignored).  If `gradient`, logits is overwritten by
  // scale * (softmax - onehot), 0 for ignored rows.  loss (N) S; logits (N,V) T; targets (N) i32 in [-1,V).
  void cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale, bool gradient);

  // ---- element-wise ----------------------------------------------------------------------------------------------
  void add(Tensor y, Tensor a, Tensor b);  // y = a + b; T each; may alias
  // y += alpha * x; float each, dtypes may differ; may not alias.
  void axpy(Tensor y, double alpha, Tensor x);
  void scale(Tensor y, double alpha);  // y *= alpha
  // y = alpha * x + beta * z, or alpha * x where z is undefined; in S, rounded once. y, x one float dtype, z any; y may alias x or z.
  void combine(Tensor y, double alpha, Tensor x, double beta, Tensor z);
  // y = x / (factor * sqrt(sum_squares) + eps), the divisor computed in f64 and rounded to S; 0 where the divisor is 0. y, x T, y may
  // alias x; sum_squares (1) f64 on every backend, on the device (no host synchronisation).
  void normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps);
  // y = x with rounding to nearest even; any float dtypes, same dtype: copy; also any float <-> f16, and i32 <-> u16 and i32 -> i32 (token ids on
  // the wire; values in [0, 65536) for u16). Rows may be strided.
  void cast(Tensor y, Tensor x);
  void fill(Tensor y, double value);  // float or i32

  // ---- reductions ------------------------------------------------------------------------------------------------
  // out (1) S or f64. Blocks of 4096 elements summed in S, lanes in fixed order, blocks combined in order in f64.
  void sum(Tensor out, Tensor x);
  void sum_squares(Tensor out, Tensor x);

  // y = a + b, or y = a where b is undefined; (n) f64 each on every backend, may alias. For what ranks tell each other.
  void add_statistics(Tensor y, Tensor a, Tensor b);

  // ---- optimizer -------------------------------------------------------------------------------------------------
  // factor (1) S = min(1, max_norm / sqrt(sum_squares)), computed in f64; sum_squares (1) f64 on every backend. NaN gives 1.
  void clip_factor(Tensor factor, Tensor sum_squares, double max_norm);
  // Decoupled AdamW (Loshchilov & Hutter 2019) over flat buffers of n elements, in S:
  //   g = grad * grad_scale[0]; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
  //   p = p - lr * (m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + wd * p);  compute = round_T(p)
  // master, m, v, grad (n) S; compute (n) T (may be the same memory as master when T == S); grad_scale (1) S on the device
  // (the clip factor: no host synchronisation).
  void adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad, Tensor grad_scale,
             const AdamWParameters& p);
  // The same over a matrix of R rows of C with one second moment a row, so that an update is a diagonal matrix times m and rows stay
  // in the subspace that m's rows lie in (specs/subspace_models.md 4.1): v[r] = b2 v[r] + (1-b2) mean_c g[r,c]^2.
  // master, m, grad (R,C) S; compute (R,C) T, as above; v (R) S. The mean: lanes of a row in fixed order.
  void adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad, Tensor grad_scale,
                  const AdamWParameters& p);
  // An exponential mean of gradients and what an optimizer makes its step of, in S:
  //   g = grad * grad_scale[0]; m = beta m + (1-beta) g; update = round_T(nesterov ? beta m + (1-beta) g : m)
  // update (n) T; m, grad S of the same shape; grad_scale (1) S. update may alias grad where T == S.
  void momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta,
                bool nesterov);

  // ---- vector quantisation ----------------------------------------------------------------------------------------
  // A codebook (K,r) S holds K codes for each of G groups of s = r/G columns: code k of group g is columns [g s, (g+1) s) of row k
  // (specs/mapl.md 2.3). index (N,G) u16.
  // index[n,g] = argmin_k sum_c (z[n,c] - codebook[k,c])^2 over the group's columns, the lowest k where equal; the sum in S, column by
  // column.  z (N,r) S.
  void vq_encode(Tensor index, Tensor z, Tensor codebook);
  // y[n,c] += alpha * codebook[index[n, c/s], c].  y (N,r) S.
  void vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha);
  // count[k,g] = how many n have index[n,g] = k; sum[k,c] = the sum of z[n,c] over them, n in ascending order.  count (K,G), sum (K,r),
  // z (N,r) S.
  void vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index);
  // count = decay count + (1 - decay) batch_count, sum likewise; a code whose count is then below `threshold` begins anew: count = 1,
  // sum = donors.  count, batch_count (K,G), sum, batch_sum, donors (K,r) S.
  void vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum, Tensor donors,
                 double decay, double threshold);
  // y[i,c] = sum[rows[i],c] / count[rows[i], c/s].  y (n,r), sum (K,r), count (K,G) S; rows (n) i32 in [0,K).
  void vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows);
  // The lowest `bits` (1 to 16) bits of each value behind one another, the lowest first, in bytes filled from their lowest bit; the last
  // byte is filled up with zeros.  bytes (ceil(n bits / 8)) u8; values (n) u16, contiguous of any rank, below 2^bits.
  void pack_bits(Tensor bytes, Tensor values, int bits);
  void unpack_bits(Tensor values, Tensor bytes, int bits);

  // ---- random ----------------------------------------------------------------------------------------------------
  // y[i] = stddev * normal_at(rng, stream, i), rounded to y's dtype. Same bits on every backend that computes.
  void random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev);

  // ---- codec -----------------------------------------------------------------------------------------------------
  // Codes and scales of every `group` neighbours of a row (the last group may be shorter):
  //   scale = max|x| / L, rounded up to bf16;  v = x / scale in [-L, L];  q = round(v)
  // int8: two's complement, q (N,C) u8. int4: two's complement, q (N, ceil(C/2)) u8, the even column in the low half; group even or C. fp8: q (N,C)
  // f8_e4m3, nearest only. Stochastic: floor(v) + (u < v - floor(v)) with u = 2^-24 (w >> 8), w word i % 4 of rng(stream, i / 4), i = n C + c.
  // A group of zeros has scale 0; one with a NaN or infinity has scale NaN and codes 0. All in f32, every operation rounded once, so the same
  // bits on every backend.  scale (N, ceil(C/group)) bf16; x (N,C) T (f64: rounded to f32 first).
  void quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                     const Rounding& rounding);
  // x = q * scale in f32, rounded to T. As above.
  void dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind, int64_t group);
  // Of each row the k entries of largest magnitude (NaN is larger than all; of equal ones the first), in ascending columns.
  // values (N,k) float, rounded from x; indices (N,k) u16 (C <= 65536) or u8 (C <= 256); x (N,C) T; 1 <= k <= C.
  void topk_rows(Tensor values, Tensor indices, Tensor x);
  // values[n,i] = x[n, indices[n,i]], rounded.  values (N,k) float; x (N,C) T; indices (N,k) or, for all rows alike, (1,k), u16 or u8, each
  // below C (checked).
  void gather_entries(Tensor values, Tensor x, Tensor indices);
  // x = 0 but for x[n, indices[n,i]] = values[n,i], rounded. As above; the indices of a row differ.
  void scatter_entries(Tensor x, Tensor values, Tensor indices);
  // sums[c] = sum_n x[n,c]^2.  sums (C) S; x (N,C) T. Rows in an order that the shape alone fixes.
  void column_sum_squares(Tensor sums, Tensor x);
  // bits (ceil(C/8)) u8: bit c % 8 of byte c / 8 is set for every c of `columns` (1,k) u16 or u8, which ascend; k <= 8 ceil(C/8).
  void pack_columns(Tensor bits, Tensor columns);
  // The other way: exactly k bits are set (fewer leave 0 behind, more are left out).
  void unpack_columns(Tensor columns, Tensor bits);
  // W with gram = R^T R, R upper triangular, W = R^-1, so that P W is orthonormal where gram = P^T P (Cholesky QR). A column whose pivot is not above
  // 1e-6 (f64: 1e-13) of its diagonal entry is 0 in W and left out of the others.  Both (r,r) S, computed in f64; r^3 / 2 FLOPs.
  void inverse_cholesky(Tensor inverse, Tensor gram);

  // ---- angles ------------------------------------------------------------------------------------------------------
  // y = x within [-limit, limit], limit > 0; contiguous, T; y may alias x.
  void bound_forward(Tensor y, Tensor x, Bound bound, double limit);
  // dx = dy times the derivative at x: 1 where |x| < limit, else 0; or 1 - tanh(x / limit)^2. dx may alias dy.
  void bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit);
  // f[n,j] = f_j(angle[n]), or its derivative.  f (N,J), angle (N) S.
  void rotation_coefficients(Tensor f, Tensor angle, RotationSeries series, bool derivative);
  // y[n] [+]= sum_c a[n,c] b[n,c].  y (N) S; a, b (N,C), each T or S. Blocks of 4096 columns summed in S, lanes in fixed order, blocks
  // combined in order in f64.
  void dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate);

 protected:
  virtual bool computes() const { return true; }  // false: operands may have null data (meta)
  virtual bool has_f64() const { return false; }  // true: every op also takes f64 (reference, meta)

  // Only where notes_ops().
  virtual void do_begin_noting() {}
  virtual std::unique_ptr<OpSequence> do_end_noting() { return nullptr; }
  virtual void do_perform(OpSequence&) {}

  virtual void do_matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                         bool accumulate) = 0;
  virtual void do_rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) = 0;
  virtual void do_add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta,
                                      Tensor w, double eps) = 0;
  virtual void do_rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd,
                                   bool accumulate_dx) = 0;
  virtual void do_rope(Tensor x, Tensor table, Tensor positions, bool inverse) = 0;
  virtual void do_swiglu_forward(Tensor y, Tensor gate_up) = 0;
  virtual void do_swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) = 0;
  virtual void do_activation_forward(Tensor y, Tensor x, Activation activation) = 0;
  virtual void do_activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation) = 0;
  virtual void do_attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                                    const AttentionMask& mask, double scale) = 0;
  virtual void do_attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block) = 0;
  virtual void do_attention_delta(Tensor delta, Tensor dout, Tensor o) = 0;
  virtual void do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,
                                     Tensor k, Tensor v, Tensor lse, Tensor delta,
                                     const AttentionMask& mask, double scale, bool accumulate) = 0;
  virtual void do_gather_rows(Tensor y, Tensor table, Tensor ids) = 0;
  virtual void do_scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids) = 0;
  virtual void do_add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha) = 0;
  virtual void do_put_rows(Tensor table, Tensor x, Tensor ids) = 0;
  virtual void do_cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale,
                                bool gradient) = 0;
  virtual void do_add(Tensor y, Tensor a, Tensor b) = 0;
  virtual void do_axpy(Tensor y, double alpha, Tensor x) = 0;
  virtual void do_scale(Tensor y, double alpha) = 0;
  virtual void do_combine(Tensor y, double alpha, Tensor x, double beta, Tensor z) = 0;
  virtual void do_normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps) = 0;
  virtual void do_cast(Tensor y, Tensor x) = 0;
  virtual void do_fill(Tensor y, double value) = 0;
  virtual void do_sum(Tensor out, Tensor x) = 0;
  virtual void do_sum_squares(Tensor out, Tensor x) = 0;
  virtual void do_add_statistics(Tensor y, Tensor a, Tensor b) = 0;
  virtual void do_clip_factor(Tensor factor, Tensor sum_squares, double max_norm) = 0;
  virtual void do_adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                        Tensor grad_scale, const AdamWParameters& p) = 0;
  virtual void do_adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                             Tensor grad_scale, const AdamWParameters& p) = 0;
  virtual void do_vq_encode(Tensor index, Tensor z, Tensor codebook) = 0;
  virtual void do_vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha) = 0;
  virtual void do_vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index) = 0;
  virtual void do_vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum,
                            Tensor donors, double decay, double threshold) = 0;
  virtual void do_vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows) = 0;
  virtual void do_pack_bits(Tensor bytes, Tensor values, int bits) = 0;
  virtual void do_unpack_bits(Tensor values, Tensor bytes, int bits) = 0;
  virtual void do_momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta,
                           bool nesterov) = 0;
  virtual void do_random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev) = 0;
  virtual void do_quantize_rows(Tensor q, Tensor scale, Tensor x, Quantization kind, int64_t group,
                                const Rounding& rounding) = 0;
  virtual void do_dequantize_rows(Tensor x, Tensor q, Tensor scale, Quantization kind,
                                  int64_t group) = 0;
  virtual void do_topk_rows(Tensor values, Tensor indices, Tensor x) = 0;
  virtual void do_gather_entries(Tensor values, Tensor x, Tensor indices) = 0;
  virtual void do_scatter_entries(Tensor x, Tensor values, Tensor indices) = 0;
  virtual void do_column_sum_squares(Tensor sums, Tensor x) = 0;
  virtual void do_pack_columns(Tensor bits, Tensor columns) = 0;
  virtual void do_unpack_columns(Tensor columns, Tensor bits) = 0;
  virtual void do_inverse_cholesky(Tensor inverse, Tensor gram) = 0;
  virtual void do_bound_forward(Tensor y, Tensor x, Bound bound, double limit) = 0;
  virtual void do_bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit) = 0;
  virtual void do_rotation_coefficients(Tensor f, Tensor angle, RotationSeries series,
                                        bool derivative) = 0;
  virtual void do_dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate) = 0;

 private:
  void book(Op op, bool matrix, DType dtype, uint64_t flops, uint64_t bytes);
  std::vector<OpCost>* sink_ = nullptr;
  std::vector<OpCost> noted_;                 // costs of the ops that are being noted
  std::vector<OpCost>* performed_ = nullptr;  // the sink while noting
};

// `threads`: OpenMP threads inside one op (1 when every rank has a thread of its own).
std::unique_ptr<Backend> make_cpu_backend(int threads);
std::unique_ptr<Backend> make_reference_backend();
std::unique_ptr<Backend> make_meta_backend();
// Null where CUDA was not compiled in or no device is there; `reason` then says which.
std::unique_ptr<Backend> make_cuda_backend(std::string* reason);

}  // namespace strait
