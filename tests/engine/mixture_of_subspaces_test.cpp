// Mixtures of subspaces: bases and rotations, lossless cases, bytes, causality, clipping, unplugging, the Stiefel mode
// (specs/mixture_of_subspaces.md 13, M1 to M7, M12 to M17, M19 to M21). Gradients: mixture_gradients_test.cpp.
#include <gmock/gmock.h>

#include "engine/manifold/principal.h"
#include "tests/engine/mixture_support.h"

namespace strait::testing {
namespace {

using record::MessageKind;

Matrix matrix(int64_t rows, int64_t columns, const Values& x) {
  Matrix m(rows, columns);
  m.x = x;
  return m;
}
Matrix identity(int64_t n) {
  Matrix m(n, n);
  for (int64_t i = 0; i < n; ++i) m(i, i) = 1;
  return m;
}
Matrix sum(const Matrix& a, const Matrix& b, double factor = 1) {
  Matrix y = a;
  for (size_t i = 0; i < y.x.size(); ++i) y.x[i] += factor * b.x[i];
  return y;
}
double largest(const Matrix& a) {
  double most = 0;
  for (double x : a.x) most = std::max(most, std::abs(x));
  return most;
}
double not_orthonormal(const Matrix& u) {
  return largest(sum(product(transposed(u), u), identity(u.columns), -1));
}

// Ubar (w,r) of side z and group g.
Matrix first_frame(const MixtureCase& c, const Named& frames, int z, int64_t g) {
  const Values& all = frames.at(z == 0 ? "k.frames" : "v.frames");
  const int64_t size = c.width() * c.rank(z),
                stride = static_cast<int64_t>(all.size()) / c.groups();
  return matrix(c.width(), c.rank(z), {all.begin() + g * stride, all.begin() + g * stride + size});
}

TEST(MixtureOfSubspaces, Invariant01_BasesAreOrthonormal) {
  for (const char* scope : {"layer", "per_head"})
    for (const char* source : {"weights", "random"})
      for (DType dtype : {DType::f64, DType::f32}) {
        MixtureCase c;
        c.dtype = dtype;
        c.mixture.scope = scope;
        c.mixture.basis_source = source;
        c.mixture.rank_v = 4;
        const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype), false);
        for (int z = 0; z < 2; ++z)
          for (int64_t g = 0; g < c.groups(); ++g)
            EXPECT_LE(not_orthonormal(first_frame(c, run.frames, z, g)),
                      dtype == DType::f64 ? 1e-13 : 1e-6);
      }
}

// The leading directions of a matrix whose decomposition is known, small (Jacobi) and large (subspace iteration).
TEST(PrincipalDirections, AreThoseOfTheLargestSingularValues) {
  for (int64_t w : {int64_t{12}, int64_t{150}}) {
    const int64_t r = 4, n = 40;
    Matrix left(w, n), right(n, n);
    left.x = normal_values(static_cast<size_t>(w * n), 1, 1);
    right.x = normal_values(static_cast<size_t>(n * n), 2, 1);
    if (w < n) left = polar_factor(left);
    const Matrix u = w < n ? left : polar_factor(left), v = polar_factor(right);
    Matrix scaled = u;
    for (int64_t i = 0; i < scaled.rows; ++i)
      for (int64_t j = 0; j < n; ++j)
        scaled(i, j) *= j < std::min(w, n) ? std::pow(0.7, static_cast<double>(j)) : 0.0;
    const Matrix a = product(scaled, v);
    const Values gram = gram_of_rows(a.x, w, n);
    EXPECT_LE(largest_difference(gram, product(a, transposed(a)).x), 1e-13);
    const Matrix p = matrix(w, r, principal_directions(gram, w, r));
    EXPECT_LE(not_orthonormal(p), 1e-13);
    // They are invariant: G P = P (P^T G P); and no others capture more: sum of the largest eigenvalues.
    const Matrix g = matrix(w, w, gram), gp = product(g, p), inside = product(transposed(p), gp);
    EXPECT_LE(largest(sum(gp, product(p, inside), -1)), 1e-7);
    Eigen e = symmetric_eigen(g);
    std::sort(e.values.rbegin(), e.values.rend());
    double captured = 0, most = 0;
    for (int64_t i = 0; i < r; ++i) {
      captured += inside(i, i);
      most += e.values[static_cast<size_t>(i)];
    }
    EXPECT_NEAR(captured, most, 1e-10);
  }
}

// More directions than the matrix has: the rest are any orthonormal ones.
TEST(PrincipalDirections, OfAMatrixWithoutEnough) {
  for (int64_t w : {int64_t{8}, int64_t{120}}) {
    Values a(static_cast<size_t>(w), 0.0);
    for (int64_t i = 0; i < w; ++i) a[static_cast<size_t>(i)] = static_cast<double>(i + 1);
    const Matrix p = matrix(w, 3, principal_directions(gram_of_rows(a, w, 1), w, 3));
    EXPECT_LE(not_orthonormal(p), 1e-13);
    const double scale = a.back() / p(w - 1, 0);
    for (int64_t i = 0; i < w; ++i) EXPECT_NEAR(p(i, 0) * scale, a[static_cast<size_t>(i)], 1e-9);
  }
  EXPECT_THROW(principal_directions({1}, 1, 2), std::invalid_argument);
}

TEST(RotationFamily, Invariant02_GeneratorsAreSkewAndHaveNormOne) {
  for (int64_t w : {int64_t{2}, int64_t{7}, int64_t{64}, int64_t{200}})
    for (const char* norm : {"frobenius", "spectral"}) {
      RotationFamily family;
      family.generator_norm = norm;
      const Matrix a = matrix(w, w, skew_generator(family, w, 3, 4));
      EXPECT_EQ(largest(sum(a, transposed(a))), 0);
      double square = 0;
      for (double x : a.x) square += x * x;
      if (family.generator_norm == "frobenius") {
        EXPECT_NEAR(std::sqrt(square), 1, 1e-12);
        continue;
      }
      const Eigen e = symmetric_eigen(product(transposed(a), a));
      EXPECT_NEAR(std::sqrt(*std::max_element(e.values.begin(), e.values.end())), 1, 1e-6);
    }
}

// U(theta) as an op makes it of the frames.
Matrix basis_at(const RotationFamily& family, const Values& frames, int64_t w, int64_t r,
                double theta) {
  const auto ops = make_reference_backend();
  TensorStore store(*ops);
  const int64_t terms = family.terms(DType::f64);
  const Tensor f = store.make({1, terms}, DType::f64), angle = store.make({1}, DType::f64),
               m = store.make({terms, w * r}, DType::f64), u = store.make({1, w * r}, DType::f64);
  set(angle, 0, theta);
  host_upload(*ops, m, frames);
  ops->rotation_coefficients(f, angle, family.series(), false);
  ops->matmul(u, f, false, m, false, false);
  return matrix(w, r, values(u));
}

// exp(theta A), by scaling and squaring of a series.
Matrix exponential(const Matrix& a, double theta) {
  Matrix x = a, power = identity(a.rows), y = power;
  for (double& v : x.x) v *= theta / 256;
  for (int j = 1; j < 20; ++j) {
    power = product(power, x);
    for (double& v : power.x) v /= j;
    y = sum(y, power);
  }
  for (int i = 0; i < 8; ++i) y = product(y, y);
  return y;
}

// The angle that a test looks at, and matrices of its size.
struct Rotated {
  RotationFamily family;
  Matrix a, ubar, u;
};
Rotated rotated(const std::string& rotation, const std::string& norm, double theta, int64_t w,
                int64_t r) {
  Rotated x{{rotation, norm, 0.5}, Matrix(w, w), Matrix(w, r), Matrix(w, r)};
  x.a.x = skew_generator(x.family, w, 3, 4);
  x.ubar.x = normal_values(static_cast<size_t>(w * r), 8, 1);
  x.ubar = polar_factor(x.ubar);
  x.u =
      basis_at(x.family, rotation_terms(x.family, x.ubar.x, w, r, x.family.terms(DType::f64), 3, 4),
               w, r, theta);
  return x;
}

TEST(RotationFamily, Invariant03_TaylorsErrorIsOfFourthOrderAndTheOthersAreOrthogonal) {
  const int64_t w = 20, r = 6;
  for (const char* norm : {"frobenius", "spectral"})
    for (double theta : {-0.5, 0.2, 0.5}) {
      const Rotated taylor = rotated("taylor2", norm, theta, w, r);
      const Matrix a2 = product(taylor.a, taylor.a), a4 = product(a2, a2);
      Matrix expected = product(transposed(taylor.ubar), product(a4, taylor.ubar));
      for (double& x : expected.x) x *= std::pow(theta, 4) / 4;
      const Matrix error = sum(product(transposed(taylor.u), taylor.u), identity(r), -1);
      EXPECT_LE(largest(sum(error, expected, -1)), 1e-12);
      for (const char* rotation : {"exp", "cayley", "plane"}) {
        const Rotated x = rotated(rotation, norm, theta, w, r);
        EXPECT_LE(not_orthonormal(x.u), 1e-12) << rotation;
        Matrix by_hand = exponential(x.a, theta);
        if (x.family.rotation == "cayley") {
          // (I - theta A/2) U = (I + theta A/2) Ubar
          EXPECT_LE(largest(sum(sum(x.u, product(x.a, x.u), -theta / 2),
                                sum(x.ubar, product(x.a, x.ubar), theta / 2), -1)),
                    1e-12);
          continue;
        }
        EXPECT_LE(largest(sum(x.u, product(by_hand, x.ubar), -1)), 1e-12) << rotation;
      }
    }
}

// specs/mixture_of_subspaces.md 4.2: how little the Frobenius norm turns.
TEST(RotationFamily, AFrobeniusNormTurnsLittle) {
  for (const auto& [w, least, most] :
       std::vector<std::tuple<int64_t, double, double>>{{64, 0.2, 0.28}, {128, 0.14, 0.2}}) {
    RotationFamily family;
    const Matrix a = matrix(w, w, skew_generator(family, w, 3, 4));
    const Eigen e = symmetric_eigen(product(transposed(a), a));
    const double norm = std::sqrt(*std::max_element(e.values.begin(), e.values.end()));
    EXPECT_GT(norm, least);
    EXPECT_LT(norm, most);
  }
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
void watch(MixtureCase& c, Watched& seen) {
  c.watch = [&seen](std::unique_ptr<KeyValueCodec> codec, int) {
    return std::make_unique<Watch>(std::move(codec), seen);
  };
}

TEST(MixtureOfSubspaces, Invariant04_WithoutATrainedHeadTheBasisIsUbarBitForBit) {
  for (DType dtype : {DType::f32, DType::f64}) {
    MixtureCase c;
    c.shards = 2;
    c.dtype = dtype;
    const ContextInputs in = context_inputs(c, dtype);
    Watched turning, fixed;
    watch(c, turning);
    const MixtureRun run = run_mixture(c, in);
    c.mixture.rotation = "none";
    watch(c, fixed);
    const MixtureRun none = run_mixture(c, in);
    for (double angle : turning.angles) EXPECT_EQ(angle, 0);
    EXPECT_EQ(turning.decoded, fixed.decoded);
    EXPECT_EQ(run.result.o, none.result.o);
    // The heads have gradients all the same: dU/dtheta = A Ubar.
    for (const char* name : {"k.theta_proj.weight", "v.theta_proj.weight"})
      EXPECT_GT(largest(matrix(1, 8, run.gradients.at(name))), 1e-3) << name;
  }
}

// Keys and values X W of activations X (B,n,C) with the rows of a stacked projection (in code W is (out, in)).
struct Projected {
  Values x;
  ContextInputs in;
};
Projected projected(const MixtureCase& c, const Values& qkv) {
  Projected p{normal_values(static_cast<size_t>(c.sequences * c.tokens * c.columns), 31, 1),
              context_inputs(c, c.dtype)};
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
Values random_qkv(const MixtureCase& c) {
  return normal_values(static_cast<size_t>(c.qkv_rows() * c.columns), 5, 0.5);
}

TEST(MixtureOfSubspaces, Invariant05_LosslessWhereTheWeightsLieInTheSubspace) {
  for (const char* scope : {"layer", "per_head"})
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
      MixtureCase c;
      c.shards = 3;
      c.options.algorithm = algorithm;
      c.mixture.scope = scope;
      if (c.mixture.scope == "per_head") c.mixture.rank_k = 2, c.mixture.rank_v = 3;
      c.qkv = random_qkv(c);
      const Named frames = run_mixture(c, context_inputs(c, c.dtype), false).frames;
      Values folded = c.qkv;
      fold_key_values(folded, c.mixture, c.shape(), frames.at("k.frames"), frames.at("v.frames"));
      c.frames = frames;
      const ContextInputs in = projected(c, folded).in;
      const MixtureRun run = run_mixture(c, in);
      EXPECT_LE(largest_difference(run.result.o, run_single(c, in).o), 1e-12);
      // Before folding it is not.
      const ContextInputs whole = projected(c, c.qkv).in;
      EXPECT_GT(largest_difference(run_mixture(c, whole, false).result.o, run_single(c, whole).o),
                1e-2);
    }
}

TEST(MixtureOfSubspaces, Invariant06_WithoutFewerDimensionsItIsDense) {
  for (const char* rotation : {"exp", "cayley", "plane", "none"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.rotation = rotation;
    c.mixture.theta_source = "chunk_mean";
    c.mixture.rank_k = c.mixture.rank_v = 8;
    c.with_heads(0.4);
    const ContextInputs in = context_inputs(c, c.dtype);
    const MixtureRun run = run_mixture(c, in);
    const ContextResult dense = run_single(c, in);
    EXPECT_LE(largest_difference(run.result.o, dense.o), 1e-12) << rotation;
    EXPECT_LE(largest_difference(run.result.dq, dense.dq), 1e-12) << rotation;
    EXPECT_LE(largest_difference(run.result.dk, dense.dk), 1e-11) << rotation;
    EXPECT_LE(largest_difference(run.result.dv, dense.dv), 1e-11) << rotation;
  }
}

TEST(MixtureOfSubspaces, Invariant07_CompressingAReconstructionChangesNothing) {
  for (const char* rotation : {"exp", "cayley", "plane", "none"})
    for (double theta : {-0.4, 0.0, 0.5}) {
      const Rotated x = rotated(rotation, "spectral", theta, 20, 6);
      const Matrix c = matrix(5, 6, normal_values(30, 6, 1));
      EXPECT_LE(largest(sum(product(product(c, transposed(x.u)), x.u), c, -1)), 1e-12);
    }
}

TEST(MixtureOfSubspaces, Invariant12_AllRanksRebuildTheSameBits) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
      MixtureCase c;
      c.shards = 4;
      c.dtype = dtype;
      c.options.algorithm = algorithm;
      c.options.causal = false;  // so that all ranks need all pieces
      c.mixture.theta_source = "chunk_mean";
      c.with_heads(0.3);
      Watched seen;
      watch(c, seen);
      run_mixture(c, context_inputs(c, dtype), false);
      ASSERT_EQ(seen.decoded.size(), 8u);
      for (const auto& [piece, results] : seen.decoded) {
        ASSERT_EQ(results.size(), 4u);
        for (const auto& result : results) EXPECT_EQ(result, results[0]);
      }
    }
}

uint64_t all_bytes(const MixtureRun& run, MessageKind kind) {
  uint64_t bytes = 0;
  for (const record::RankLog& log : run.result.logs) bytes += bytes_sent(log, kind);
  return bytes;
}

// specs/mixture_of_subspaces.md 6, summed over the ranks. That the sums are these leaves no message of width w.
TEST(MixtureOfSubspaces, Invariant13_BytesAreThoseOfCoordinatesAndAngles) {
  for (int shards : {1, 2, 4})
    for (const char* scope : {"layer", "per_head"})
      for (const char* source : {"chunk_mean", "constant", "zero"})
        for (bool small_gradients : {false, true}) {
          MixtureCase c;
          c.shards = shards;
          c.dtype = DType::bf16;
          c.kv_heads = 4;
          c.mixture.scope = scope;
          c.mixture.rank_k = 2, c.mixture.rank_v = 3;
          c.mixture.theta_source = source;
          if (small_gradients) c.mixture.gradient_wire = DType::bf16;
          SCOPED_TRACE(text_of(c));
          const auto p = static_cast<uint64_t>(shards), groups = static_cast<uint64_t>(c.groups()),
                     pieces = shards > 1 ? 2ul : 1ul, b = static_cast<uint64_t>(c.sequences),
                     tokens = static_cast<uint64_t>(c.tokens) / p,
                     angles = 4 * b * 2 * pieces * groups,
                     pi = b * tokens * groups * 5 * 2 + angles,
                     pi_g = b * tokens * groups * 5 * (small_gradients ? 2 : 4) + angles,
                     home = shards > 1 ? p * pi_g : 0;
          const auto expect = [&](uint64_t forward, uint64_t backward) {
            const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype));
            EXPECT_EQ(all_bytes(run, MessageKind::forward), p * forward);
            EXPECT_EQ(all_bytes(run, MessageKind::backward), p * backward);
          };
          expect((p - 1) * pi, (p - 1) * pi + home);
          c.options.bwd_schedule = RingBackward::reverse;
          expect((p - 1) * pi, (p - 1) * (pi + pi_g));
          c.options.bwd_schedule = RingBackward::home;
          c.options.algorithm = ContextAlgorithm::allgather;
          expect((p - 1) * pi, (p - 1) * (pi + pi_g));
          c.options.keep_gathered_kv = true;
          expect((p - 1) * pi, (p - 1) * pi_g);
        }
}

// What owners of neighbouring pieces tell each other: two angles a sequence and group, there and back, where they differ.
TEST(MixtureOfSubspaces, Invariant13_OfAnglesFromThePieceBefore) {
  for (TokenLayout layout : {TokenLayout::zigzag, TokenLayout::contiguous}) {
    MixtureCase c, plain;
    c.shards = plain.shards = 4;
    c.dtype = plain.dtype = DType::bf16;
    c.options.layout = plain.options.layout = layout;
    plain.mixture.theta_source = "constant";
    const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype)),
                     without = run_mixture(plain, context_inputs(c, c.dtype));
    // zigzag: 7 neighbours of 8 pieces, two of them on one rank.
    const uint64_t messages = layout == TokenLayout::zigzag ? 6 : 3,
                   each = 2 * 4 * static_cast<uint64_t>(c.sequences);
    for (MessageKind kind : {MessageKind::forward, MessageKind::backward})
      EXPECT_EQ(all_bytes(run, kind), all_bytes(without, kind) + messages * each);
  }
}

TEST(MixtureOfSubspaces, Invariant13_OfTheMetaBackendAreTheSame) {
  for (const char* source : {"chunk_mean", "prev_piece", "random"})
    for (const char* block : {"projected", "exact"}) {
      MixtureCase c;
      c.shards = 4;
      c.dtype = DType::bf16;
      c.mixture.theta_source = source;
      c.mixture.local_block = block;
      // Set-up asks for ops of its own, which the meta backend is spared.
      const auto logs = run_mixture(c, context_inputs(c, c.dtype)).result.logs;
      c.meta = true;
      EXPECT_EQ(run_mixture(c, context_inputs(c, c.dtype)).result.logs, logs) << text_of(c);
    }
}

// In the setting of M5: W in the span, theta = 0, but the subspace taken after RoPE.
TEST(MixtureOfSubspaces, Invariant14_CompressionAfterRopeIsNotLossless) {
  MixtureCase c;
  c.qkv = random_qkv(c);
  const Named frames = run_mixture(c, context_inputs(c, c.dtype), false).frames;
  Values folded = c.qkv;
  fold_key_values(folded, c.mixture, c.shape(), frames.at("k.frames"), frames.at("v.frames"));
  const Values keys = projected(c, folded).in.k;
  const Matrix u = first_frame(c, frames, 0, 0), p = product(u, transposed(u));
  const int64_t half = c.head_width / 2;
  double before = 0, after = 0;
  for (int64_t t = 0; t < c.tokens; ++t) {
    Matrix row(1, c.width()), turned(1, c.width());
    for (int64_t i = 0; i < c.width(); ++i)
      row(0, i) = keys[static_cast<size_t>(t * c.width() + i)];
    for (int64_t h = 0; h < c.kv_heads; ++h)
      for (int64_t i = 0; i < half; ++i) {
        const double a = static_cast<double>(t) *
                         std::pow(c.shape().rope_theta, -2.0 * static_cast<double>(i) /
                                                            static_cast<double>(c.head_width)),
                     x = row(0, h * c.head_width + i), y = row(0, h * c.head_width + half + i);
        turned(0, h * c.head_width + i) = x * std::cos(a) - y * std::sin(a);
        turned(0, h * c.head_width + half + i) = y * std::cos(a) + x * std::sin(a);
      }
    before = std::max(before, largest(sum(product(row, p), row, -1)));
    after = std::max(after, largest(sum(product(turned, p), turned, -1)));
  }
  EXPECT_LE(before, 1e-12);
  EXPECT_GT(after, 1e-2);
}

// The gradient of one token's output in keys and values of later tokens: how much the future is looked at. Printed: its largest entry over the
// largest of all, within a chunk; the number that docs/mixture_of_subspaces.md states.
TEST(MixtureOfSubspaces, Invariant15_Causality) {
  for (const char* source : {"chunk_mean", "prev_piece", "constant", "zero"})
    for (TokenLayout layout : {TokenLayout::zigzag, TokenLayout::contiguous}) {
      MixtureCase c;
      c.shards = 2;
      c.sequences = 1;
      c.options.layout = layout;
      c.mixture.theta_source = source;
      c.with_heads(0.25);
      SCOPED_TRACE(text_of(c));
      const int64_t piece = token_layout(c.options, c.shards, c.tokens).piece_tokens();
      double within = 0, beyond = 0, allowed = 0;
      for (int64_t p = 0; p < c.tokens; p += 3) {
        ContextInputs in = context_inputs(c, c.dtype);
        const int64_t row = int64_t{c.heads} * c.head_width;
        for (int64_t i = 0; i < c.tokens * row; ++i)
          if (i / row != p) in.dout[static_cast<size_t>(i)] = 0;
        const MixtureRun run = run_mixture(c, in);
        for (const Values* d : {&run.result.dk, &run.result.dv})
          for (int64_t i = 0; i < static_cast<int64_t>(d->size()); ++i) {
            const int64_t token = i / (int64_t{c.kv_heads} * c.head_width);
            double& most = token <= p ? allowed : token / piece == p / piece ? within : beyond;
            most = std::max(most, std::abs((*d)[static_cast<size_t>(i)]));
          }
      }
      EXPECT_GT(allowed, 0.1);
      EXPECT_EQ(beyond, 0);
      if (c.mixture.theta_source == "chunk_mean") {
        EXPECT_GT(within, 1e-4);
        std::printf(
            "chunk_mean, %s, %lld tokens a chunk: largest gradient in later tokens %.2e of the "
            "largest in earlier ones\n",
            name_of(layout), static_cast<long long>(piece), within / allowed);
      } else {
        EXPECT_EQ(within, 0);
      }
    }
}

// Decoupled decay and plain descent with the gradients of the method at theta = 0: what lies outside the subspace decays by itself alone.
TEST(MixtureOfSubspaces, Invariant16_IdleDirectionsDecayUnderSgdAndNotUnderAdamW) {
  MixtureCase c;
  c.mixture.theta_source = "zero";
  c.sequences = 1;
  c.qkv = random_qkv(c);
  const Named frames = run_mixture(c, context_inputs(c, c.dtype), false).frames;
  c.frames = frames;
  const Matrix u = first_frame(c, frames, 0, 0);
  const Matrix idle = sum(identity(c.width()), product(u, transposed(u)), -1);
  const int64_t first = int64_t{c.heads} * c.head_width, w = c.width();
  for (const bool adam : {false, true}) {
    Values qkv = c.qkv, m(qkv.size(), 0.0), v(qkv.size(), 0.0);
    const auto idle_norm = [&] {
      Matrix keys(w, c.columns);
      std::copy_n(qkv.begin() + first * c.columns, w * c.columns, keys.x.begin());
      double square = 0;
      for (double x : product(idle, keys).x) square += x * x;
      return std::sqrt(square);
    };
    const double eta = 0.05, lambda = 0.2, begin = idle_norm();
    double worst = 0;
    for (int step = 1; step <= 20; ++step) {
      const Projected p = projected(c, qkv);
      const Values dk = run_mixture(c, p.in).result.dk;
      for (int64_t i = 0; i < w; ++i)
        for (int64_t j = 0; j < c.columns; ++j) {
          double g = 0;
          for (int64_t t = 0; t < c.tokens; ++t)
            g += dk[static_cast<size_t>(t * w + i)] * p.x[static_cast<size_t>(t * c.columns + j)];
          const auto at = static_cast<size_t>((first + i) * c.columns + j);
          double move = g;
          if (adam) {
            m[at] = 0.9 * m[at] + 0.1 * g;
            v[at] = 0.95 * v[at] + 0.05 * g * g;
            move = m[at] / (1 - std::pow(0.9, step)) /
                   (std::sqrt(v[at] / (1 - std::pow(0.95, step))) + 1e-8);
          }
          qkv[at] -= eta * (move + lambda * qkv[at]);
        }
      worst =
          std::max(worst, std::abs(idle_norm() / (begin * std::pow(1 - eta * lambda, step)) - 1));
    }
    if (adam)
      EXPECT_GT(worst, 1e-2);
    else
      EXPECT_LT(worst, 1e-10);
  }
}

TEST(MixtureOfSubspaces, Invariant17_AnglesAreClippedAndThenHaveNoGradient) {
  for (const char* clip : {"hard", "tanh"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.theta_source = "chunk_mean";
    c.mixture.clip = clip;
    c.mixture.theta_clip = 0.5;
    c.with_heads(0.1);
    for (const char* z : {"k", "v"}) c.parameters[std::string(z) + ".theta_proj.bias"] = {3.0};
    Watched seen;
    watch(c, seen);
    const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype));
    for (double angle : seen.angles) {
      EXPECT_LE(angle, 0.5);
      EXPECT_GT(angle, 0.499);
    }
    for (const auto& [name, gradient] : run.gradients)
      for (double g : gradient) {
        if (c.mixture.clip == "hard")
          EXPECT_EQ(g, 0) << name;
        else
          EXPECT_LT(std::abs(g), 1e-2) << name;
      }
  }
}

// Random angles are those of (seed, layer, step, microbatch, piece) and the same again; no head is trained.
TEST(MixtureOfSubspaces, RandomAnglesRepeatAndAreWithinTheClip) {
  MixtureCase c;
  c.shards = 2;
  c.mixture.rotation = "random";
  Watched first, second, other;
  watch(c, first);
  const MixtureRun run = run_mixture(c, context_inputs(c, c.dtype));
  EXPECT_TRUE(run.gradients.empty());
  watch(c, second);
  EXPECT_EQ(run_mixture(c, context_inputs(c, c.dtype)).result.dk, run.result.dk);
  c.mixture.seed = 5;
  c.frames = run.frames;
  watch(c, other);
  run_mixture(c, context_inputs(c, c.dtype));
  EXPECT_EQ(first.decoded, second.decoded);
  EXPECT_NE(first.decoded, other.decoded);
  double most = 0;
  for (double angle : first.angles) most = std::max(most, std::abs(angle));
  EXPECT_GT(most, 0.05);
  EXPECT_LE(most, 0.5);
}

TEST(MixtureOfSubspaces, Invariant19_FoldingTheBasisIntoTheWeightsChangesNothingAtAngleZero) {
  for (const char* scope : {"layer", "per_head"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.scope = scope;
    if (c.mixture.scope == "per_head") c.mixture.rank_k = 1, c.mixture.rank_v = 2;
    c.qkv = random_qkv(c);
    const ContextInputs in = projected(c, c.qkv).in;
    const MixtureRun plugged = run_mixture(c, in, false);
    Values folded = c.qkv;
    fold_key_values(folded, c.mixture, c.shape(), plugged.frames.at("k.frames"),
                    plugged.frames.at("v.frames"));
    const ContextInputs after = projected(c, folded).in;
    const Values plain = run_context(c, after, false).o;
    EXPECT_NEAR(loss_of(plugged.result.o, in.dout), loss_of(plain, in.dout), 1e-10);
    EXPECT_LE(largest_difference(plugged.result.o, plain), 1e-12);
    // Queries are not touched.
    for (int64_t i = 0; i < int64_t{c.heads} * c.head_width * c.columns; ++i)
      EXPECT_EQ(folded[static_cast<size_t>(i)], c.qkv[static_cast<size_t>(i)]);
  }
}

// project_at_start does the same to the weights where the method begins.
TEST(MixtureOfSubspaces, WeightsAreProjectedWhereAskedFor) {
  MixtureCase c;
  c.qkv = random_qkv(c);
  c.mixture.project_at_start = true;
  const auto ops = make_reference_backend();
  ParameterList list(DType::f64);
  const ModelShape shape = c.shape();
  const Buffer* rope = declare_rope_table(list, shape);
  const auto codec =
      make_mixture_of_subspaces(c.mixture, {shape, TokenLayout::zigzag, 1, 0, 1, list, rope});
  Parameter* qkv = list.declare("qkv", {c.qkv_rows(), c.columns}, ParameterGroup::matrix, zeros());
  list.allocate(*ops);
  host_upload(*ops, qkv->master, c.qkv);
  Arena scratch;
  Context ctx{*ops, scratch};
  NoOtherCopies alone;
  codec->begin(ctx, alone, *qkv);
  Named frames;
  for (Buffer& b : list.buffers())
    if (b.saved) frames[prefix_of(b.name)] = host_values(*ops, b.value);
  Values expected = c.qkv;
  fold_key_values(expected, c.mixture, shape, frames.at("k.frames"), frames.at("v.frames"));
  EXPECT_EQ(host_values(*ops, qkv->master), expected);
}

TEST(MixtureOfSubspaces, Invariant20_LayersThatAreNotCompressedArePlain) {
  MixtureOptions o;
  EXPECT_TRUE(compresses(o, 0, 4) && compresses(o, 2, 4) && !compresses(o, 3, 4));
  o.uncompressed_layers = "none";
  EXPECT_TRUE(compresses(o, 3, 4));
  o.uncompressed_layers = "list";
  o.uncompressed_list = {0, 2};
  EXPECT_TRUE(!compresses(o, 0, 4) && compresses(o, 1, 4) && !compresses(o, 2, 4) &&
              compresses(o, 3, 4));
}

// Bases that move: one step down the gradient on the Stiefel manifold. Copies, here ranks, sum their gradients of U.
TEST(MixtureOfSubspaces, Invariant21_StiefelStepsStayOnTheManifoldAndDescend) {
  for (const char* scope : {"layer", "per_head"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.scope = scope;
    if (c.mixture.scope == "per_head") c.mixture.rank_k = 2, c.mixture.rank_v = 3;
    c.mixture.rotation = "none";
    c.mixture.basis_opt = "stiefel";
    const ContextInputs in = context_inputs(c, c.dtype);
    c.frames = run_mixture(c, in, false).frames;
    const double before = loss_of(run_mixture(c, in, false).result.o, in.dout);
    // The sum over the ranks, as ControlLink gives it.
    Named gradients;
    std::mutex mutex;
    ContextCase context = c;
    context.codec = [&](ParameterList& list, const Buffer* rope) {
      return make_mixture_of_subspaces(c.mixture,
                                       {c.shape(), c.options.layout, c.shards, 0, 1, list, rope});
    };
    context.before = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      set_up(c, ctx, list, codec);
    };
    context.after = [&](int, Context& ctx, ParameterList& list, KeyValueCodec&) {
      const std::lock_guard lock(mutex);
      for (Buffer& b : list.buffers())
        if (b.name.find("basis_gradient") != std::string::npos) {
          Values& total = gradients[prefix_of(b.name)];
          const Values part = host_values(ctx.ops, b.value);
          total.resize(part.size());
          for (size_t i = 0; i < part.size(); ++i) total[i] += part[i];
        }
    };
    run_context(context, in);

    // dU against finite differences: U moves freely, C = Z U and Zhat = C U^T.
    for (const char* z : {"k", "v"}) {
      Values& frames = c.frames->at(std::string(z) + ".frames");
      for (size_t i = 1; i < frames.size(); i += 5) {
        const double x = frames[i], h = 1e-5;
        frames[i] = x + h;
        const double up = loss_of(run_mixture(c, in, false).result.o, in.dout);
        frames[i] = x - h;
        const double down = loss_of(run_mixture(c, in, false).result.o, in.dout);
        frames[i] = x;
        EXPECT_NEAR(gradients.at(std::string(z) + ".basis_gradient")[i], (up - down) / (2 * h),
                    1e-6);
      }
    }

    // The step itself, on a copy of the state.
    class Copies final : public ControlLink {
     public:
      Copies(Backend& ops, const Named& sums, const ParameterList& list)
          : ops_(ops), sums_(sums), list_(list) {}
      void send(int32_t, Message) override {}
      Message receive(int32_t) override { return {}; }
      void compute(const std::function<void()>& work) override { work(); }
      void sum_over_copies(Tensor value) override {
        for (const Buffer& b : list_.buffers())
          if (b.value.data == value.data) host_upload(ops_, value, sums_.at(prefix_of(b.name)));
      }

     private:
      Backend& ops_;
      const Named& sums_;
      const ParameterList& list_;
    };
    MixtureCase one = c;
    one.shards = 1;
    Named moved;
    ContextCase step = one;
    step.codec = [&](ParameterList& list, const Buffer* rope) {
      return make_mixture_of_subspaces(c.mixture,
                                       {c.shape(), c.options.layout, 1, 0, 1, list, rope});
    };
    step.after = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      set_up(one, ctx, list, codec);
      Copies copies(ctx.ops, gradients, list);
      codec.end_synchronise(ctx, copies, {1, 1e-3});
      for (Buffer& b : list.buffers()) {
        if (b.saved) moved[prefix_of(b.name)] = host_values(ctx.ops, b.value);
        if (b.name.find("basis_gradient") == std::string::npos) continue;
        for (double x : host_values(ctx.ops, b.value)) EXPECT_EQ(x, 0);
      }
    };
    run_context(step, in, false);
    for (int z = 0; z < 2; ++z)
      for (int64_t g = 0; g < c.groups(); ++g) {
        const Matrix u = first_frame(c, *c.frames, z, g), after = first_frame(c, moved, z, g);
        EXPECT_LE(not_orthonormal(after), 1e-12);
        // Tangent to first order: U^T (U+ - U) is skew up to the square of the step.
        const Matrix change = sum(after, u, -1), k = product(transposed(u), change);
        EXPECT_GT(largest(change), 1e-5);
        EXPECT_LE(largest(sum(k, transposed(k))), 2 * largest(product(transposed(change), change)));
      }
    c.frames = moved;
    EXPECT_LT(loss_of(run_mixture(c, in, false).result.o, in.dout), before);
  }
}

// The principal directions of what was seen, not of the weights.
TEST(MixtureOfSubspaces, BasesOfActivations) {
  MixtureCase c;
  c.mixture.basis_source = "activations";
  const ContextInputs in = context_inputs(c, c.dtype);
  ContextCase context = c;
  Named frames;
  context.codec = [&](ParameterList& list, const Buffer* rope) {
    return make_mixture_of_subspaces(c.mixture, {c.shape(), c.options.layout, 1, 0, 1, list, rope});
  };
  context.before = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
    TensorStore store(ctx.ops);
    Parameter qkv;
    qkv.shape = {c.qkv_rows(), c.columns};
    qkv.master = qkv.value = store.make(qkv.shape, c.dtype);
    NoOtherCopies alone;
    EXPECT_TRUE(codec.wants_calibration());
    EXPECT_THROW(codec.begin(ctx, alone, qkv), std::runtime_error);  // nothing was seen
    std::vector<int32_t> all(static_cast<size_t>(c.tokens));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    codec.calibrate(ctx, {store.tokens(c, in.k, c.kv_heads, all, c.dtype),
                          store.tokens(c, in.v, c.kv_heads, all, c.dtype)});
    codec.begin(ctx, alone, qkv);
    for (Buffer& b : list.buffers())
      if (b.saved) frames[prefix_of(b.name)] = host_values(ctx.ops, b.value);
  };
  run_context(context, in, false);
  const int64_t rows = c.sequences * c.tokens, w = c.width();
  const Matrix keys = matrix(rows, w, in.k);
  const Eigen e = symmetric_eigen(product(transposed(keys), keys));
  Values sorted = e.values;
  std::sort(sorted.rbegin(), sorted.rend());
  double most = 0, captured = 0;
  for (int64_t i = 0; i < c.rank(0); ++i) most += sorted[static_cast<size_t>(i)];
  for (double x : product(keys, first_frame(c, frames, 0, 0)).x) captured += x * x;
  EXPECT_NEAR(captured, most, 1e-9 * most);
}

TEST(MixtureOfSubspaces, DiagnosesCapturedEnergyAndAngles) {
  for (const char* scope : {"layer", "per_head"}) {
    MixtureCase c;
    c.mixture.scope = scope;
    c.mixture.rank_v = static_cast<int>(c.width());
    c.mixture.theta_source = "chunk_mean";
    c.with_heads(0.1);
    c.parameters["v.theta_proj.bias"] = Values(static_cast<size_t>(c.groups()), 3.0);
    const ContextInputs in = context_inputs(c, c.dtype);
    std::map<std::string, double> found;
    ContextCase context = c;
    context.codec = [&](ParameterList& list, const Buffer* rope) {
      return make_mixture_of_subspaces(c.mixture,
                                       {c.shape(), c.options.layout, 1, 0, 1, list, rope});
    };
    Named frames;
    context.before = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      set_up(c, ctx, list, codec);
      for (Buffer& b : list.buffers())
        if (b.saved) frames[prefix_of(b.name)] = host_values(ctx.ops, b.value);
      TensorStore store(ctx.ops);
      std::vector<int32_t> all(static_cast<size_t>(c.tokens));
      for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
      const auto tell = codec.diagnose(ctx, {store.tokens(c, in.k, c.kv_heads, all, c.dtype),
                                             store.tokens(c, in.v, c.kv_heads, all, c.dtype)});
      found.insert(tell.begin(), tell.end());
    };
    run_context(context, in, false);
    double energy = 0, captured = 0;
    for (double x : in.k) energy += x * x;
    for (int64_t g = 0; g < c.groups(); ++g) {
      Matrix keys(c.sequences * c.tokens, c.width());
      for (int64_t i = 0; i < keys.rows; ++i)
        for (int64_t j = 0; j < c.width(); ++j)
          keys(i, j) = in.k[static_cast<size_t>((i * c.groups() + g) * c.width() + j)];
      for (double x : product(keys, first_frame(c, frames, 0, g)).x) captured += x * x;
    }
    EXPECT_NEAR(found.at("key_captured"), captured / energy, 1e-12);
    EXPECT_NEAR(found.at("value_captured"), 1, 1e-12);
    EXPECT_GT(found.at("key_angle"), 0);
    EXPECT_LT(found.at("key_angle"), 0.5);
    EXPECT_EQ(found.at("key_clipped"), 0);
    EXPECT_EQ(found.at("value_angle"), 0.5);
    EXPECT_EQ(found.at("value_clipped"), 1);
  }
}

// Rounded coordinates: everybody has the rounded ones, so ranks agree, and the error is of the wire's rounding.
TEST(MixtureOfSubspaces, OnANarrowerWire) {
  MixtureCase c;
  c.shards = 2;
  c.dtype = DType::f32;
  c.mixture.theta_source = "chunk_mean";
  c.with_heads(0.2);
  const ContextInputs in = context_inputs(c, c.dtype);
  const MixtureRun exact = run_mixture(c, in);
  c.mixture.wire = c.mixture.gradient_wire = DType::bf16;
  const MixtureRun rounded = run_mixture(c, in);
  // bf16 rounds by up to 2^-9; products of a few of them.
  EXPECT_LT(nrmse(rounded.result.o, exact.result.o), 1e-2);
  EXPECT_LT(nrmse(rounded.result.dk, exact.result.dk), 2e-2);
  EXPECT_GT(nrmse(rounded.result.o, exact.result.o), 1e-4);
}

TEST(MixtureOptions, SayWhatIsWrongAndWhatIsAllowed) {
  const auto refusal = [](auto change, TokenLayout layout = TokenLayout::zigzag) -> std::string {
    MixtureCase c;
    MixtureOptions o;
    change(o);
    try {
      validate(o, c.shape(), layout, 4, DType::f32);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  using O = MixtureOptions;
  EXPECT_EQ(refusal([](O&) {}), "nothing was thrown");
  EXPECT_EQ(refusal([](O& o) { o.scope = "model"; }),
            "mixture of subspaces, scope: model is not possible; allowed: layer, per_head");
  EXPECT_THAT(refusal([](O& o) { o.rho_k = 1; }), ::testing::HasSubstr("rho_k: 1 is not possible"));
  EXPECT_THAT(refusal([](O& o) { o.rank_v = 9; }), ::testing::HasSubstr("allowed: 1 to 8"));
  EXPECT_THAT(refusal([](O& o) { o.rank_multiple = 0; }), ::testing::HasSubstr("rank_multiple: 0"));
  EXPECT_THAT(refusal([](O& o) { o.k = 2; }), ::testing::HasSubstr("k: 2 is not possible"));
  EXPECT_THAT(refusal([](O& o) { o.theta_clip = 0; }), ::testing::HasSubstr("theta_clip: 0"));
  EXPECT_THAT(refusal([](O& o) { o.theta_clip = 2, o.rotation = "cayley"; }),
              ::testing::HasSubstr("at most 1"));
  EXPECT_THAT(refusal([](O&) {}, TokenLayout::striped),
              ::testing::HasSubstr("in layout striped no piece lies before another"));
  EXPECT_THAT(refusal([](O& o) { o.basis_opt = "stiefel"; }),
              ::testing::HasSubstr("rotation is none, not taylor2"));
  EXPECT_THAT(refusal([](O& o) { o.uncompressed_list = {1}; }),
              ::testing::HasSubstr("it belongs to uncompressed_layers list"));
  EXPECT_THAT(refusal([](O& o) { o.uncompressed_layers = "list", o.uncompressed_list = {1}; }),
              ::testing::HasSubstr("layers are 0 to 0"));
  EXPECT_THAT(refusal([](O& o) { o.wire = DType::u8; }), ::testing::HasSubstr("wire_dtype: u8"));
  EXPECT_THAT(refusal([](O& o) { o.basis_lr_mult = 0; }), ::testing::HasSubstr("basis_lr_mult"));
}

TEST(MixtureOptions, RanksAreTheShareThatIsKept) {
  MixtureOptions o;
  ModelShape shape{8, 2048, 8, 8, 256, 8, 16, 64, 100, 1e-5};
  EXPECT_EQ(mixture_sizes(o, shape).rank_k, 41);
  EXPECT_EQ(mixture_sizes(o, shape).rank_v, 102);
  o.rank_multiple = 8;
  EXPECT_EQ(mixture_sizes(o, shape).rank_k, 40);
  EXPECT_EQ(mixture_sizes(o, shape).rank_v, 104);
  o.scope = "per_head";
  EXPECT_EQ(mixture_sizes(o, shape).width, 256);
  EXPECT_EQ(mixture_sizes(o, shape).groups, 8);
  o.rank_k = 3;
  EXPECT_EQ(mixture_sizes(o, shape).rank_k, 3);
}

}  // namespace
}  // namespace strait::testing
