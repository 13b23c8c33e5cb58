// Invariants 1-11, 15-18 and 22 of specs/subspace_models.md, section 9 (12-14: subspace_variants_test.cpp; 19-21:
// subspace_motion_test.cpp). Double precision on the
// reference backend where the statement is exact; fp32 and bf16 wires on the CPU backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/codec/projection.h"
#include "engine/codec/subspace.h"
#include "engine/nn/dense.h"
#include "tests/engine/coordinate_residual.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/subspace_support.h"

namespace strait::testing {
namespace {

// One codec on its own, with x (N,d) made by the test.
struct CodecBench {
  CodecBench(ModelShape shape, int rank, DType dtype, DType wire, BackendKind kind, int rows)
      : config(tiny(2, "subspace", dtype)), ops(make_backend(kind, 1)), parameters(dtype) {
    config.shape = shape;
    config.method.rank = rank;
    config.method.wire = wire;
    method = make_method(config.method, config.shape, dtype);
    const MethodContext c{config.shape, config.seed, parameters, pool};
    codec = method->make_codec(c, 0, BoundaryEnd::sender);
    basis = subspace_basis(parameters, config.shape, rank, config.method.basis_seed);
    table = subspace_token_table(parameters, config.shape, config.method.basis_seed);
    parameters.declare("unused", {1}, ParameterGroup::vector, ones());
    parameters.allocate(*ops);
    memory = ops->allocate(size_t{64} << 20);
    frame.arena = Arena(memory->data(), memory->bytes(), "frame");
    scratch_memory = ops->allocate(size_t{64} << 20);
    scratch = Arena(scratch_memory->data(), scratch_memory->bytes(), "scratch");
    frame.ids = frame.arena.take({rows}, DType::i32);
    x = frame.arena.take({rows, shape.width}, dtype);
    back = frame.arena.take({rows, shape.width}, dtype);
  }
  Context context() { return {*ops, scratch}; }
  double u(int64_t c, int64_t j) const { return at(basis->value, c * basis->shape[1] + j); }
  double fixed(int64_t row, int64_t c) const {
    return at(table->value, frame.ids.as<int32_t>()[row] * table->shape[1] + c);
  }
  Tensor round_trip() {
    Context ctx = context();
    Frame receiver;
    receiver.arena = Arena(memory->data(), 0, "none");
    const Message m = codec->encode(ctx, frame, x);
    const size_t mark = frame.arena.mark();
    Frame to = frame;
    codec->decode(ctx, to, back, m);
    received_ids.assign(to.ids.as<int32_t>(), to.ids.as<int32_t>() + to.ids.elements());
    frame.arena.rewind(mark);
    return back;
  }
  // x = T_fixed + c U^T with c from a hash.
  void put_in_subspace(double scale) {
    const int64_t k = basis->shape[1];
    for (int64_t n = 0; n < x.size(0); ++n) {
      for (int64_t c = 0; c < x.size(1); ++c) {
        double v = fixed(n, c);
        for (int64_t j = 0; j < k; ++j) v += scale * coordinate(n, j) * u(c, j);
        set(x, n * x.size(1) + c, v);
      }
    }
  }
  static double coordinate(int64_t n, int64_t j) {
    return normal_at(Philox{21}, static_cast<uint64_t>(n), static_cast<uint64_t>(j));
  }

  TrainingConfig config;
  std::unique_ptr<Backend> ops;
  ParameterList parameters;
  MessagePool pool;
  std::unique_ptr<Method> method;
  std::unique_ptr<Codec> codec;
  Buffer *basis, *table;
  std::unique_ptr<DeviceMemory> memory, scratch_memory;
  Frame frame;
  Arena scratch;
  Tensor x, back;
  std::vector<int32_t> received_ids;
};

ModelShape shape_of(int width, int vocabulary) {
  return {2, width, 4, 4, 8, 44, vocabulary, 9, 10000, 1e-5};
}

void spread_ids(CodecBench& b) {
  for (int64_t n = 0; n < b.frame.ids.elements(); ++n)
    b.frame.ids.as<int32_t>()[n] = static_cast<int32_t>((n * 37 + 1) % b.config.shape.vocabulary);
}

// Delegates to subspace, but for one projection.
class Except final : public Method {
 public:
  using Make = std::function<std::unique_ptr<Projection>(
      const Method&, const MethodContext&, const std::string&, int layer, int in, bool crosses)>;
  Except(const TrainingConfig& c, std::string name, Make make)
      : inner_(make_method(c.method, c.shape, c.dtype)),
        name_(std::move(name)),
        make_(std::move(make)) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int b, BoundaryEnd end) const override {
    return inner_->make_codec(c, b, end);
  }
  std::unique_ptr<Embedding> make_embedding(const MethodContext& c) const override {
    return inner_->make_embedding(c);
  }
  std::unique_ptr<Projection> make_projection(const MethodContext& c, const std::string& name,
                                              int layer, int in, bool crosses) const override {
    if (name == name_) return make_(*inner_, c, name, layer, in, crosses);
    return inner_->make_projection(c, name, layer, in, crosses);
  }

 private:
  std::unique_ptr<Method> inner_;
  std::string name_;
  Make make_;
};

// y = norm(inner(x)) * gain: the post-norm of section 1.2, forward only.
class PostNorm final : public Projection {
 public:
  PostNorm(std::unique_ptr<Projection> inner, const MethodContext& c, const std::string& name,
           double spread)
      : inner_(std::move(inner)),
        gain_(c.parameters.declare(name + ".post_norm", {c.shape.width}, ParameterGroup::vector,
                                   [spread](std::vector<double>& v) {
                                     for (size_t i = 0; i < v.size(); ++i)
                                       v[i] = 1.0 + spread * normal_at(Philox{8}, 1, i);
                                   })) {}
  void forward(Context& ctx, Tensor y, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Tensor inner = ctx.scratch.take(y.shape, y.dtype),
           rstd = ctx.scratch.take({y.size(0)}, statistics_of(y.dtype));
    inner_->forward(ctx, inner, x);
    ctx.ops.rmsnorm_forward(y, rstd, inner, gain_->value, 1e-12);
  }
  Tensor backward_input(Context&, Tensor, Tensor dy) override { return dy; }
  void backward_weight(Context&, Tensor, Tensor) override {}

 private:
  std::unique_ptr<Projection> inner_;
  Parameter* gain_;
};

TEST(Subspace, Invariant01_BasisIsOrthonormalAndTheSameEverywhere) {
  CodecBench b(shape_of(64, 97), 24, DType::f32, DType::f32, BackendKind::cpu, 4);
  double worst = 0;
  for (int64_t i = 0; i < 24; ++i) {
    for (int64_t j = 0; j < 24; ++j) {
      double dot = i == j ? -1.0 : 0.0;
      for (int64_t c = 0; c < 64; ++c) dot += b.u(c, i) * b.u(c, j);
      worst = std::max(worst, std::abs(dot));
    }
  }
  EXPECT_LE(worst, 1e-6);  // fp32 rounding of entries of order 1/8, as the spec asks
  Pipeline p(tiny(3, "subspace", DType::f32), BackendKind::cpu);
  for (int s = 0; s < 2; ++s)
    EXPECT_EQ(p.codec_after(s).handshake(p.ops()), p.codec_before(s + 1).handshake(p.ops()));
  TrainingConfig other = tiny(3, "subspace", DType::f32);
  other.method.basis_seed += 1;
  Pipeline q(other, BackendKind::cpu);
  EXPECT_NE(p.codec_after(0).handshake(p.ops()), q.codec_before(1).handshake(q.ops()));
}

TEST(Subspace, Invariant02_DecodeOfEncodeIsTheIdentityInTheSubspace) {
  for (const int vocabulary : {97, 65536, 65537})  // ids as u16 up to 65536 tokens, as i32 above
    for (const bool exact : {true, false}) {
      const DType dtype = exact ? DType::f64 : DType::f32;
      CodecBench b(shape_of(16, vocabulary), 5, dtype, dtype,
                   exact ? BackendKind::reference : BackendKind::cpu, 6);
      const int32_t ids[] = {0, vocabulary - 1, 1, std::min(65535, vocabulary - 1), vocabulary / 2,
                             0};
      std::copy(std::begin(ids), std::end(ids), b.frame.ids.as<int32_t>());
      b.put_in_subspace(3.0);
      EXPECT_LE(nrmse(values(b.round_trip()), values(b.x)), exact ? 1e-12 : 1e-6)
          << vocabulary;  // rounding of sums of 16
      EXPECT_TRUE(std::equal(std::begin(ids), std::end(ids), b.received_ids.begin()));
    }
}

TEST(Subspace, Invariant03_CoordinatesAreKeptAndDecodingIsAnIsometry) {
  CodecBench b(shape_of(32, 97), 7, DType::f64, DType::f64, BackendKind::reference, 5);
  spread_ids(b);
  b.put_in_subspace(2.0);
  Context ctx = b.context();
  const Message m = b.codec->encode(ctx, b.frame, b.x);
  for (int64_t n = 0; n < 5; ++n) {
    double wire = 0, length = 0;
    for (int64_t j = 0; j < 7; ++j) {
      EXPECT_NEAR(at(m.section(0), n * 7 + j), 2.0 * CodecBench::coordinate(n, j), 1e-12);
      wire += at(m.section(0), n * 7 + j) * at(m.section(0), n * 7 + j);
    }
    for (int64_t c = 0; c < 32; ++c) length += std::pow(at(b.x, n * 32 + c) - b.fixed(n, c), 2);
    EXPECT_NEAR(std::sqrt(wire), std::sqrt(length), 1e-12);
  }
}

TEST(Subspace, Invariant04_IsAnOrthogonalProjectionOfAnything) {
  CodecBench b(shape_of(32, 97), 7, DType::f64, DType::f64, BackendKind::reference, 5);
  spread_ids(b);
  for (int64_t i = 0; i < b.x.elements(); ++i)
    set(b.x, i, normal_at(Philox{4}, 0, static_cast<uint64_t>(i)));
  const double expected = outside(b.x, b.frame.ids, *b.table, *b.basis);
  const std::vector<double> x = values(b.x), once = values(b.round_trip());
  double error = 0, all = 0;
  for (int64_t n = 0; n < 5; ++n) {
    for (int64_t c = 0; c < 32; ++c) {
      error +=
          std::pow(once[static_cast<size_t>(n * 32 + c)] - x[static_cast<size_t>(n * 32 + c)], 2);
      all += std::pow(x[static_cast<size_t>(n * 32 + c)] - b.fixed(n, c), 2);
    }
  }
  EXPECT_NEAR(std::sqrt(error / all), expected, 1e-12);
  EXPECT_GT(expected, 0.5);
  for (size_t i = 0; i < once.size(); ++i) set(b.x, static_cast<int64_t>(i), once[i]);
  EXPECT_LE(nrmse(values(b.round_trip()), once), 1e-12);  // idempotent
}

TEST(Subspace, Invariant05_EveryBoundaryStaysInTheSubspace) {
  Pipeline exact(tiny(3, "subspace", DType::f64), BackendKind::reference);
  Pipeline single(tiny(3, "subspace", DType::f32), BackendKind::cpu);
  EXPECT_LE(boundary_residual(exact), 1e-12);
  EXPECT_LE(boundary_residual(single), 1e-5);
  for (int64_t step = 1; step <= 1000; ++step) {
    if (step <= 10) {
      exact.step(step, 2, 1, {});
      exact.update(1e-2, step);
    }
    single.step(step % 32, 2, 2, {});
    single.update(1e-2, step);
    if (step != 1 && step != 10 && step != 1000) continue;
    if (step <= 10) {
      EXPECT_LE(boundary_residual(exact), 1e-12) << step;
    }
    EXPECT_LE(boundary_residual(single), 1e-5) << step;
  }
}

TEST(Subspace, Invariant06_LossEqualsTheSameModelInOneProcess) {
  Pipeline p(tiny(3, "subspace", DType::f64), BackendKind::reference);
  stir(p);
  Pipeline::Hooks off;
  off.codec = false;
  EXPECT_NEAR(p.step(0, 2, 1, {}), p.step(0, 2, 1, off), 1e-12);
}

TEST(Subspace, Invariant07_GradientsEqualThoseWithoutTheCodec) {
  Pipeline p(tiny(3, "subspace", DType::f64), BackendKind::reference);
  stir(p);
  Pipeline::Hooks off;
  off.codec = false;
  const auto on = gradients(p, {}), without = gradients(p, off);
  for (size_t i = 0; i < on.size(); ++i)
    EXPECT_LE(nrmse(on[i].second, without[i].second), 1e-12) << on[i].first;
}

TEST(Subspace, Invariant08_OneUnconstrainedMatrixInStageZeroBreaksIt) {
  const TrainingConfig c = tiny(3, "subspace", DType::f64);
  const Except leaky(c, "model.layers.0.mlp.down_proj",
                     [](const Method& m, const MethodContext& mc, const std::string& name,
                        int layer, int in, bool) {
                       return m.make_projection(mc, name, layer, in,
                                                false);  // full rank although it crosses
                     });
  Pipeline p(c, BackendKind::reference, &leaky);
  stir(p);
  EXPECT_GT(boundary_residual(p), 1e-3);
  Pipeline::Hooks off;
  off.codec = false;
  const auto on = gradients(p, {}), without = gradients(p, off);
  double worst = 0;
  for (size_t i = 0; i < on.size(); ++i)
    worst = std::max(worst, nrmse(on[i].second, without[i].second));
  EXPECT_GT(worst, 1e-3);
}

TEST(Subspace, Invariant09_APostNormGainBreaksItAndAGainFreePostNormDoesNot) {
  const TrainingConfig c = tiny(3, "subspace", DType::f64);
  for (const double spread : {0.0, 0.1}) {
    const Except post(c, "model.layers.1.mlp.down_proj",
                      [spread](const Method& m, const MethodContext& mc, const std::string& name,
                               int layer, int in, bool crosses) {
                        return std::make_unique<PostNorm>(
                            m.make_projection(mc, name, layer, in, crosses), mc, name, spread);
                      });
    Pipeline p(c, BackendKind::reference, &post);
    if (spread == 0.0) {
      EXPECT_LE(boundary_residual(p), 1e-12);
    } else {
      EXPECT_GT(boundary_residual(p), 1e-3);
    }
  }
}

TEST(Subspace, Invariant10_OnlyThePartOfTheGradientInTheSubspaceMatters) {
  Pipeline p(tiny(3, "subspace", DType::f64), BackendKind::reference);
  stir(p);
  const auto plain = gradients(p, {});
  Pipeline::Hooks noisy;
  noisy.gradient = [&](int boundary, Tensor g) {  // g <- g + r Q
    const Buffer& basis = *subspace_basis(p.list(boundary), p.config().shape,
                                          *p.config().method.rank, p.config().method.basis_seed);
    const int64_t d = g.size(1), k = basis.shape[1];
    for (int64_t n = 0; n < g.size(0); ++n) {
      std::vector<double> r(static_cast<size_t>(d)), c(static_cast<size_t>(k));
      for (int64_t i = 0; i < d; ++i) {
        r[static_cast<size_t>(i)] =
            10 * normal_at(Philox{6}, static_cast<uint64_t>(n), static_cast<uint64_t>(i));
        for (int64_t j = 0; j < k; ++j)
          c[static_cast<size_t>(j)] += r[static_cast<size_t>(i)] * at(basis.value, i * k + j);
      }
      for (int64_t i = 0; i < d; ++i) {
        double v = at(g, n * d + i) + r[static_cast<size_t>(i)];
        for (int64_t j = 0; j < k; ++j) v -= c[static_cast<size_t>(j)] * at(basis.value, i * k + j);
        set(g, n * d + i, v);
      }
    }
  };
  const auto with_noise = gradients(p, noisy);
  // rQ is 10 times N(0,1) against gradients of order 1e-2, and cancels to rounding: 1e-16 * 10 /
  // 1e-3.
  for (size_t i = 0; i < plain.size(); ++i)
    EXPECT_LE(nrmse(with_noise[i].second, plain[i].second), 1e-10) << plain[i].first;
}

TEST(Subspace, Invariant11_FiniteDifferencesThroughTwoBoundaries) {
  Pipeline p(tiny(3, "subspace", DType::f64), BackendKind::reference);
  stir(p);
  p.step(0, 2, 1, {});
  for (const char* name :
       {"model.layers.0.mlp.down_proj.coordinates", "model.layers.0.self_attn.o_proj.coordinates",
        "model.layers.3.mlp.down_proj.coordinates", "model.embed_tokens.coordinates",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.post_attention_layernorm.weight"}) {
    Parameter& q = p.find(name);
    const std::vector<double> g = values(q.grad);
    const auto i = static_cast<int64_t>(
        std::max_element(g.begin(), g.end(),
                         [](double a, double b) { return std::abs(a) < std::abs(b); }) -
        g.begin());
    const double h = 1e-5, old = at(q.master, i);
    set(q.master, i, old + h);
    const double above = p.step(0, 2, 1, {}, false);
    set(q.master, i, old - h);
    const double below = p.step(0, 2, 1, {}, false);
    set(q.master, i, old);
    // Central differences in double: h^2 truncation and 1e-16/h rounding leave about 1e-7 of the
    // largest entry.
    EXPECT_NEAR((above - below) / (2 * h), g[static_cast<size_t>(i)],
                1e-6 * std::abs(g[static_cast<size_t>(i)]))
        << name;
  }
}

TEST(Subspace, Invariant15_CarryingCoordinatesIsTheSameModel) {
  Pipeline p(tiny(2, "subspace", DType::f64), BackendKind::reference);
  stir(p);
  const double loss = p.step(0, 2, 2, {});
  EXPECT_NEAR(coordinate_residual_loss(p, 2), loss, 1e-12);
  for (const char* name :
       {"model.layers.1.mlp.down_proj.coordinates", "model.embed_tokens.coordinates",
        "model.layers.0.self_attn.qkv_proj.weight"}) {
    Parameter& q = p.find(name);
    const std::vector<double> g = values(q.grad);
    const auto i = static_cast<int64_t>(std::max_element(g.begin(), g.end()) - g.begin());
    const double h = 1e-5, old = at(q.master, i);
    set(q.master, i, old + h);
    const double above = coordinate_residual_loss(p, 2);
    set(q.master, i, old - h);
    const double below = coordinate_residual_loss(p, 2);
    set(q.master, i, old);
    EXPECT_NEAR((above - below) / (2 * h), g[static_cast<size_t>(i)],
                1e-6 * g[static_cast<size_t>(i)])
        << name;  // as invariant 11
  }
}

TEST(Subspace, Invariant16_FullRankEqualsTheUnconstrainedModel) {
  TrainingConfig full = tiny(2, "subspace", DType::f64);
  full.method.rank = full.shape.width;
  Pipeline constrained(full, BackendKind::reference);
  stir(constrained);
  Pipeline dense(tiny(2, "none", DType::f64), BackendKind::reference);
  const int64_t d = full.shape.width;
  const Buffer& u =
      *subspace_basis(constrained.list(0), full.shape, static_cast<int>(d), full.method.basis_seed);
  const Buffer& fixed =
      *subspace_token_table(constrained.list(0), full.shape, full.method.basis_seed);
  // W = Z U^T, stored (d, in): W[c][i] = sum_j U[c][j] Z[i][j]; the embedding is T_fixed + E U^T.
  for (Parameter* q : dense.all()) {
    const std::string stem = q->name.substr(0, q->name.size() - std::string(".weight").size());
    Parameter* z = nullptr;
    for (Parameter* other : constrained.all()) {
      if (other->name == stem + ".coordinates") z = other;
      if (other->name == q->name) {
        for (int64_t i = 0; i < q->shape.elements(); ++i) set(q->master, i, at(other->master, i));
      }
    }
    if (z == nullptr) continue;
    const bool embedding = stem == "model.embed_tokens";
    const int64_t rows = z->shape[0];
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t c = 0; c < d; ++c) {
        double w = embedding ? at(fixed.value, i * d + c) : 0.0;
        for (int64_t j = 0; j < d; ++j) w += at(z->master, i * d + j) * at(u.value, c * d + j);
        set(q->master, embedding ? i * d + c : c * rows + i, w);
      }
    }
  }
  EXPECT_NEAR(constrained.step(0, 2, 1, {}), dense.step(0, 2, 1, {}),
              1e-11);  // 6 layers of sums over 32 rotated coordinates
  for (Parameter* q : dense.all()) {
    if (q->name.find("coordinates") != std::string::npos ||
        q->name.find("o_proj") != std::string::npos ||
        q->name.find("down_proj") != std::string::npos ||
        q->name.find("embed") != std::string::npos) {
      continue;
    }
    EXPECT_LE(nrmse(values(constrained.find(q->name).grad), values(q->grad)), 1e-10) << q->name;
  }
}

TEST(Subspace, Invariant17_MicrobatchesAndStagesDoNotChangeTheGradient) {
  TrainingConfig c = tiny(3, "subspace", DType::f64);
  c.full_rank_layers = 2;
  Pipeline three(c, BackendKind::reference);
  c.pipeline = 2;
  c.layers_per_stage = {1, 5};
  Pipeline two(c, BackendKind::reference);
  c.pipeline = 1;
  c.layers_per_stage = {};
  Pipeline one(c, BackendKind::reference);
  const auto reference = gradients(one, {}, 2);
  for (Pipeline* p : {&three, &two, &one}) {
    for (const auto& [name, g] : reference) {
      p->step(0, 2, 1, {});
      EXPECT_LE(nrmse(values(p->find(name).grad), g), 1e-11) << name;
    }
  }
}

TEST(Subspace, Invariant18_BytesEqualTheFormulaAndIdsTravelForwardOnly) {
  for (const int vocabulary : {61, 70000}) {
    for (const DType wire : {DType::f32, DType::bf16}) {
      TrainingConfig c = tiny(3, "subspace", DType::f32);
      c.shape.vocabulary = vocabulary;
      c.method.wire = wire;
      Pipeline p(c, BackendKind::cpu);
      const uint64_t n = 2 * 9, k = 4, w = size_of(wire), i = vocabulary <= 65536 ? 2 : 4;
      int forward = 0, backward = 0;
      Pipeline::Hooks hooks;
      hooks.messages = [&](int, const Message& m, const Message* gradient) {
        EXPECT_EQ(m.bytes().count, gradient == nullptr ? n * (k * w + i) : n * k * w);
        EXPECT_EQ(m.sections(), gradient == nullptr ? 2u : 1u);
        EXPECT_EQ(m.dense.count, n * 32 * 4);
        gradient == nullptr ? ++forward : ++backward;
      };
      p.step(0, 2, 2, hooks);
      EXPECT_EQ(forward, 2);
      EXPECT_EQ(backward, 2);
      const auto expected = p.codec_after(0).expected_bytes(static_cast<int64_t>(n));
      EXPECT_EQ(expected.first, n * (k * w + i));
      EXPECT_EQ(expected.second, n * k * w);
    }
  }
}

TEST(Subspace, Invariant22_Bf16WireErrorIsSmallAndDoesNotGrowWithBoundaries) {
  TrainingConfig c = tiny(6, "subspace", DType::f32);
  c.method.wire = DType::bf16;
  Pipeline rounded(c, BackendKind::cpu), exact(c, BackendKind::cpu);
  stir(rounded);
  stir(exact);
  std::vector<std::vector<double>> clean;
  Pipeline::Hooks off;
  off.codec = false;
  off.sent = [&](int, Tensor x, Tensor) { clean.push_back(values(x)); };
  exact.step(0, 2, 2, off, false);
  std::vector<double> error;
  Pipeline::Hooks on;
  on.sent = [&](int boundary, Tensor x, Tensor) {
    error.push_back(nrmse(values(x), clean[static_cast<size_t>(boundary)]));
  };
  rounded.step(0, 2, 2, on, false);
  ASSERT_EQ(error.size(), 5u);
  for (double e : error) EXPECT_LE(e, 4e-3);  // the spec's bound: one bf16 rounding is 1.7e-3
  EXPECT_LE(error.back(),
            2 * *std::max_element(error.begin() + 1,
                                  error.begin() + 3));  // not growing: rounding is idempotent
}

TEST(Subspace, PicksTheRankWhoseCombinedRatioIsClosest) {
  const ModelShape shape = shape_of(128, 2048);
  // 2 d w0 / (2 k w + i): k = 16 gives 1024 / 130 = 7.88, k = 15 gives 8.39; 8 lies closer to 7.88.
  EXPECT_EQ(projection_rank_for_ratio("subspace", 8, shape, DType::f32, DType::f32, true), 16);
  EXPECT_EQ(projection_rank_for_ratio("subspace", 100, shape, DType::f32, DType::f32, true), 1);
  EXPECT_THROW(projection_rank_for_ratio("subspace", 1000, shape, DType::f32, DType::f32, true),
               std::invalid_argument);
}

}  // namespace
}  // namespace strait::testing
