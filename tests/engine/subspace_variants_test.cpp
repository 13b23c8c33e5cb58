// Invariants 12-14 of specs/subspace_models.md, section 9, and 5-7 and 16 for variants A and B, which store full matrices. Double
// precision on the reference backend where the statement is exact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/run_phases.h"
#include "tests/engine/subspace_support.h"

namespace strait::testing {
namespace {

constexpr const char* kFull[] = {"projected_gradient", "projected_weights"};

TrainingConfig variant(const std::string& name, DType dtype) {
  return with_variant(tiny(3, "subspace", dtype), name);
}

// The worst ||W Q|| / ||W|| of all constrained matrices.
double worst_leak(Pipeline& p) {
  double worst = 0;
  for (Parameter* q : p.all())
    if (q->name.ends_with(kInSubspace))
      worst = std::max(worst, outside_share(q->master, basis_of(p, 0)));
  return worst;
}

// Z U^T (rows,d).
std::vector<double> expanded(const Tensor& z, const Buffer& basis) {
  const int64_t d = basis.shape[0], k = basis.shape[1];
  std::vector<double> w;
  for (int64_t r = 0; r < z.size(0); ++r)
    for (int64_t c = 0; c < d; ++c) {
      double sum = 0;
      for (int64_t j = 0; j < k; ++j) sum += at(z, r * k + j) * at(basis.value, c * k + j);
      w.push_back(sum);
    }
  return w;
}

std::string in_coordinates(const std::string& name) {
  return name.ends_with(kInSubspace)
             ? name.substr(0, name.size() - kInSubspace.size()) + std::string(kCoordinates)
             : name;
}

// Every parameter of `full` is that of `c`, a pipeline of variant C.
void expect_same_weights(Pipeline& full, Pipeline& c, double tolerance) {
  for (Parameter* q : full.all()) {
    const Parameter& other = c.find(in_coordinates(q->name));
    EXPECT_LE(nrmse(values(q->master),
                    held(*q) ? expanded(other.master, basis_of(c, 0)) : values(other.master)),
              tolerance)
        << q->name;
  }
}

TEST(Subspace, AllVariantsBeginAsTheSameModel) {
  Pipeline c(variant("reparametrised", DType::f64), BackendKind::reference);
  for (const char* name : kFull) {
    Pipeline full(variant(name, DType::f64), BackendKind::reference);
    expect_same_weights(full, c, 1e-14);  // sums of four products
    EXPECT_NEAR(full.step(0, 2, 1, {}), c.step(0, 2, 1, {}), 1e-12);
  }
}

TEST(Subspace, Invariant05_EveryBoundaryOfAFullVariantStaysInTheSubspace) {
  for (const char* name : kFull) {
    Pipeline exact(variant(name, DType::f64), BackendKind::reference);
    Pipeline single(variant(name, DType::f32), BackendKind::cpu);
    for (int64_t step = 1; step <= 300; ++step) {  // beyond one re-projection of A
      if (step <= 10) {
        exact.step(step, 2, 1, {});
        exact.update(1e-2, step);
        EXPECT_LE(boundary_residual(exact), 1e-12) << step;
      }
      single.step(step % 32, 2, 2, {});
      single.update(1e-2, step);
    }
    EXPECT_LE(boundary_residual(single), 1e-5) << name;
  }
}

TEST(Subspace, Invariant07_FullVariantsHaveTheGradientsOfTheModelWithoutTheCodec) {
  Pipeline::Hooks off;
  off.codec = false;
  Pipeline p(variant("projected_gradient", DType::f64), BackendKind::reference);
  stir_within(p);
  const double loss = p.step(0, 2, 1, {});
  EXPECT_NEAR(p.step(0, 2, 1, off), loss, 1e-12);  // invariant 6
  const auto raw_on = gradients(p, {});
  p.before_update();
  std::vector<std::vector<double>> projected;
  for (Parameter* q : p.all()) projected.push_back(values(q->grad));
  const auto raw_off = gradients(p, off);
  p.before_update();
  double raw = 0;
  size_t i = 0;
  for (Parameter* q : p.all()) {
    EXPECT_LE(nrmse(projected[i], values(q->grad)), 1e-12) << q->name;
    raw = std::max(raw, nrmse(raw_on[i].second, raw_off[i].second));
    ++i;
  }
  EXPECT_GT(raw, 0.5);  // out of the subspace most of a gradient ends at the boundary (section 3.1)
}

TEST(Subspace, Invariant12_UpdatesLeaveTheSubspaceByRoundingOnly) {
  for (const char* name : kFull) {
    Pipeline single(variant(name, DType::f32), BackendKind::cpu);
    Pipeline exact(variant(name, DType::f64), BackendKind::reference);
    for (int64_t step = 1; step <= 30; ++step) {
      single.step(step % 32, 2, 2, {});
      single.update(1e-2, step);
      EXPECT_LE(worst_leak(single), 1e-6) << name << " after step " << step;  // fp32, as the spec
      if (step > 5) continue;
      exact.step(step, 2, 2, {});
      exact.update(1e-2, step);
      EXPECT_LE(worst_leak(exact), 1e-12) << name << " after step " << step;
    }
  }
}

TEST(Subspace, Invariant12_ElementWiseAdamWWithoutProjectionLeavesIt) {
  Pipeline p(variant("projected_weights", DType::f32), BackendKind::cpu);
  for (int64_t step = 1; step <= 30; ++step) {
    p.step(step % 32, 2, 2, {});
    p.move(1e-2, step);
  }
  EXPECT_GT(worst_leak(p), 0.1);
}

// One row-constant AdamW step on Z with v times k/d, by hand.
void row_constant_step(Parameter& z, std::vector<double>& m, std::vector<double>& v, int64_t d,
                       const AdamWOptions& o, double lr, int64_t step) {
  const int64_t k = z.shape[1];
  const double correction1 = 1 - std::pow(o.beta1, static_cast<double>(step)),
               correction2 = 1 - std::pow(o.beta2, static_cast<double>(step));
  for (int64_t r = 0; r < z.shape[0]; ++r) {
    double squares = 0;
    for (int64_t j = 0; j < k; ++j) squares += std::pow(at(z.grad, r * k + j), 2);
    double& row = v[static_cast<size_t>(r)];
    row = o.beta2 * row + (1 - o.beta2) * squares / static_cast<double>(k);
    const double scaled = row * static_cast<double>(k) / static_cast<double>(d);
    for (int64_t j = 0; j < k; ++j) {
      double& mean = m[static_cast<size_t>(r * k + j)];
      mean = o.beta1 * mean + (1 - o.beta1) * at(z.grad, r * k + j);
      const double old = at(z.master, r * k + j);
      set(z.master, r * k + j,
          old - lr * (mean / correction1 / (std::sqrt(scaled / correction2) + o.eps) +
                      o.weight_decay * old));
    }
  }
}

TEST(Subspace, Invariant13_RowConstantAdamWOnWIsThatOnZWithItsMomentTimesKOverD) {
  Pipeline a(variant("projected_gradient", DType::f64), BackendKind::reference),
      c(variant("reparametrised", DType::f64), BackendKind::reference);
  for (Parameter* q : a.all())
    if (held(*q)) {
      EXPECT_EQ(q->v.shape, (Shape{q->shape[0]})) << "one a row, so the same along d";
    }
  std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> moments;
  for (int64_t step = 1; step <= 6; ++step) {
    a.step(step, 2, 2, {});
    a.update(1e-2, step);
    c.step(step, 2, 2, {});
    std::vector<std::pair<Parameter*, std::vector<double>>> stepped;
    for (Parameter* z : c.all()) {
      if (!held(*z)) continue;
      auto& [m, v] = moments[z->name];
      m.resize(static_cast<size_t>(z->shape.elements()));
      v.resize(static_cast<size_t>(z->shape[0]));
      row_constant_step(*z, m, v, 32, c.config().optimizer.adamw, 1e-2, step);
      stepped.emplace_back(z, values(z->master));
    }
    c.update(1e-2, step);  // the others; what it does to Z is put back
    for (auto& [z, kept] : stepped)
      for (size_t i = 0; i < kept.size(); ++i) set(z->master, static_cast<int64_t>(i), kept[i]);
  }
  // Six steps that each divide by a root of a second moment: rounding of 1e-16, grown by small denominators.
  expect_same_weights(a, c, 1e-9);
}

TEST(Subspace, Invariant14_ProjectedGradientDescentOnWIsThatOnZ) {
  Pipeline a(variant("projected_gradient", DType::f64), BackendKind::reference),
      c(variant("reparametrised", DType::f64), BackendKind::reference);
  for (int64_t step = 0; step < 5; ++step) {
    for (Pipeline* p : {&a, &c}) {
      p->step(2 * step, 2, 1, {});
      p->before_update();
      for (Parameter* q : p->all())
        for (int64_t i = 0; i < q->shape.elements(); ++i)
          set(q->master, i, at(q->master, i) - 0.5 * at(q->grad, i));
    }
    expect_same_weights(a, c, 1e-12);
  }
}

// Section 3.4: a norm that counted what the projection takes away would clip C's model another way.
TEST(Subspace, ClipNormsAreOfProjectedGradients) {
  const HashedTokens data(tiny(3, "subspace", DType::f64).shape);
  const auto first_norm = [&](const std::string& name) {
    TrainingConfig c = variant(name, DType::f64);
    c.clip_norm = 1;
    return run({{c, &data}}, {}, BackendKind::reference).steps.at(0).grad_norm;
  };
  EXPECT_NEAR(first_norm("projected_gradient"), first_norm("reparametrised"), 1e-12);
  EXPECT_GT(first_norm("projected_weights"), first_norm("reparametrised"));
}

// Training B at k = d is training the unconstrained model whose embedding is T_fixed + T_S: P is the identity, and AdamW knows no
// rotation. Without weight decay, which would pull T_S and T_fixed + T_S to different places.
TEST(Subspace, Invariant16_TrainingAtFullRankIsTrainingTheUnconstrainedModel) {
  TrainingConfig full = variant("projected_weights", DType::f64);
  full.method.rank = full.shape.width;
  full.optimizer.adamw.weight_decay = 0;
  TrainingConfig free = tiny(3, "none", DType::f64);
  free.optimizer.adamw.weight_decay = 0;
  Pipeline b(full, BackendKind::reference), dense(free, BackendKind::reference);
  const Buffer& fixed = *subspace_token_table(b.list(0), full.shape, full.method.basis_seed);
  for (Parameter* q : b.all()) {
    if (!held(*q)) continue;
    Parameter& w = dense.find(q->name.substr(0, q->name.size() - kInSubspace.size()) + ".weight");
    const int64_t rows = q->shape[0], d = q->shape[1];
    const bool embedding = w.shape == q->shape && w.name.starts_with("model.embed");
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < d; ++c)
        set(w.master, embedding ? r * d + c : c * rows + r,
            at(q->master, r * d + c) + (embedding ? at(fixed.value, r * d + c) : 0.0));
  }
  for (int64_t step = 1; step <= 8; ++step) {
    // Rounding of 1e-16 a step, through AdamW's division.
    EXPECT_NEAR(b.step(2 * step, 2, 1, {}), dense.step(2 * step, 2, 1, {}), 1e-9) << step;
    b.update(1e-2, step);
    dense.update(1e-2, step);
  }
}

TEST(Subspace, MuonIsRefusedWhereMatricesAreStoredAtFullWidth) {
  for (const ParameterGroup group : {ParameterGroup::matrix, ParameterGroup::embedding}) {
    TrainingConfig c = tiny(3, "subspace", DType::f32);
    c.optimizer.of(group).rule = UpdateRule::muon;
    EXPECT_NO_THROW(validate(c));
    for (const char* name : kFull) {
      try {
        validate(with_variant(c, name));
        FAIL() << "accepted";
      } catch (const std::invalid_argument& e) {
        EXPECT_THAT(e.what(), ::testing::HasSubstr("/compression/pipeline/variant is"));
      }
    }
  }
}

TEST(Subspace, LayersOfTheLastStageMayBeConstrainedToo) {
  TrainingConfig c = tiny(3, "subspace", DType::f64);
  c.full_rank_layers = 0;
  Pipeline p(c, BackendKind::reference);
  EXPECT_EQ(p.find("model.layers.5.mlp.down_proj.coordinates").shape, (Shape{44, 4}));
  EXPECT_LE(boundary_residual(p), 1e-12);
  c.full_rank_layers = 2;
  Pipeline usual(c, BackendKind::reference),
      unset(tiny(3, "subspace", DType::f64), BackendKind::reference);
  EXPECT_EQ(usual.step(0, 2, 1, {}), unset.step(0, 2, 1, {}));
  c.full_rank_layers = 3;
  try {
    validate(c);
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("full_rank_layers is 3; allowed: 0 to 2"));
  }
}

}  // namespace
}  // namespace strait::testing
