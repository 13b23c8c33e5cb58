// Invariants 19-21 of specs/subspace_models.md, section 9: the Grassmann step, and the basis of a pipeline that moves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "engine/manifold/grassmann.h"
#include "engine/manifold/orthonormal.h"
#include "tests/engine/run_phases.h"
#include "tests/engine/subspace_support.h"

namespace strait::testing {
namespace {

using ::testing::HasSubstr;
using Values = std::vector<double>;

constexpr int64_t kD = 12, kK = 3;

// Gradients G (40,d) with a decaying spectrum, their C = G^T G, and a random U.
struct Problem {
  Problem() {
    for (int64_t i = 0; i < 40 * kD; ++i)
      g.push_back(normal_at(Philox{3}, 1, static_cast<uint64_t>(i)) *
                  std::pow(0.7, static_cast<double>(i % kD)));
    for (int64_t i = 0; i < kD * kK; ++i)
      u.push_back(normal_at(Philox{4}, 1, static_cast<uint64_t>(i)));
    orthonormalise(u, kD, kK);
    c.assign(static_cast<size_t>(kD * kD), 0.0);
    for (int64_t n = 0; n < 40; ++n)
      for (int64_t i = 0; i < kD; ++i)
        for (int64_t j = 0; j < kD; ++j)
          c[static_cast<size_t>(i * kD + j)] +=
              g[static_cast<size_t>(n * kD + i)] * g[static_cast<size_t>(n * kD + j)];
  }
  Values statistic(const Values& basis) const {  // Y = C U
    Values y(static_cast<size_t>(kD * kK), 0.0);
    for (int64_t i = 0; i < kD; ++i)
      for (int64_t l = 0; l < kD; ++l)
        for (int64_t j = 0; j < kK; ++j)
          y[static_cast<size_t>(i * kK + j)] +=
              c[static_cast<size_t>(i * kD + l)] * basis[static_cast<size_t>(l * kK + j)];
    return y;
  }
  // F(span x): what is lost of the gradients' energy.
  double objective(Values x) const {
    orthonormalise(x, kD, kK);
    const Values y = statistic(x);
    double all = 0;
    for (int64_t i = 0; i < kD; ++i) all += c[static_cast<size_t>(i * kD + i)];
    return all - std::inner_product(x.begin(), x.end(), y.begin(), 0.0);
  }
  Values g, c, u;
};

// a^T b, both (d,k).
Values gram(const Values& a, const Values& b) {
  Values r(static_cast<size_t>(kK * kK), 0.0);
  for (int64_t i = 0; i < kD; ++i)
    for (int64_t p = 0; p < kK; ++p)
      for (int64_t q = 0; q < kK; ++q)
        r[static_cast<size_t>(p * kK + q)] +=
            a[static_cast<size_t>(i * kK + p)] * b[static_cast<size_t>(i * kK + q)];
  return r;
}

// x (d,k) times the orthogonal r (k,k).
Values turned(const Values& x, const Values& r, int64_t d, int64_t k) {
  Values y(x.size(), 0.0);
  for (int64_t i = 0; i < d; ++i)
    for (int64_t p = 0; p < k; ++p)
      for (int64_t q = 0; q < k; ++q)
        y[static_cast<size_t>(i * k + q)] +=
            x[static_cast<size_t>(i * k + p)] * r[static_cast<size_t>(p * k + q)];
  return y;
}

Values rotation(int64_t k) {
  Values r;
  for (int64_t i = 0; i < k * k; ++i)
    r.push_back(normal_at(Philox{9}, 2, static_cast<uint64_t>(i)));
  orthonormalise(r, k, k);
  return r;
}

// The distance of spans: ||P - P'||_F.
double span_distance(const Values& a, const Values& b) {
  const Values g = gram(a, b);
  const double shared = std::inner_product(g.begin(), g.end(), g.begin(), 0.0);
  return std::sqrt(std::max(0.0, 2.0 * (static_cast<double>(kK) - shared)));
}

TEST(Subspace, Invariant19_TheRiemannianGradientIsThatOfFiniteDifferences) {
  const Problem p;
  const Values r = grassmann_gradient(p.u, p.statistic(p.u), kD, kK);
  for (double x : gram(p.u, r)) EXPECT_NEAR(x, 0, 1e-12);
  for (const int64_t i : {int64_t{0}, int64_t{7}, int64_t{20}, kD * kK - 1}) {
    // Along a tangent direction: e_i projected to U^T X = 0.
    Values x(p.u.size(), 0.0);
    x[static_cast<size_t>(i)] = 1;
    const Values inside = turned(p.u, gram(p.u, x), kD, kK);
    for (size_t j = 0; j < x.size(); ++j) x[j] -= inside[j];
    const double h = 1e-5;
    Values above = p.u, below = p.u;
    for (size_t j = 0; j < x.size(); ++j) above[j] += h * x[j], below[j] -= h * x[j];
    // Central differences: h^2 truncation and rounding of 1e-16 / h, of sums of some tens.
    EXPECT_NEAR((p.objective(above) - p.objective(below)) / (2 * h),
                std::inner_product(r.begin(), r.end(), x.begin(), 0.0), 1e-6);
  }
}

TEST(Subspace, Invariant19_SmallStepsLoseLessAndAFullOneIsOrthogonalIteration) {
  const Problem p;
  const Values y = p.statistic(p.u);
  for (const double step : {1e-3, 1e-2, 0.1})
    EXPECT_LT(p.objective(grassmann_step(p.u, y, kD, kK, {step, 1.5})), p.objective(p.u));
  Values iterated = y;
  orthonormalise(iterated, kD, kK);
  const Values full = grassmann_step(p.u, y, kD, kK, {1.0, 1.5707});
  EXPECT_LE(span_distance(full, iterated), 1e-7);  // a root of rounding
  const Values g = gram(full, full);
  for (int64_t i = 0; i < kK * kK; ++i)
    EXPECT_NEAR(g[static_cast<size_t>(i)], i % (kK + 1) == 0 ? 1 : 0, 1e-13);
  // Aligned: U^T U+ is symmetric, with cosines between 0 and 1 on its diagonal.
  const Values r = gram(p.u, full);
  for (int64_t i = 0; i < kK; ++i) {
    EXPECT_GT(r[static_cast<size_t>(i * kK + i)], 0);
    for (int64_t j = 0; j < i; ++j)
      EXPECT_NEAR(r[static_cast<size_t>(i * kK + j)], r[static_cast<size_t>(j * kK + i)], 1e-12);
  }
  // Repeated, it arrives at the span of the k largest eigenvectors.
  Values u = p.u;
  for (int i = 0; i < 400; ++i) u = grassmann_step(u, p.statistic(u), kD, kK, {1.0, 0.2});
  Values vectors;
  Values eigenvalues = symmetric_eigenvalues(p.c, kD, vectors);
  std::sort(eigenvalues.begin(), eigenvalues.end());
  EXPECT_NEAR(p.objective(u), std::accumulate(eigenvalues.begin(), eigenvalues.end() - kK, 0.0),
              1e-8);
}

TEST(Subspace, Invariant19_TheSpanDoesNotDependOnTheBasisAndTheAngleIsKept) {
  const Problem p;
  const Values q = rotation(kK), turned_u = turned(p.u, q, kD, kK);
  const GrassmannStep o{0.3, 1.5};
  EXPECT_LE(span_distance(grassmann_step(p.u, p.statistic(p.u), kD, kK, o),
                          grassmann_step(turned_u, p.statistic(turned_u), kD, kK, o)),
            1e-7);  // a root of rounding
  const Values capped = grassmann_step(p.u, p.statistic(p.u), kD, kK, {1.0, 0.05});
  Values vectors;
  const Values cosines = symmetric_eigenvalues(gram(p.u, capped), kK, vectors);
  EXPECT_NEAR(std::acos(*std::min_element(cosines.begin(), cosines.end())), 0.05, 1e-9);
  EXPECT_EQ(grassmann_step(p.u, Values(p.u.size(), 0.0), kD, kK, o), p.u);
  EXPECT_EQ(grassmann_step(p.u, Values(p.u.size(), std::nan("")), kD, kK, o), p.u);
}

struct Way {
  const char *variant, *transport;
};
constexpr Way kWays[] = {{"reparametrised", "project"},     {"reparametrised", "keep"},
                         {"projected_gradient", "project"}, {"projected_gradient", "keep"},
                         {"projected_weights", "project"},  {"projected_weights", "keep"}};

TrainingConfig moving(const Way& way, DType dtype) {
  TrainingConfig c = with_variant(tiny(3, "subspace", dtype), way.variant);
  c.method.transport = way.transport;
  c.method.update_every = 1;
  c.method.update_step = 1;
  c.method.max_angle = 0.5;
  return c;
}

TEST(Subspace, Invariant20_AfterAMoveTheModelIsExactAgain) {
  for (const Way& way : kWays) {
    SCOPED_TRACE(std::string(way.variant) + " " + way.transport);
    Pipeline p(moving(way, DType::f64), BackendKind::reference);
    stir_within(p);
    p.step(0, 2, 1, {});
    const Values before = values(basis_of(p, 0).value);
    end_step(p, 1);
    const Values u = values(basis_of(p, 0).value);
    EXPECT_GT(nrmse(u, before), 1e-2);
    for (int s = 1; s < 3; ++s) EXPECT_EQ(values(basis_of(p, s).value), u);
    for (int s = 0; s < 2; ++s)
      EXPECT_EQ(p.codec_after(s).handshake(p.ops()), p.codec_before(s + 1).handshake(p.ops()));
    EXPECT_LE(boundary_residual(p), 1e-12);  // invariant 5
    Pipeline::Hooks off;
    off.codec = false;
    EXPECT_NEAR(p.step(0, 2, 1, {}, false), p.step(0, 2, 1, off, false), 1e-12);  // 6
    gradients(p, {});
    p.before_update();
    std::vector<Values> on;
    for (Parameter* q : p.all()) on.push_back(values(q->grad));
    gradients(p, off);
    p.before_update();
    size_t i = 0;
    for (Parameter* q : p.all()) {  // 7; B's optimizer sees raw gradients, which differ
      if (!(held(*q) && p.config().method.variant == "projected_weights")) {
        EXPECT_LE(nrmse(on[i], values(q->grad)), 1e-12) << q->name;
      }
      ++i;
    }
  }
}

// A link whose other end has the basis `next`.
class GivenBasis final : public ControlLink {
 public:
  GivenBasis(MessagePool& pool, Backend& ops, const Values& next, uint64_t version)
      : pool_(pool), ops_(ops), next_(next), version_(version) {}
  void send(int32_t, Message) override {}
  Message receive(int32_t) override {
    const auto k = static_cast<int64_t>(next_.size()) / 32;
    Message m(pool_, ops_, {{DType::f64, {32, k}}});
    host_upload(ops_, m.section(0), next_);
    m.version = version_;
    return m;
  }
  void sum_over_copies(Tensor) override {}
  void sum_gradient(Tensor) override {}
  void from_first_copy(Tensor, const std::function<void()>& make) override { make(); }
  void compute(const std::function<void()>& work) override { work(); }

 private:
  MessagePool& pool_;
  Backend& ops_;
  Values next_;
  uint64_t version_;
};

TEST(Subspace, Invariant20_AnotherBasisOfTheSameSpanChangesNothing) {
  for (const Way& way : kWays) {
    if (std::string(way.transport) == "keep") continue;
    SCOPED_TRACE(way.variant);
    Pipeline p(moving(way, DType::f64), BackendKind::reference);
    stir_within(p);
    const double loss = p.step(0, 2, 1, {}, false);
    const Values next = turned(values(basis_of(p, 0).value), rotation(4), 32, 4);
    MessagePool pool;
    GivenBasis link(pool, p.ops(), next, 1);
    Context ctx = p.context();
    for (int s = 0; s < 3; ++s) {
      if (s < 2) {
        p.codec_after(s).begin_synchronise(ctx, link);
        p.codec_after(s).end_synchronise(ctx, link, {1, 0.0});
      }
      if (s == 0) continue;
      p.codec_before(s).begin_synchronise(ctx, link);
      p.codec_before(s).end_synchronise(ctx, link, {1, 0.0});
    }
    host_upload(p.ops(), basis_of(p, 2).value, next);  // the last stage would have computed it
    EXPECT_NEAR(p.step(0, 2, 1, {}, false), loss, 1e-12);
  }
}

TEST(Subspace, Invariant21_AnotherVersionIsRefusedAndNotComputed) {
  Pipeline p(moving(kWays[0], DType::f64), BackendKind::reference);
  MessagePool pool;
  const Values same = values(basis_of(p, 0).value);
  GivenBasis link(pool, p.ops(), same, 1), late(pool, p.ops(), same, 3);
  Context ctx = p.context();
  p.codec_after(0).begin_synchronise(ctx, link);
  p.codec_after(0).end_synchronise(ctx, link, {1, 0.0});
  EXPECT_NE(p.codec_after(0).handshake(p.ops()), p.codec_before(1).handshake(p.ops()));
  const auto refusal = [](const std::function<void()>& action) -> std::string {
    try {
      action();
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal([&] { p.step(0, 2, 1, {}, false); }),
              HasSubstr("encoded with version 1 of the codec's state; this end has version 0"));
  p.codec_after(1).begin_synchronise(ctx, late);
  EXPECT_THAT(refusal([&] {
                p.codec_after(1).end_synchronise(ctx, late, {1, 0.0});
              }),
              HasSubstr("encoded with version 3"));
}

TEST(Subspace, Invariant18_ABasisCostsItsBytesOnEveryLinkAndNothingBetweenUpdates) {
  TrainingConfig c = tiny_run(3, "subspace", DType::f32, 6, 1);
  c.clip_norm = 0;  // no other control traffic
  c.method.update_every = 3;
  const HashedTokens data(c.shape);
  const Outcome o = run({{c, &data}});
  for (const record::StepLog& step : o.steps) {
    std::vector<uint64_t> sent;
    for (const record::RankLog& rank : step.ranks)
      for (const record::Entry& e : rank.entries) {
        const auto* send = std::get_if<record::Send>(&e.action);
        if (send != nullptr && send->kind == record::MessageKind::sync)
          sent.push_back(send->payload.count);
      }
    const uint64_t each = 32 * 4 * 4;  // d k 4 (section 7)
    EXPECT_EQ(sent,
              step.step % 3 == 0 ? std::vector<uint64_t>({each, each}) : std::vector<uint64_t>());
  }
  Pipeline p(c, BackendKind::cpu);
  EXPECT_EQ(end_step(p, 3), 2 * p.codec_after(0).expected_sync_bytes(18, 2));
  EXPECT_EQ(end_step(p, 4), 0u);
}

TEST(Subspace, ABasisThatMovesLosesLessOfTheGradient) {
  TrainingConfig c = tiny_run(3, "subspace", DType::f32, 40, 1);
  c.diagnose_every = 5;
  const HashedTokens data(c.shape);
  const auto captured = [&](int64_t every) {
    c.method.update_every = every;
    std::map<std::string, Values> found;
    TrainingObserver observer;
    observer.diagnostic = [&](const record::Diagnostic& d) { found[d.name].push_back(d.value); };
    train(c, BackendKind::cpu, &data, 2, observer);
    for (double x : found["basis_error"]) EXPECT_LE(x, 1e-6);          // invariant 1, fp32
    EXPECT_EQ(found["basis_version"].back(), every == 0 ? 0.0 : 9.0);  // before step 40's
    EXPECT_EQ(found["captured_energy"].empty(), every == 0);
    return found["captured_gradient"].back();
  };
  EXPECT_GT(captured(4), 1.2 * captured(0));
}

}  // namespace
}  // namespace strait::testing
