// Attention of one (query block, key block) pair, head by head (specs/context_parallelism.md 3.1
// and 3.3) and the merge of two such blocks (3.2): S[u,v] = scale q_u . k_v where allowed, lse[u] = ln sum_v exp S[u,v], o_u = sum_v
// exp(S[u,v] - lse[u]) v_v; backward with P = exp(S - lse): dV += P^T dO, dS = P (dO V^T - delta),
// dQ += scale dS K, dK += scale dS^T Q.
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference.h"

namespace strait {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

bool allowed(const AttentionMask& mask, int64_t b, int64_t u, int64_t v) {
  if (mask.causal && get_id(mask.k_position, v) > get_id(mask.q_position, u)) return false;
  return !mask.q_document.defined() ||
         get_id(mask.q_document, b, u) == get_id(mask.k_document, b, v);
}

double dot(const Tensor& x, const Tensor& y, int64_t b, int64_t u, int64_t hx, int64_t v,
           int64_t hy) {
  double sum = 0;
  for (int64_t d = 0; d < x.size(3); ++d) sum += get(x, b, u, hx, d) * get(y, b, v, hy, d);
  return sum;
}

void store(const Tensor& t, const std::vector<double>& values, bool accumulate) {
  size_t i = 0;
  for (int64_t b = 0; b < t.size(0); ++b)
    for (int64_t u = 0; u < t.size(1); ++u)
      for (int64_t h = 0; h < t.size(2); ++h)
        for (int64_t d = 0; d < t.size(3); ++d)
          set(t, values[i++] + (accumulate ? get(t, b, u, h, d) : 0.0), b, u, h, d);
}

// The place of (b, u, h, 0) in a contiguous copy of `t`.
size_t row(const Tensor& t, int64_t b, int64_t u, int64_t h) {
  return static_cast<size_t>(((b * t.size(1) + u) * t.size(2) + h) * t.size(3));
}

}  // namespace

void ReferenceBackend::do_attention_forward(Tensor o, Tensor lse, Tensor q, Tensor k, Tensor v,
                                            const AttentionMask& mask, double scale) {
  const int64_t B = q.size(0), Tq = q.size(1), H = q.size(2), Dh = q.size(3), Tk = k.size(1),
                group = H / k.size(2);
  std::vector<double> score(static_cast<size_t>(Tk));
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t u = 0; u < Tq; ++u) {
        double largest = kMinusInfinity;
        for (int64_t j = 0; j < Tk; ++j) {
          score[static_cast<size_t>(j)] =
              allowed(mask, b, u, j) ? scale * dot(q, k, b, u, h, j, h / group) : kMinusInfinity;
          largest = std::max(largest, score[static_cast<size_t>(j)]);
        }
        double sum = 0;
        for (double& s : score) {
          s = largest == kMinusInfinity ? 0.0 : std::exp(s - largest);
          sum += s;
        }
        set(lse, largest == kMinusInfinity ? kMinusInfinity : largest + std::log(sum), b, h, u);
        for (int64_t d = 0; d < Dh; ++d) {
          double value = 0;
          for (int64_t j = 0; j < Tk; ++j)
            value += score[static_cast<size_t>(j)] * get(v, b, j, h / group, d);
          set(o, sum == 0.0 ? 0.0 : value / sum, b, u, h, d);
        }
      }
}

void ReferenceBackend::do_attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block) {
  for (int64_t b = 0; b < o.size(0); ++b)
    for (int64_t u = 0; u < o.size(1); ++u)
      for (int64_t h = 0; h < o.size(2); ++h) {
        const double mine = get(lse, b, h, u), other = get(lse_block, b, h, u);
        if (other == kMinusInfinity) continue;
        const double ratio = std::exp(-std::abs(other - mine));  // 0 where `mine` is -inf
        const double weight = (other >= mine ? 1.0 : ratio) / (1.0 + ratio);
        for (int64_t d = 0; d < o.size(3); ++d) {
          const double before = mine == kMinusInfinity ? 0.0 : get(o, b, u, h, d);
          set(o, before + weight * (get(o_block, b, u, h, d) - before), b, u, h, d);
        }
        set(lse, std::max(mine, other) + std::log1p(ratio), b, h, u);
      }
}

void ReferenceBackend::do_attention_delta(Tensor delta, Tensor dout, Tensor o) {
  for (int64_t b = 0; b < o.size(0); ++b)
    for (int64_t u = 0; u < o.size(1); ++u)
      for (int64_t h = 0; h < o.size(2); ++h) set(delta, dot(dout, o, b, u, h, u, h), b, h, u);
}

void ReferenceBackend::do_attention_backward(Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor q,
                                             Tensor k, Tensor v, Tensor lse, Tensor delta,
                                             const AttentionMask& mask, double scale,
                                             bool accumulate) {
  const int64_t B = q.size(0), Tq = q.size(1), H = q.size(2), Dh = q.size(3), Tk = k.size(1),
                group = H / k.size(2);
  std::vector<double> gq(static_cast<size_t>(q.elements())), gk(static_cast<size_t>(k.elements())),
      gv(gk.size());
  for (int64_t b = 0; b < B; ++b)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t u = 0; u < Tq; ++u)
        for (int64_t j = 0; j < Tk; ++j) {
          if (!allowed(mask, b, u, j)) continue;
          const int64_t hkv = h / group;
          const double p = std::exp(scale * dot(q, k, b, u, h, j, hkv) - get(lse, b, h, u));
          const double ds = p * (dot(dout, v, b, u, h, j, hkv) - get(delta, b, h, u));
          const size_t q_row = row(q, b, u, h), k_row = row(k, b, j, hkv);
          for (int64_t d = 0; d < Dh; ++d) {
            const auto i = static_cast<size_t>(d);
            gv[k_row + i] += p * get(dout, b, u, h, d);
            gq[q_row + i] += scale * ds * get(k, b, j, hkv, d);
            gk[k_row + i] += scale * ds * get(q, b, u, h, d);
          }
        }
  store(dq, gq, accumulate);
  store(dk, gk, accumulate);
  store(dv, gv, accumulate);
}

}  // namespace strait
