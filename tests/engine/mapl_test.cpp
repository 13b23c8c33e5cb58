// Method `mapl`: the numbered invariants of specs/mapl.md, section 9, those of vector quantisation in residual_vq_test.cpp. In double
// precision 1e-12 stands for sums of some hundred terms.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "engine/manifold/polar.h"
#include "engine/manifold/spel.h"
#include "tests/engine/control_loop.h"
#include "tests/engine/run_phases.h"

namespace strait::testing {
namespace {

using ::testing::HasSubstr;
using Values = std::vector<double>;

TrainingConfig config(
    DType dtype, void (*choose)(MethodOptions&) = [](MethodOptions&) {}) {
  TrainingConfig c = tiny(3, "mapl", dtype);
  choose(c.method);
  return c;
}

Tensor projector(Pipeline& p, int boundary) {
  return buffer(p.list(boundary), fmt::format("boundaries.{}.sender.projector", boundary));
}
Tensor received_projector(Pipeline& p, int boundary) {
  return buffer(p.list(boundary + 1), fmt::format("boundaries.{}.receiver.projector", boundary));
}
// dL/dA at the first boundary from both ends.
Values projector_gradient(Pipeline& p) {
  Values g = values(buffer(p.list(0), "boundaries.0.sender.projector_gradient"));
  const Values other = values(buffer(p.list(1), "boundaries.0.receiver.projector_gradient"));
  for (size_t i = 0; i < g.size(); ++i) g[i] += other[i];
  return g;
}

// Matrices of the manifold tests, in memory of their own.
class Manifold {
 public:
  explicit Manifold(BackendKind kind, DType dtype) : ops_(make_backend(kind, 1)), dtype_(dtype) {
    memory_.push_back(ops_->allocate(1 << 22));
    scratch_ = Arena(memory_.back()->data(), 1 << 22, "scratch");
  }
  Tensor matrix(int64_t rows, int64_t columns, uint64_t seed, double scale = 1) {
    memory_.push_back(ops_->allocate(static_cast<size_t>(rows * columns) * 8));
    Tensor t(memory_.back()->data(), dtype_, {rows, columns});
    for (int64_t i = 0; i < t.elements(); ++i)
      set(t, i, scale * normal_at(Philox{seed}, 1, static_cast<uint64_t>(i)));
    return t;
  }
  Tensor on_manifold(int64_t d, int64_t r, uint64_t seed) {
    Tensor a = matrix(d, r, seed), y = matrix(d, r, seed);
    Context ctx = context();
    polar(ctx, a, y, {.steps = 12});
    return a;
  }
  Values product(Tensor a, bool transpose_a, Tensor b) {
    ArenaScope scope(scratch_);
    Tensor y = scratch_.take({a.size(transpose_a ? 1 : 0), b.size(1)}, dtype_);
    ops_->matmul(y, a, transpose_a, b, false, false);
    return values(y);
  }
  double orthonormality_error(Tensor a) {
    const Values gram = product(a, true, a);
    double error = 0;
    const int64_t r = a.size(1);
    for (int64_t i = 0; i < r * r; ++i)
      error = std::max(error, std::abs(gram[static_cast<size_t>(i)] - (i / r == i % r ? 1 : 0)));
    return error;
  }
  Context context() { return {*ops_, scratch_}; }
  Backend& ops() { return *ops_; }

 private:
  std::unique_ptr<Backend> ops_;
  DType dtype_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  Arena scratch_;
};

// 5e-6: some rounding errors of f32 (6e-8) of sums over 24 products, after each of ten thousand retractions.
TEST(Mapl, Invariant1TheProjectorStaysOnTheManifold) {
  Manifold f(BackendKind::cpu, DType::f32);
  Context ctx = f.context();
  Tensor a = f.on_manifold(24, 6, 1), m = f.matrix(24, 6, 2, 0), g = f.matrix(24, 6, 3);
  double worst = 0;
  for (int step = 0; step < 10000; ++step) {
    f.ops().random_normal(g, Philox{9}, static_cast<uint64_t>(step), 1.0);
    spel_step(ctx, a, m, g, 0.002, {});
    worst = std::max(worst, f.orthonormality_error(a));
  }
  EXPECT_LT(worst, 5e-6);
  for (const char* other : {"polar_express", "qr"}) {
    SpelOptions options;
    options.retraction = other;
    for (int step = 0; step < 50; ++step) {
      f.ops().random_normal(g, Philox{9}, static_cast<uint64_t>(step), 1.0);
      spel_step(ctx, a, m, g, 0.002, options);
      EXPECT_LT(f.orthonormality_error(a), 5e-6) << other;
    }
  }
  // The trap of section 3.2: five steps of Polar Express are no retraction.
  Tensor moved = f.on_manifold(24, 6, 4), d = f.matrix(24, 6, 5, 1e-3), y = f.matrix(24, 6, 6);
  f.ops().axpy(moved, 1.0, d);
  polar(ctx, y, moved, {.steps = 5});
  EXPECT_GT(f.orthonormality_error(y), 1e-2);
}

TEST(Mapl, Invariant2TheTangentProjection) {
  Manifold f(BackendKind::reference, DType::f64);
  Context ctx = f.context();
  const int64_t d = 12, r = 4;
  Tensor a = f.on_manifold(d, r, 1), g = f.matrix(d, r, 2);
  project_to_tangent(ctx, g, a);
  const Values k = f.product(a, true, g), once = values(g);
  for (int64_t i = 0; i < r; ++i)
    for (int64_t j = 0; j < r; ++j)
      EXPECT_NEAR(k[static_cast<size_t>(i * r + j)] + k[static_cast<size_t>(j * r + i)], 0, 1e-12);
  project_to_tangent(ctx, g, a);
  EXPECT_LT(nrmse(values(g), once), 1e-12);
  // g = A S with a symmetric S is normal to the manifold.
  Tensor half = f.matrix(r, r, 3), s = f.matrix(r, r, 3), normal_part = f.matrix(d, r, 4);
  for (int64_t i = 0; i < r; ++i)
    for (int64_t j = 0; j < r; ++j) set(s, i * r + j, at(half, i * r + j) + at(half, j * r + i));
  f.ops().matmul(normal_part, a, false, s, false, false);
  project_to_tangent(ctx, normal_part, a);
  for (double x : values(normal_part)) EXPECT_NEAR(x, 0, 1e-12);
}

TEST(Mapl, Invariant3TheLossDependsOnTheSubspaceAlone) {
  Pipeline p(config(DType::f64), BackendKind::reference);
  const double loss = p.step(0, 2, 1, {});
  const Tensor a = projector(p, 0), b = received_projector(p, 0);
  const int64_t d = 32, r = 4;
  const auto asymmetry = [&](const Values& g) {
    double difference = 0, size = 0;
    for (int64_t i = 0; i < r; ++i)
      for (int64_t j = 0; j < r; ++j) {
        double ij = 0, ji = 0;
        for (int64_t n = 0; n < d; ++n) {
          ij += at(a, n * r + i) * g[static_cast<size_t>(n * r + j)];
          ji += at(a, n * r + j) * g[static_cast<size_t>(n * r + i)];
        }
        difference += (ij - ji) * (ij - ji);
        size += ij * ij;
      }
    return std::sqrt(difference / size);
  };
  EXPECT_LT(asymmetry(projector_gradient(p)), 1e-12);
  EXPECT_GT(asymmetry(values(buffer(p.list(0), "boundaries.0.sender.projector_gradient"))), 1e-3);
  EXPECT_GT(asymmetry(values(buffer(p.list(1), "boundaries.0.receiver.projector_gradient"))), 1e-3);
  // A -> A Q with an orthogonal Q, on both ends.
  Manifold f(BackendKind::reference, DType::f64);
  const Tensor q = f.on_manifold(r, r, 8);
  const Values turned = f.product(a, false, q);
  for (int64_t i = 0; i < d * r; ++i) {
    set(a, i, turned[static_cast<size_t>(i)]);
    set(b, i, turned[static_cast<size_t>(i)]);
  }
  EXPECT_NEAR(p.step(0, 2, 1, {}, false), loss, 1e-12);
}

// Central differences as in gradients_test.cpp, which has those of every parameter, the anchors' tables among them.
TEST(Mapl, Invariant4TheProjectorsGradientIsExact) {
  for (const char* anchors : {"factorised", "none", "static", "full"}) {
    TrainingConfig c = config(DType::f64);
    c.method.mapl.anchors.kind = anchors;
    Pipeline p(c, BackendKind::reference);
    p.step(0, 2, 1, {});
    const Values g = projector_gradient(p);
    const Tensor a = projector(p, 0), b = received_projector(p, 0);
    double largest = 0;
    for (double x : g) largest = std::max(largest, std::abs(x));
    for (int64_t i = 0; i < a.elements(); i += 13) {
      const double h = 1e-5, old = at(a, i);
      const auto loss = [&](double x) {
        set(a, i, x);
        set(b, i, x);
        return p.step(0, 2, 1, {}, false);
      };
      const double above = loss(old + h), below = loss(old - h);
      loss(old);
      EXPECT_NEAR((above - below) / (2 * h), g[static_cast<size_t>(i)], 1e-6 * largest + 1e-9)
          << anchors << " " << i;
    }
  }
}

TEST(Mapl, Invariant4FrozenRowsNeverChange) {
  Pipeline p(config(DType::f64), BackendKind::reference);
  const Values before = values(buffer(p.list(1), "anchors.1.rows"));
  for (int step = 1; step <= 3; ++step) {
    p.step(2 * step, 2, 1, {});
    p.update(1e-2, step);
    synchronise(p, step, 1e-2);
  }
  EXPECT_EQ(values(buffer(p.list(1), "anchors.1.rows")), before);
}

TEST(Mapl, Invariant5ABoundaryIsAProjectionBetweenAnchors) {
  TrainingConfig c = config(DType::f64);
  c.method.mapl.anchors.kind =
      "static";  // the same on both sides, so that what arrives can be sent again
  Pipeline p(c, BackendKind::reference);
  Pipeline::Hooks hooks;
  int seen = 0;
  hooks.sent = [&](int boundary, Tensor x, Tensor) {
    if (boundary != 0) return;
    ++seen;
    Context ctx = p.context();
    const auto memory = p.ops().allocate(1 << 16), room = p.ops().allocate(2 * x.bytes());
    Frame receiver;
    receiver.training = false;
    receiver.arena = Arena(memory->data(), 1 << 16, "receiver");
    const Tensor once(room->data(), x.dtype, x.shape);
    const Message m = p.codec_after(0).encode(ctx, p.frame(0), x);
    p.codec_before(1).decode(ctx, receiver, once, m);
    const Message again = p.codec_after(0).encode(ctx, p.frame(0), once);
    EXPECT_LT(nrmse(values(again.section(0)), values(m.section(0))), 1e-12);
    double sent = 0, arrived = 0;
    const Tensor table = buffer(p.list(0), "anchors.static");
    for (int64_t n = 0; n < x.size(0); ++n)
      for (int64_t j = 0; j < 32; ++j) {
        const double anchor = at(table, p.frame(0).ids.as<int32_t>()[n] * 32 + j);
        sent += std::pow(at(x, n * 32 + j) - anchor, 2);
        arrived += std::pow(at(once, n * 32 + j) - anchor, 2);
      }
    EXPECT_LE(arrived, sent * (1 + 1e-12));
  };
  p.step(0, 1, 1, hooks, false);
  EXPECT_EQ(seen, 1);
}

TEST(Mapl, Invariant5AtFullRankThePipelineIsTheUncompressedOne) {
  TrainingConfig c = config(DType::f64);
  c.method.rank = 32;
  c.method.mapl.anchors.kind = "none";
  Pipeline mapl(c, BackendKind::reference);
  c.method = {};
  c.method.wire = DType::f64;
  Pipeline plain(c, BackendKind::reference);
  EXPECT_NEAR(mapl.step(0, 2, 1, {}), plain.step(0, 2, 1, {}), 1e-12);
  for (Parameter* q : plain.all())
    EXPECT_LT(nrmse(values(mapl.find(q->name).grad), values(q->grad)), 1e-10) << q->name;
}

TEST(Mapl, Invariant6TheGradientsMessageIsTheAdjoint) {
  Pipeline p(config(DType::f64), BackendKind::reference);
  Tensor gradient;
  Pipeline::Hooks hooks;
  hooks.gradient = [&](int boundary, Tensor g) {
    if (boundary == 0) gradient = g;
  };
  hooks.messages = [&](int boundary, const Message& m, const Message* backward) {
    if (boundary != 0 || backward == nullptr) return;
    EXPECT_EQ(m.section(0).shape, (Shape{gradient.size(0), 4}));
    // <G A, Y> = <G, Y A^T> for a Y of the message's shape.
    const Tensor a = projector(p, 0);
    double left = 0, right = 0;
    for (int64_t n = 0; n < gradient.size(0); ++n)
      for (int64_t k = 0; k < 4; ++k) {
        const double y = normal_at(Philox{4}, 1, static_cast<uint64_t>(n * 4 + k));
        left += at(m.section(0), n * 4 + k) * y;
        for (int64_t j = 0; j < 32; ++j) right += at(gradient, n * 32 + j) * y * at(a, j * 4 + k);
      }
    EXPECT_NEAR(left, right, 1e-12);
  };
  p.step(0, 1, 1, hooks);
}

TEST(Mapl, Invariant7AStepHasItsLengthWhateverTheScale) {
  const double alpha = 0.01;
  Values ends[2];
  for (int i = 0; i < 2; ++i) {
    Manifold f(BackendKind::reference, DType::f64);
    Context ctx = f.context();
    Tensor a = f.on_manifold(20, 5, 1), m = f.matrix(20, 5, 2, 0),
           g = f.matrix(20, 5, 3, i == 0 ? 1 : 10);
    const Values before = values(a);
    SpelOptions options;
    options.beta = 0;
    spel_step(ctx, a, m, g, alpha, options);
    ends[i] = values(a);
    double squares = 0;  // the Frobenius norm bounds the spectral one, here of 5 singular values
    for (size_t n = 0; n < before.size(); ++n) squares += std::pow(ends[i][n] - before[n], 2);
    EXPECT_LE(std::sqrt(squares / 5), 2 * alpha);
    EXPECT_GT(std::sqrt(squares), alpha / 2);
  }
  EXPECT_LT(nrmse(ends[1], ends[0]), 1e-12);
  // Nothing to do: the retraction of a point on the manifold is the point.
  Manifold f(BackendKind::reference, DType::f64);
  Context ctx = f.context();
  Tensor a = f.on_manifold(20, 5, 1), m = f.matrix(20, 5, 2, 0), g = f.matrix(20, 5, 3, 0);
  const Values before = values(a);
  spel_step(ctx, a, m, g, alpha, {});
  EXPECT_LT(nrmse(values(a), before), 1e-12);
}

// Principal components: -tr(A^T S A)/2 has its minimum at the leading eigenvectors. S is diagonal, so their sum is known.
TEST(Mapl, Invariant8SpelFindsPrincipalComponents) {
  Manifold f(BackendKind::cpu, DType::f32);
  Context ctx = f.context();
  const int64_t d = 32, r = 4;
  Tensor s = f.matrix(d, d, 1, 0), a = f.on_manifold(d, r, 2), m = f.matrix(d, r, 3, 0),
         g = f.matrix(d, r, 4);
  double best = 0;
  for (int64_t i = 0; i < d; ++i) set(s, i * d + i, std::pow(0.8, static_cast<double>(i)));
  for (int64_t i = 0; i < r; ++i) best += std::pow(0.8, static_cast<double>(i));
  double reached = 0;
  for (int step = 0; step < 400; ++step) {
    f.ops().matmul(g, s, false, a, false, false);
    f.ops().scale(g, -1.0);
    spel_step(ctx, a, m, g, step < 200 ? 0.05 : 0.005, {});
    reached = 0;
    for (int64_t i = 0; i < d; ++i)
      for (int64_t k = 0; k < r; ++k) reached += at(s, i * d + i) * std::pow(at(a, i * r + k), 2);
    ASSERT_LE(reached, best * (1 + 1e-5));
  }
  EXPECT_GE(reached, 0.99 * best);
}

TEST(Mapl, Invariant12BytesAreThoseOfTheSpecification) {
  struct Case {
    const char *gradient, *projector, *anchors, *ids;
    uint64_t matrices;
    int64_t id;
  };
  for (const Case& k : {Case{"full", "spel", "factorised", "with_activation", 2, 2},
                        Case{"mirror", "spel", "none", "with_activation", 2, 0},
                        Case{"sender_only", "free_muon", "full", "with_activation", 1, 2},
                        Case{"full", "frozen", "static", "with_activation", 0, 2},
                        Case{"full", "spel", "factorised", "local", 2, 0}}) {
    TrainingConfig c = config(DType::f32);
    c.method.mapl.gradient = k.gradient;
    c.method.mapl.projector = k.projector;
    c.method.mapl.anchors.kind = k.anchors;
    c.method.mapl.ids = k.ids;
    c.method.wire = DType::bf16;
    const DryRun dry = dry_run(c);
    uint64_t forward = 0, backward = 0, sync = 0;
    for (const record::RankLog& rank : dry.step.ranks)
      for (const record::Entry& e : rank.entries)
        if (const auto* send = std::get_if<record::Send>(&e.action)) {
          (send->kind == record::MessageKind::forward    ? forward
           : send->kind == record::MessageKind::backward ? backward
                                                         : sync) += send->payload.count;
          sync += send->sync.count;
        }
    const uint64_t boundaries = 2, M = 2, N = 2 * 9, r = 4, d = 32;
    EXPECT_EQ(forward, boundaries * M * N * (r * 2 + static_cast<uint64_t>(k.id))) << k.gradient;
    EXPECT_EQ(backward, boundaries * M * N * r * 2) << k.gradient;
    EXPECT_EQ(sync, boundaries * k.matrices * d * r * 4) << k.gradient << " " << k.projector;
  }
}

// What ranks with messages and threads compute is what one thread computes, bit for bit.
TEST(Mapl, Invariant13RanksComputeWhatOneThreadComputes) {
  for (const char* gradient : {"full", "mirror", "sender_only"}) {
    TrainingConfig c = config(DType::f32);
    c.method.mapl.gradient = gradient;
    c.steps = 3;
    const HashedTokens tokens(c.shape);
    const Outcome ranks = run({{c, &tokens}}, {.checkpoint_every = 3});
    Pipeline p(c, BackendKind::cpu);
    for (int64_t step = 1; step <= 3; ++step) {
      p.step((step - 1) * c.batch, c.batch, c.batch / c.microbatches, {});
      p.update(1e-2, step);
      synchronise(p, step, 1e-2);
    }
    const Snapshot& end = ranks.snapshots.back();
    for (Parameter* q : p.all()) {
      const ParameterState* state = end.find(q->name);
      ASSERT_NE(state, nullptr) << q->name;
      EXPECT_EQ(std::memcmp(state->master.data(), q->master.data, state->master.size()), 0)
          << q->name;
    }
    const Tensor a = projector(p, 0);
    const ParameterState* state = end.find("boundaries.0.sender.projector");
    ASSERT_NE(state, nullptr);
    EXPECT_EQ(std::memcmp(state->master.data(), a.data, a.bytes()), 0) << gradient;
  }
}

TEST(Mapl, Invariant14AnotherVersionIsRefused) {
  Pipeline p(config(DType::f64), BackendKind::reference);
  Context ctx = p.context();
  p.step(0, 1, 1, {}, false);
  const auto memory = p.ops().allocate(1 << 18), room = p.ops().allocate(18 * 32 * 8);
  Frame receiver;
  receiver.arena = Arena(memory->data(), 1 << 18, "receiver");
  const Tensor x(room->data(), DType::f64, {9, 32});
  const Message old = p.codec_after(0).encode(ctx, p.frame(0), x);
  p.step(0, 2, 1, {});
  synchronise(p, 1, 1e-2);
  try {
    p.codec_before(1).decode(ctx, receiver, x, old);
    FAIL() << "was decoded";
  } catch (const std::runtime_error& e) {
    EXPECT_THAT(e.what(), HasSubstr("version 0"));
    EXPECT_THAT(e.what(), HasSubstr("version 1"));
  }
}

TEST(Mapl, Invariant15AFrozenProjectorIsNotSynchronised) {
  TrainingConfig c = config(DType::f64);
  c.method.mapl.projector = "frozen";
  Pipeline p(c, BackendKind::reference);
  const Values before = values(projector(p, 0));
  p.step(0, 2, 1, {});
  EXPECT_EQ(synchronise(p, 1, 1e-2), 0u);
  EXPECT_EQ(values(projector(p, 0)), before);
}

// Replicas come with data parallelism; what there is of it here is that both ends hold the same bits, whoever moved them.
TEST(Mapl, Invariant16BothEndsHoldTheSameProjector) {
  for (const char* gradient : {"full", "mirror", "sender_only"}) {
    TrainingConfig c = config(DType::f32);
    c.method.mapl.gradient = gradient;
    Pipeline p(c, BackendKind::cpu);
    for (int step = 1; step <= 4; ++step) {
      p.step(2 * step, 2, 1, {});
      synchronise(p, step, 1e-2);
      for (int b = 0; b < 2; ++b) {
        const Tensor here = projector(p, b), there = received_projector(p, b);
        EXPECT_EQ(std::memcmp(here.data, there.data, here.bytes()), 0) << gradient;
        EXPECT_EQ(p.codec_after(b).handshake(p.ops()), p.codec_before(b + 1).handshake(p.ops()));
      }
    }
  }
}

// Longer steps than the quintic bears, as a large lr_mult makes them.
TEST(Mapl, ALongStepStaysOnTheManifold) {
  Manifold f(BackendKind::cpu, DType::f32);
  Context ctx = f.context();
  Tensor a = f.on_manifold(24, 6, 1), m = f.matrix(24, 6, 2, 0), g = f.matrix(24, 6, 3);
  for (int step = 0; step < 20; ++step) {
    f.ops().random_normal(g, Philox{9}, static_cast<uint64_t>(step), 1.0);
    spel_step(ctx, a, m, g, 0.6, {});
    EXPECT_LT(f.orthonormality_error(a), 5e-6);
  }
}

// A phase may freeze what was learned, or quantise it; tables and projectors go on.
TEST(Mapl, APhaseGoesOnWithTheProjector) {
  TrainingConfig learn = tiny_run(3, "mapl", DType::f32, 4, 1), freeze = learn, quantise = learn;
  learn.evaluate_every = freeze.evaluate_every = quantise.evaluate_every = 0;
  freeze.first_step = quantise.first_step = 3;
  freeze.tokens_before = quantise.tokens_before = 2 * 4 * 9;
  freeze.method.mapl.projector = "frozen";
  quantise.method.mapl.vq = {.on = true, .groups = 2, .codes = 6};
  const HashedTokens tokens(learn.shape);
  const auto state = [](const Outcome& o, size_t snapshot) {
    const ParameterState* p = o.snapshots.at(snapshot).find("boundaries.0.receiver.projector");
    return p == nullptr ? std::vector<std::byte>{} : p->master;
  };
  const Outcome frozen = run({{learn, &tokens}, {freeze, &tokens}}, {.checkpoint_every = 2});
  EXPECT_FALSE(state(frozen, 0).empty());
  EXPECT_EQ(state(frozen, 0), state(frozen, 1));
  const Outcome coded = run({{learn, &tokens}, {quantise, &tokens}}, {.checkpoint_every = 2});
  EXPECT_EQ(coded.steps.size(), 4u);
}

TEST(Mapl, WrongOptionsAreRefused) {
  const auto refused = [](void (*choose)(MethodOptions&), const char* text) {
    TrainingConfig c = tiny(3, "mapl", DType::f32);
    choose(c.method);
    try {
      make_method(c.method, c.shape, c.dtype);
      ADD_FAILURE() << text << ": was accepted";
    } catch (const std::invalid_argument& e) {
      EXPECT_THAT(e.what(), HasSubstr(text));
    }
  };
  refused([](MethodOptions& o) { o.rank = 33; }, "rank 33 is outside 1 to the model's width 32");
  refused([](MethodOptions& o) { o.ratio = 4; }, "exactly one of rank and ratio");
  refused([](MethodOptions& o) { o.mapl.projector = "adam"; },
          "allowed: spel, frozen, sgd_qr, free_muon");
  refused(
      [](MethodOptions& o) {
        o.rank.reset();
        o.ratio = 4;
        o.mapl.vq.on = true;
      },
      "takes a rank");
}

TEST(Mapl, TheRatioCountsWhatIsSynchronised) {
  TrainingConfig c = tiny(3, "mapl", DType::f32);
  c.method.rank.reset();
  c.method.ratio = 4;
  c.method.batch = {18, 2, 1};
  const int few = *make_method(c.method, c.shape, c.dtype)->rank();
  c.method.batch = {1 << 19, 2, 1};
  const int many = *make_method(c.method, c.shape, c.dtype)->rank();
  EXPECT_LT(few, many);
  EXPECT_EQ(many, 8);  // 2 * 32 * 4 / (2 * 8 * 4 + 2): 3.9
}

}  // namespace
}  // namespace strait::testing
