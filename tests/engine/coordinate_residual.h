// Variant D of specs/subspace_models.md 2.3, written down once more and independently of the engine's blocks: the stages but
// the last carry c (N,k) as their residual stream, and x = T_fixed + c U^T is rebuilt in front of every norm. Plain loops.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "engine/codec/subspace.h"
#include "tests/engine/pipeline.h"

namespace strait::testing {

using Matrix = std::vector<std::vector<double>>;

inline Matrix matrix(const Tensor& t) {
  Matrix m(static_cast<size_t>(t.size(0)), std::vector<double>(static_cast<size_t>(t.size(1))));
  for (size_t i = 0; i < m.size(); ++i) {
    for (size_t j = 0; j < m[i].size(); ++j)
      m[i][j] = at(t, static_cast<int64_t>(i * m[i].size() + j));
  }
  return m;
}

// a (n,p) times b (p,m), or b (m,p) transposed.
inline Matrix product(const Matrix& a, const Matrix& b, bool transpose_b) {
  const size_t m = transpose_b ? b.size() : b[0].size();
  Matrix y(a.size(), std::vector<double>(m, 0.0));
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < m; ++j) {
      for (size_t p = 0; p < a[i].size(); ++p)
        y[i][j] += a[i][p] * (transpose_b ? b[j][p] : b[p][j]);
    }
  }
  return y;
}

inline void add_to(Matrix& a, const Matrix& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < a[i].size(); ++j) a[i][j] += b[i][j];
  }
}

inline Matrix rmsnorm(const Matrix& x, const Tensor& gain, double eps) {
  Matrix y = x;
  for (auto& row : y) {
    double squares = 0;
    for (double v : row) squares += v * v;
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(row.size()) + eps);
    for (size_t c = 0; c < row.size(); ++c) row[c] *= rstd * at(gain, static_cast<int64_t>(c));
  }
  return y;
}

// softmax(rope(q) rope(k)^T) v over packed rows [q | k | v] of sequences of T tokens: (N, H Dh).
inline Matrix causal_attention(Matrix qkv, const ModelShape& s) {
  const auto h = static_cast<size_t>(s.heads), kv = static_cast<size_t>(s.kv_heads),
             dh = static_cast<size_t>(s.head_width), t = static_cast<size_t>(s.context);
  for (size_t n = 0; n < qkv.size(); ++n) {
    for (size_t head = 0; head < h + kv; ++head) {
      for (size_t i = 0; i < dh / 2; ++i) {
        const double a = static_cast<double>(n % t) *
                         std::pow(s.rope_theta, -2.0 * static_cast<double>(i) / s.head_width);
        double &x = qkv[n][head * dh + i], &y = qkv[n][head * dh + i + dh / 2];
        const double rx = x * std::cos(a) - y * std::sin(a), ry = y * std::cos(a) + x * std::sin(a);
        x = rx;
        y = ry;
      }
    }
  }
  Matrix o(qkv.size(), std::vector<double>(h * dh, 0.0));
  for (size_t n = 0; n < qkv.size(); ++n) {
    for (size_t head = 0; head < h; ++head) {
      const size_t k0 = (h + head / (h / kv)) * dh, v0 = k0 + kv * dh, first = n - n % t;
      std::vector<double> p;
      double sum = 0;
      for (size_t j = first; j <= n; ++j) {
        double dot = 0;
        for (size_t i = 0; i < dh; ++i) dot += qkv[n][head * dh + i] * qkv[j][k0 + i];
        p.push_back(std::exp(dot / std::sqrt(static_cast<double>(dh))));
        sum += p.back();
      }
      for (size_t j = first; j <= n; ++j) {
        for (size_t i = 0; i < dh; ++i) o[n][head * dh + i] += p[j - first] / sum * qkv[j][v0 + i];
      }
    }
  }
  return o;
}

inline Matrix swiglu(const Matrix& gate_up) {
  const size_t f = gate_up[0].size() / 2;
  Matrix y(gate_up.size(), std::vector<double>(f));
  for (size_t n = 0; n < y.size(); ++n) {
    for (size_t i = 0; i < f; ++i)
      y[n][i] = gate_up[n][i] / (1 + std::exp(-gate_up[n][i])) * gate_up[n][f + i];
  }
  return y;
}

// The mean loss of sequences [0, sequences) under the parameters of `p` (method subspace, double precision).
inline double coordinate_residual_loss(Pipeline& p, int64_t sequences) {
  const TrainingConfig& config = p.config();
  const ModelShape& s = config.shape;
  const Matrix u =
      matrix(subspace_basis(p.list(0), s, *config.method.rank, config.method.basis_seed)->value);
  const Matrix table = matrix(subspace_token_table(p.list(0), s, config.method.basis_seed)->value),
               e = matrix(p.find("model.embed_tokens.coordinates").value);
  std::vector<int32_t> ids(static_cast<size_t>(sequences * s.context)), targets(ids.size());
  for (int64_t b = 0; b < sequences; ++b)
    HashedTokens(s).training(b, ids.data() + b * s.context, targets.data() + b * s.context);
  Matrix fixed, c;
  for (int32_t id : ids) {
    fixed.push_back(table[static_cast<size_t>(id)]);
    c.push_back(e[static_cast<size_t>(id)]);
  }
  auto rebuilt = [&] {
    Matrix x = product(c, u, true);
    add_to(x, fixed);
    return x;
  };
  const int constrained =
      split_layers(s.layers, config.pipeline, config.layers_per_stage).back().first;
  Matrix x;
  for (int layer = 0; layer < s.layers; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    auto value = [&](const char* name) { return p.find(prefix + name).value; };
    const bool in_coordinates = layer < constrained;
    if (in_coordinates || layer == constrained) x = rebuilt();
    Matrix f = causal_attention(product(rmsnorm(x, value("input_layernorm.weight"), s.norm_eps),
                                        matrix(value("self_attn.qkv_proj.weight")), true),
                                s);
    if (in_coordinates) {
      add_to(c, product(f, matrix(value("self_attn.o_proj.coordinates")), false));
      x = rebuilt();
    } else {
      add_to(x, product(f, matrix(value("self_attn.o_proj.weight")), true));
    }
    f = swiglu(product(rmsnorm(x, value("post_attention_layernorm.weight"), s.norm_eps),
                       matrix(value("mlp.gate_up_proj.weight")), true));
    if (in_coordinates) {
      add_to(c, product(f, matrix(value("mlp.down_proj.coordinates")), false));
    } else {
      add_to(x, product(f, matrix(value("mlp.down_proj.weight")), true));
    }
  }
  const Matrix logits = product(rmsnorm(x, p.find("model.norm.weight").value, s.norm_eps),
                                matrix(p.find("lm_head.weight").value), true);
  double loss = 0;
  for (size_t n = 0; n < logits.size(); ++n) {
    double sum = 0;
    for (double z : logits[n]) sum += std::exp(z);
    loss += std::log(sum) - logits[n][static_cast<size_t>(targets[n])];
  }
  return loss / static_cast<double>(logits.size());
}

}  // namespace strait::testing
