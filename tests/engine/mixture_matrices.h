// What the tests of mixtures of subspaces share beside mixture_support.h: small matrices, activations with known weights, a codec that notes
// what receivers see.
#pragma once

#include "tests/engine/mixture_support.h"

namespace strait::testing {

inline Matrix matrix(int64_t rows, int64_t columns, const Values& x) {
  Matrix m(rows, columns);
  m.x = x;
  return m;
}
inline Matrix identity(int64_t n) {
  Matrix m(n, n);
  for (int64_t i = 0; i < n; ++i) m(i, i) = 1;
  return m;
}
inline Matrix sum(const Matrix& a, const Matrix& b, double factor = 1) {
  Matrix y = a;
  for (size_t i = 0; i < y.x.size(); ++i) y.x[i] += factor * b.x[i];
  return y;
}
inline double largest(const Matrix& a) {
  double most = 0;
  for (double x : a.x) most = std::max(most, std::abs(x));
  return most;
}
inline double not_orthonormal(const Matrix& u) {
  return largest(sum(product(transposed(u), u), identity(u.columns), -1));
}

// Ubar (w,r) of side z and group g.
inline Matrix first_frame(const MixtureCase& c, const Named& frames, int z, int64_t g) {
  const Values& all = frames.at(z == 0 ? "k.frames" : "v.frames");
  const int64_t size = c.width() * c.rank(z),
                stride = static_cast<int64_t>(all.size()) / c.groups();
  return matrix(c.width(), c.rank(z), {all.begin() + g * stride, all.begin() + g * stride + size});
}

// What receivers make of payloads, by (shard, piece), and the angles in them.
struct Watched {
  std::mutex mutex;
  std::map<std::pair<int, int>, std::vector<std::pair<Values, Values>>> decoded;  // K, V
  std::vector<double> angles;
};
class Watch final : public WatchedCodec {
 public:
  Watch(std::unique_ptr<KeyValueCodec> inner, Watched& seen)
      : WatchedCodec(std::move(inner)), seen_(seen) {}
  KeyValue decode(Context& ctx, Frame& frame, const Tensors& payload,
                  const KeyValuePiece& piece) override {
    const KeyValue kv = WatchedCodec::decode(ctx, frame, payload, piece);
    const std::lock_guard lock(seen_.mutex);
    seen_.decoded[{piece.shard, piece.index}].push_back({values(kv.k), values(kv.v)});
    for (double angle : values(payload[2])) seen_.angles.push_back(angle);
    return kv;
  }

 private:
  Watched& seen_;
};
inline void watch(MixtureCase& c, Watched& seen) {
  c.watch = [&seen](std::unique_ptr<KeyValueCodec> codec, int) {
    return std::make_unique<Watch>(std::move(codec), seen);
  };
}

// Keys and values X W of activations X (B,n,C), rounded to `stored`, with the rows of a stacked projection (in code W is (out, in)).
struct Projected {
  Values x;
  ContextInputs in;
};
inline Projected projected(const MixtureCase& c, const Values& qkv, DType stored = DType::f64) {
  Projected p{normal_values(static_cast<size_t>(c.sequences * c.tokens * c.columns), 31, 1),
              context_inputs(c, c.dtype)};
  for (double& x : p.x) x = rounded_to(x, stored);
  const int64_t width = int64_t{c.kv_heads} * c.head_width, first = int64_t{c.heads} * c.head_width;
  for (int z = 0; z < 2; ++z)
    for (int64_t t = 0; t < c.sequences * c.tokens; ++t)
      for (int64_t i = 0; i < width; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < c.columns; ++j)
          sum += p.x[static_cast<size_t>(t * c.columns + j)] *
                 qkv[static_cast<size_t>((first + z * width + i) * c.columns + j)];
        (z == 0 ? p.in.k : p.in.v)[static_cast<size_t>(t * width + i)] = sum;
      }
  return p;
}
inline Values random_qkv(const MixtureCase& c) {
  return normal_values(static_cast<size_t>(c.qkv_rows() * c.columns), 5, 0.5);
}

}  // namespace strait::testing
