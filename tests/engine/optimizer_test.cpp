// Muon against its formulas in double precision, groups of parameters with settings of their own, and what both mean for layout,
// checkpoints, phases and grids.
#include "engine/optimizer/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"
#include "tests/engine/symmetric_eigen.h"

namespace strait::testing {
namespace {

// One matrix of each kind that a model has, and what stays with AdamW.
struct Toy {
  ParameterList list;
  Parameter *stacked, *tall, *transposed, *gains, *table;
  std::unique_ptr<DeviceMemory> scratch_memory, one_memory;
  std::unique_ptr<Backend> ops;
  std::optional<Optimizer> optimizer;

  Toy(BackendKind kind, DType dtype, const OptimizerOptions& options)
      : list(dtype), ops(make_backend(kind, 1)) {
    const auto matrix = [&](const char* name, Shape shape, ParameterGroup group) {
      return list.declare(name, shape, group, normal(3, name, 0.3));
    };
    gains = list.declare("gains", {6}, ParameterGroup::vector, ones());
    stacked = matrix("stacked", {8, 6}, ParameterGroup::matrix);
    stacked->stacked = {4, 2, 2};
    tall = matrix("tall", {12, 5}, ParameterGroup::bottleneck);
    transposed = matrix("transposed", {12, 3}, ParameterGroup::matrix);
    transposed->input_first = true;
    table = matrix("table", {9, 6}, ParameterGroup::embedding);
    optimizer.emplace(options, list);
    list.allocate(*ops);
    scratch_memory = ops->allocate(1 << 16);
    one_memory = ops->allocate(8);
  }
  Matrix gradient(const Parameter& p, int64_t step) const {
    Matrix g{p.shape[0], p.shape.rank == 2 ? p.shape[1] : 1};
    for (size_t i = 0; i < g.x.size(); ++i)
      g.x[i] = normal_at(Philox{17}, hash_name(p.name, static_cast<uint64_t>(step)), i);
    return g;
  }
  void step(int64_t step, double lr, double clip) {
    Arena scratch(scratch_memory->data(), scratch_memory->bytes(), "scratch");
    Context ctx{*ops, scratch};
    const Tensor one(one_memory->data(), statistics_of(list.dtype()), {1});
    ops->fill(one, clip);
    for (Parameter& p : list.parameters()) upload(*ops, p.grad, gradient(p, step));
    optimizer->step(ctx, list, {LearningRateSchedule::Kind::constant, lr, 0, 1, 1}, step, one);
  }
  Matrix value(const Parameter& p) const { return matrix_of(p, p.value); }
  Matrix master(const Parameter& p) const { return matrix_of(p, p.master); }

 private:
  Matrix matrix_of(const Parameter& p, const Tensor& t) const {
    return download(*ops, p.shape.rank == 2 ? t : t.view({p.shape[0], 1}));
  }
};

Matrix rows_of(const Matrix& m, int64_t first, int64_t count) {
  Matrix part{count, m.columns};
  std::copy_n(m.x.begin() + first * m.columns, count * m.columns, part.x.begin());
  return part;
}

// Five iterations of Muon's quintic, written out on the smaller side.
Matrix five_iterations(Matrix x) {
  if (x.rows < x.columns) return transposed(five_iterations(transposed(x)));
  double norm = 0;
  for (double v : x.x) norm += v * v;
  for (double& v : x.x) v /= std::sqrt(norm);
  for (int i = 0; i < 5; ++i) {
    const Matrix gram = product(transposed(x), x), square = product(gram, gram);
    Matrix polynomial{gram.rows, gram.columns};
    for (size_t k = 0; k < polynomial.x.size(); ++k)
      polynomial.x[k] = -4.7750 * gram.x[k] + 2.0315 * square.x[k];
    for (int64_t k = 0; k < polynomial.rows; ++k) polynomial(k, k) += 3.4445;
    x = product(x, polynomial);
  }
  return x;
}

// W after `steps` steps by the formulas of engine/optimizer/muon.h.
Matrix expected(const Toy& toy, const Parameter& p, Matrix w, int steps, double lr, double clip,
                const MuonOptions& o) {
  Matrix m{w.rows, w.columns};
  for (int t = 1; t <= steps; ++t) {
    const Matrix g = toy.gradient(p, t);
    Matrix u = m;
    for (size_t i = 0; i < m.x.size(); ++i) {
      m.x[i] = o.momentum * m.x[i] + (1 - o.momentum) * clip * g.x[i];
      u.x[i] = o.nesterov ? o.momentum * m.x[i] + (1 - o.momentum) * clip * g.x[i] : m.x[i];
    }
    int64_t first = 0;
    for (const int64_t rows : p.stacked.empty() ? std::vector{w.rows} : p.stacked) {
      const Matrix d = five_iterations(rows_of(u, first, rows));
      const double out = static_cast<double>(p.input_first ? w.columns : rows),
                   in = static_cast<double>(p.input_first ? rows : w.columns);
      const double scale = o.scale == MuonScale::spectral ? std::sqrt(std::max(1.0, out / in))
                           : o.scale == MuonScale::rms    ? 0.2 * std::sqrt(std::max(out, in))
                                                          : 1.0;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < w.columns; ++j)
          w(first + i, j) = (1 - lr * o.weight_decay) * w(first + i, j) - lr * scale * d(i, j);
      first += rows;
    }
  }
  return w;
}

double largest_difference(const Matrix& a, const Matrix& b) {
  double d = 0;
  for (size_t i = 0; i < a.x.size(); ++i) d = std::max(d, std::abs(a.x[i] - b.x[i]));
  return d;
}

// f64 and f32: rounding, amplified by iterations that are steep at 0. bf16: the iterations themselves are good to a few of its eight
// bits, times a rate of 0.02 and three steps.
TEST(Muon, FollowsItsFormulas) {
  struct Subject {
    BackendKind kind;
    DType dtype;
    double bound;
  };
  for (const Subject& s : {Subject{BackendKind::reference, DType::f64, 1e-12},
                           {BackendKind::cpu, DType::f32, 1e-5},
                           {BackendKind::reference, DType::bf16, 5e-3},
                           {BackendKind::cpu, DType::bf16, 5e-3}})
    for (const bool nesterov : {true, false})
      for (const MuonScale scale : {MuonScale::spectral, MuonScale::rms, MuonScale::none}) {
        OptimizerOptions o;
        o.rule = UpdateRule::muon;
        o.muon.nesterov = nesterov;
        o.muon.scale = scale;
        Toy toy(s.kind, s.dtype, o);
        std::vector<Matrix> before;
        const std::vector<Parameter*> matrices = {toy.stacked, toy.tall, toy.transposed};
        for (const Parameter* p : matrices) before.push_back(toy.master(*p));
        for (int64_t t = 1; t <= 3; ++t) toy.step(t, 1e-3, 0.5);
        for (size_t i = 0; i < matrices.size(); ++i)
          EXPECT_LT(
              largest_difference(toy.master(*matrices[i]),
                                 expected(toy, *matrices[i], before[i], 3, 0.02, 0.5, o.muon)),
              s.bound)
              << matrices[i]->name << " " << name_of(s.dtype);
        EXPECT_LE(largest_difference(toy.value(*toy.tall), toy.master(*toy.tall)),
                  s.dtype == DType::bf16 ? 0x1p-8 * 2 : 0);  // rounded once; entries are below 2
      }
}

TEST(Muon, LeavesWhatHasNoGradientWhereItIs) {
  OptimizerOptions o;
  o.rule = UpdateRule::muon;
  o.muon.weight_decay = 0;
  Toy toy(BackendKind::cpu, DType::f32, o);
  const Matrix before = toy.master(*toy.tall);
  toy.step(1, 1e-3, 0.0);
  EXPECT_EQ(toy.master(*toy.tall).x, before.x);
}

TEST(Muon, KeepsNoSecondMoments) {
  OptimizerOptions o;
  o.rule = UpdateRule::muon;
  Toy toy(BackendKind::cpu, DType::f32, o);
  for (const Parameter* p : {toy.stacked, toy.tall, toy.transposed}) EXPECT_FALSE(p->v.defined());
  for (const Parameter* p : {toy.gains, toy.table}) EXPECT_TRUE(p->v.defined());
  EXPECT_EQ(toy.list.flat_v().elements(), 2 * 64);  // two small tensors, padded
  for (const ParameterState& p : save_parameters(*toy.ops, toy.list))
    EXPECT_EQ(p.v.empty(), p.name != "gains" && p.name != "table") << p.name;
  TrainingConfig c = tiny(2, "none", DType::f32);
  const size_t adamw = dry_run(c).ranks[0].persistent_bytes;
  c.optimizer.rule = UpdateRule::muon;
  size_t matrices = 0;  // three layers; every matrix is a multiple of the padding
  for (int64_t rows : {64 * 32, 32 * 32, 88 * 32, 32 * 44})
    matrices += static_cast<size_t>(3 * rows * 4);
  EXPECT_EQ(dry_run(c).ranks[0].persistent_bytes, adamw - matrices);
}

// A group's rate and decay do to it what the optimizer's own would do, and nothing to the others, bit for bit.
TEST(OptimizerGroups, HaveTheirOwnRateDecayAndRule) {
  const auto after = [](const OptimizerOptions& o, double lr) {
    Toy toy(BackendKind::cpu, DType::f32, o);
    for (int64_t t = 1; t <= 2; ++t) toy.step(t, lr, 1);
    std::map<std::string, std::vector<double>> values;
    for (const Parameter& p : toy.list.parameters()) values[p.name] = toy.master(p).x;
    return values;
  };
  const auto plain = after({}, 1e-3), faster = after({}, 5e-3);
  OptimizerOptions o;
  o.of(ParameterGroup::embedding).lr = 5e-3;
  auto found = after(o, 1e-3);
  for (const auto& [name, x] : found)
    EXPECT_EQ(x, name == "table" ? faster.at(name) : plain.at(name)) << name;

  OptimizerOptions all_decay;
  all_decay.adamw.weight_decay = 0.7;
  o = {};
  o.of(ParameterGroup::bottleneck).weight_decay = 0.7;
  found = after(o, 1e-3);
  for (const auto& [name, x] : found)
    EXPECT_EQ(x, (name == "tall" ? after(all_decay, 1e-3) : plain).at(name)) << name;
  o = {};
  o.of(ParameterGroup::vector).weight_decay = 0.7;  // which does not decay otherwise
  EXPECT_NE(after(o, 1e-3).at("gains"), plain.at("gains"));

  OptimizerOptions muon;
  muon.rule = UpdateRule::muon;
  o = muon;
  o.of(ParameterGroup::bottleneck).rule = UpdateRule::adamw;
  found = after(o, 1e-3);
  for (const auto& [name, x] : found) {
    const bool by_muon = name == "stacked" || name == "transposed";
    EXPECT_EQ(x, (by_muon ? after(muon, 1e-3) : plain).at(name)) << name;
  }
  o = {};
  o.of(ParameterGroup::matrix).rule = UpdateRule::muon;
  EXPECT_EQ(after(o, 1e-3), found);
  o.of(ParameterGroup::matrix).lr = 0.3;
  EXPECT_EQ(
      o.learning_rate(ParameterGroup::matrix, {LearningRateSchedule::Kind::linear, 1, 4, 8, 0}, 2),
      0.15);
}

TEST(OptimizerGroups, LieTogetherOnlyWhereTheyDiffer) {
  Toy plain(BackendKind::cpu, DType::f32, {});
  ASSERT_EQ(plain.list.ranges().size(), 2u);  // what decays, then what does not
  EXPECT_EQ(plain.list.ranges()[0].begin, 0);
  EXPECT_EQ(plain.list.ranges()[1].end - plain.list.ranges()[1].begin, 64);
  EXPECT_EQ(plain.list.ranges()[1].end, plain.list.flat_v().elements());
  OptimizerOptions o;
  o.rule = UpdateRule::muon;
  o.of(ParameterGroup::embedding).lr = 1;
  EXPECT_EQ(Toy(BackendKind::cpu, DType::f32, o).list.ranges().size(), 3u);
}

TEST(OptimizerGroups, RefuseWhatCannotBe) {
  const auto refusal = [](const auto& change) -> std::string {
    TrainingConfig c = tiny(1, "none", DType::f32);
    change(c.optimizer);
    try {
      validate(c);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(
      refusal([](OptimizerOptions& o) { o.of(ParameterGroup::vector).rule = UpdateRule::muon; }),
      HasSubstr("needs matrices"));
  EXPECT_THAT(refusal([](OptimizerOptions& o) { o.of(ParameterGroup::head).lr = -1; }),
              HasSubstr("group head lr is -1"));
  EXPECT_THAT(refusal([](OptimizerOptions& o) { o.muon.steps = 0; }), HasSubstr("steps is 0"));
  EXPECT_THAT(refusal([](OptimizerOptions& o) { o.muon.momentum = 1; }),
              HasSubstr("momentum is 1"));
}

TrainingConfig muon_run(int pipeline, const std::string& method, DType dtype) {
  TrainingConfig c = tiny_run(pipeline, method, dtype, 6, 1);
  c.optimizer.rule = UpdateRule::muon;
  return c;
}

TEST(MuonTraining, IsTheSameOnOneStageAndOnFour) {
  TrainingConfig one = muon_run(1, "none", DType::f32), four = muon_run(4, "none", DType::f32);
  one.clip_norm = four.clip_norm = 0;  // a norm over four ranks is summed in another order
  const HashedTokens data(one.shape);
  const Outcome a = run({{one, &data}}, {.checkpoint_every = 6}),
                b = run({{four, &data}}, {.checkpoint_every = 6});
  for (const ParameterState& p : a.snapshots.back().parameters)
    EXPECT_EQ(b.snapshots.back().find(p.name)->master, p.master) << p.name;
}

TEST(MuonTraining, LearnsByHeart) {
  for (const char* method : {"none", "subspace", "resbm"})
    for (const DType dtype : {DType::f32, DType::bf16}) {
      TrainingConfig c = muon_run(2, method, dtype);
      c.steps = c.learning_rate.total_steps = 40;
      c.evaluate_every = 0;
      class EightSequences final : public BatchSource {
       public:
        explicit EightSequences(const ModelShape& s) : tokens_(s) {}
        void training(int64_t i, int32_t* ids, int32_t* targets) const override {
          tokens_.training(i % 8, ids, targets);
        }
        void validation(int64_t i, int32_t* ids, int32_t* targets) const override {
          tokens_.training(i % 8, ids, targets);
        }

       private:
        HashedTokens tokens_;
      } data(c.shape);
      EXPECT_LT(run({{c, &data}}).steps.back().loss, 3.4) << method;  // from ln 61 = 4.1
    }
}

TEST(MuonTraining, APhaseChangesTheRuleAndBack) {
  const TrainingConfig before = tiny_run(2, "subspace", DType::f32, 7, 1);
  TrainingConfig between = before, after = before;
  const auto tokens = static_cast<uint64_t>(before.batch * before.shape.context);
  between.optimizer.rule = UpdateRule::muon;
  between.first_step = 3;
  between.tokens_before = 2 * tokens;
  after.first_step = 6;
  after.tokens_before = 5 * tokens;
  const HashedTokens data(before.shape);
  const std::vector<TrainingPhase> phases = {{before, &data}, {between, &data}, {after, &data}};
  const Outcome whole = run(phases, {.checkpoint_every = 1});
  ASSERT_EQ(whole.snapshots.size(), 7u);
  const std::string matrix = "model.layers.0.mlp.gate_up_proj.weight";
  for (size_t i = 0; i < 7; ++i) {
    const bool muon = i >= 2 && i < 5;
    EXPECT_EQ(whole.snapshots[i].find(matrix)->v.empty(), muon) << i;
    EXPECT_FALSE(whole.snapshots[i].find("model.norm.weight")->v.empty()) << i;
    EXPECT_TRUE(std::isfinite(whole.steps[i].loss));
    const Outcome rest = run(phases, {.start = &whole.snapshots[i]});
    EXPECT_EQ(rest.result.parameters_hash, whole.result.parameters_hash) << i;
  }
}

}  // namespace
}  // namespace strait::testing
