// A model that goes on under another method: a subspace model folded into a plain LLaMA is the same function, a plain one becomes
// the nearest subspace model, moments go along (engine/codec/subspace_fold.h). In double precision, so that only rounding of the
// last digits is left; 1e-12 stands for sums of some hundred terms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "engine/codec/subspace_fold.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"

namespace strait::testing {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

std::vector<double> doubles(const std::vector<std::byte>& bytes) {
  std::vector<double> v(bytes.size() / sizeof(double));
  if (!v.empty()) std::memcpy(v.data(), bytes.data(), bytes.size());
  return v;
}

std::vector<std::byte> bytes(const std::vector<double>& v) {
  std::vector<std::byte> b(v.size() * sizeof(double));
  if (!b.empty()) std::memcpy(b.data(), v.data(), b.size());
  return b;
}

TrainingConfig config(const std::string& method, int64_t steps) {
  TrainingConfig c = tiny_run(3, method, DType::f64, steps, 1);
  c.clip_norm = 0;  // the norms of W and Z differ
  return c;
}

TrainingConfig from_step(TrainingConfig c, int64_t step) {
  c.first_step = step;
  c.tokens_before = static_cast<uint64_t>((step - 1) * c.batch * c.shape.context);
  return c;
}

// After `steps` steps.
Snapshot trained(const TrainingConfig& c, const Snapshot* start = nullptr) {
  const HashedTokens data(c.shape);
  return run({{c, &data}}, {.start = start, .checkpoint_every = c.steps}, BackendKind::reference)
      .snapshots.back();
}

std::unique_ptr<Method> method_of(const TrainingConfig& c) {
  return make_method(c.method, c.shape, c.dtype);
}

// A state has no moments: nothing that a plain model knows.
bool is_state(const ParameterState& p) { return p.m.empty(); }

// All parameters of `like` as `source` gives them.
Snapshot as_parameters_of(const Snapshot& from, const Method& before, const Method& after,
                          const Snapshot& like) {
  Snapshot to{from.step, from.tokens, from.shape, after.constraint(), "", {}};
  const ParameterSource source = converted(from.source(), before, after);
  for (const ParameterState& p : like.parameters) {
    if (is_state(p)) continue;
    const auto found = source(p.name);
    EXPECT_TRUE(found) << p.name;
    if (found) to.parameters.push_back(*found);
  }
  return to;
}

void expect_equal(const Snapshot& a, const Snapshot& b,
                  std::vector<std::byte> ParameterState::*part, double tolerance) {
  const auto parameters = [](const Snapshot& s) {
    return s.parameters.size() -
           static_cast<size_t>(std::count_if(s.parameters.begin(), s.parameters.end(), is_state));
  };
  ASSERT_EQ(parameters(a), parameters(b));
  for (const ParameterState& p : a.parameters) {
    if (is_state(p)) continue;
    EXPECT_LE(nrmse(doubles(p.*part), doubles(b.find(p.name)->*part)), tolerance) << p.name;
  }
}

TEST(Conversion, ASubspaceModelGoesOnAsAPlainOneWithTheSameFunction) {
  const TrainingConfig held = config("subspace", 6), plain = from_step(config("none", 6), 4);
  const HashedTokens data(held.shape);
  const Outcome whole = run({{held, &data}}, {}, BackendKind::reference),
                freed = run({{held, &data}, {plain, &data}}, {}, BackendKind::reference);
  EXPECT_NEAR(freed.steps[3].loss, whole.steps[3].loss, 1e-12);
  EXPECT_NE(freed.steps[4].loss, whole.steps[4].loss);  // free to leave the subspace
}

TEST(Conversion, ThereAndBackAgainIsTheIdentity) {
  const TrainingConfig plain = config("none", 3);
  const Snapshot like = trained(plain);
  for (const char* variant : {"reparametrised", "projected_gradient", "projected_weights"}) {
    SCOPED_TRACE(variant);
    TrainingConfig held = config("subspace", 3);
    held.method.variant = variant;
    const Snapshot own = trained(held);
    const auto subspace = method_of(held), none = method_of(plain);
    const Snapshot folded = as_parameters_of(own, *subspace, *none, like),
                   back = as_parameters_of(folded, *none, *subspace, own);
    expect_equal(back, own, &ParameterState::master, 1e-12);
    expect_equal(back, own, &ParameterState::m, 1e-12);
    for (const ParameterState& p : back.parameters)
      EXPECT_EQ(p.v.size(), own.find(p.name)->v.size()) << p.name;
  }
}

// From each variant to each other by way of a plain model: one and the same function.
TEST(Conversion, VariantsOfASubspaceModelGoOnAsEachOther) {
  const HashedTokens data(config("subspace", 4).shape);
  const char* variants[] = {"reparametrised", "projected_gradient", "projected_weights"};
  for (const char* before : variants)
    for (const char* after : variants) {
      SCOPED_TRACE(std::string(before) + " to " + after);
      TrainingConfig first = config("subspace", 4), second = from_step(first, 3);
      first.method.variant = before;
      second.method.variant = after;
      const Outcome whole = run({{first, &data}}, {}, BackendKind::reference),
                    two = run({{first, &data}, {second, &data}}, {}, BackendKind::reference);
      EXPECT_NEAR(two.steps[2].loss, whole.steps[2].loss, 1e-12);
    }
}

// The basis has moved: the checkpoint says where it is, not the seed.
TEST(Conversion, AMovedBasisIsThatOfTheState) {
  TrainingConfig held = config("subspace", 6);
  held.method.update_every = 2;
  held.method.max_angle = 0.5;
  const TrainingConfig plain = from_step(config("none", 6), 5);
  TrainingConfig stays = from_step(held, 5), other = stays;
  stays.method.update_every = 0;
  other.method.variant = "projected_gradient";
  const HashedTokens data(held.shape);
  const Outcome whole = run({{held, &data}}, {.checkpoint_every = 4}, BackendKind::reference);
  const Snapshot& moved = whole.snapshots.front();
  EXPECT_GT(nrmse(doubles(moved.find("subspace.U")->master),
                  doubles(trained(config("subspace", 1)).find("subspace.U")->master)),
            1e-2);
  for (const TrainingConfig& later : {plain, stays, other}) {
    const Outcome two = run({{held, &data}, {later, &data}}, {}, BackendKind::reference);
    EXPECT_NEAR(two.steps[4].loss, whole.steps[4].loss, 1e-12) << later.method.method;
  }
  TrainingConfig elsewhere = stays;  // another basis is drawn, not taken from the state
  elsewhere.method.basis_seed += 1;
  const Outcome drawn =
      run({{held, &data}, {elsewhere, &data}}, {.checkpoint_every = 5}, BackendKind::reference);
  TrainingConfig fresh = config("subspace", 1);
  fresh.method.basis_seed = elsewhere.method.basis_seed;
  EXPECT_EQ(drawn.snapshots.front().find("subspace.U")->master,
            trained(fresh).find("subspace.U")->master);
}

// The nearest: what is left over has nothing in the subspace.
TEST(Conversion, APlainModelIsProjected) {
  const TrainingConfig plain = config("none", 2), held = config("subspace", 2);
  const Snapshot free = trained(plain), like = trained(held);
  const auto none = method_of(plain), subspace = method_of(held);
  Snapshot projected = as_parameters_of(free, *none, *subspace, like),
           folded = as_parameters_of(projected, *subspace, *none, free);
  for (ParameterState& p : folded.parameters) {
    std::vector<double> rest = doubles(free.find(p.name)->m);
    const std::vector<double> taken = doubles(p.m);
    for (size_t i = 0; i < rest.size(); ++i) rest[i] -= taken[i];
    p.m = bytes(rest);
  }
  for (const ParameterState& p : as_parameters_of(folded, *none, *subspace, like).parameters)
    if (p.name.ends_with(".coordinates")) {
      EXPECT_THAT(doubles(p.m), Each(::testing::DoubleNear(0, 1e-12))) << p.name;
    }
}

// dL/dZ = (dL/dW)^T U, by training one step from the same function: after it AdamW's first moment is the gradient, scaled.
TEST(Conversion, FirstMomentsAreThoseOfTheOtherModelsGradients) {
  const TrainingConfig held = config("subspace", 1), plain = config("none", 1);
  const auto subspace = method_of(held), none = method_of(plain);
  Snapshot start = trained(held);
  start.step = 0;
  const Snapshot own = trained(held, &start), free = trained(plain, &start);
  expect_equal(as_parameters_of(free, *none, *subspace, own), own, &ParameterState::m, 1e-12);
}

TEST(Conversion, EvenSecondMomentsStayEven) {
  const TrainingConfig held = config("subspace", 1), plain = config("none", 1);
  const auto subspace = method_of(held), none = method_of(plain);
  Snapshot own = trained(held), free = trained(plain);
  for (Snapshot* s : {&own, &free})
    for (ParameterState& p : s->parameters)
      p.v = bytes(std::vector<double>(p.v.size() / sizeof(double), 0.25));
  for (const Snapshot& s : {as_parameters_of(own, *subspace, *none, free),
                            as_parameters_of(free, *none, *subspace, own)})
    for (const ParameterState& p : s.parameters)
      EXPECT_THAT(doubles(p.v), Each(::testing::DoubleNear(0.25, 1e-12))) << p.name;
}

TEST(Conversion, AnotherBasisIsReachedByWayOfThePlainModel) {
  const TrainingConfig held = config("subspace", 2);
  TrainingConfig other = held;
  other.method.basis_seed += 1;
  other.method.rank = 6;
  const auto before = method_of(held), after = method_of(other),
             none = method_of(config("none", 2));
  const Snapshot own = trained(held), like = trained(other);
  const Snapshot direct = as_parameters_of(own, *before, *after, like),
                 by_way = as_parameters_of(
                     as_parameters_of(own, *before, *none, trained(config("none", 2))), *none,
                     *after, like);
  expect_equal(direct, by_way, &ParameterState::master, 0);
  EXPECT_GT(nrmse(doubles(direct.find("model.embed_tokens.coordinates")->master),
                  doubles(like.find("model.embed_tokens.coordinates")->master)),
            1e-3);
}

TEST(Conversion, EveryTensorThatIsConstrainedAlikeKeepsItsBits) {
  const TrainingConfig held = config("subspace", 2);
  const auto method = method_of(held);
  const Snapshot own = trained(held);
  const Snapshot same = as_parameters_of(own, *method, *method, own);
  for (const auto part : {&ParameterState::master, &ParameterState::m, &ParameterState::v})
    expect_equal(same, own, part, 0);
}

// The stage split decides what is constrained: a subspace model whose former last stage now sends is projected there.
TEST(Conversion, AStartOnAnotherSplitOfTheLayersIsConverted) {
  const TrainingConfig three = config("subspace", 2);
  TrainingConfig two = three;
  two.pipeline = 2;
  Snapshot start = trained(three);
  start.step = 0;
  const HashedTokens data(two.shape);
  const Outcome o = run({{two, &data}}, {.start = &start}, BackendKind::reference);
  EXPECT_EQ(o.steps.size(), 2u);
  // Two stages constrain layers 0 to 2, three 0 to 3: all that changes is folded.
  EXPECT_NEAR(o.evaluations.front().validation_loss,
              run({{three, &data}}, {.start = &start}, BackendKind::reference)
                  .evaluations.front()
                  .validation_loss,
              1e-12);
}

TEST(Conversion, PhasesTurnCompressionOnAndOffOnTheWayAndCanBeResumed) {
  const TrainingConfig first = config("none", 6), on = from_step(config("subspace", 6), 3),
                       off = from_step(config("none", 6), 5);
  const HashedTokens data(first.shape);
  const std::vector<TrainingPhase> phases = {{first, &data}, {on, &data}, {off, &data}};
  const Outcome whole = run(phases, {.checkpoint_every = 1}, BackendKind::reference);
  ASSERT_EQ(whole.steps.size(), 6u);
  for (const Snapshot& s : whole.snapshots)
    EXPECT_EQ(run(phases, {.start = &s}, BackendKind::reference).result.parameters_hash,
              whole.result.parameters_hash)
        << s.step;
  EXPECT_EQ(whole.snapshots[1].constraint.method, "none");
  EXPECT_EQ(whole.snapshots[3].constraint.method, "subspace");
}

TEST(Conversion, CoordinatesOfAnotherSizeAreRefused) {
  const TrainingConfig held = config("subspace", 1);
  Snapshot own = trained(held);
  for (ParameterState& p : own.parameters)
    if (p.name == "model.embed_tokens.coordinates") p.shape = {p.shape[1], p.shape[0]};
  const SubspaceFold fold(held.shape, 4, 1337, DType::f64, SubspaceVariant::reparametrised);
  try {
    static_cast<void>(fold.to_plain("model.embed_tokens.weight", own.source()));
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("model.embed_tokens.coordinates is (4, 61)"));
  }
  EXPECT_FALSE(fold.to_plain("model.norm.weight", own.source()));
  for (ParameterState& p : own.parameters)
    if (p.name == "model.layers.0.self_attn.o_proj.coordinates") p.shape = {0, 4};
  EXPECT_THROW(
      static_cast<void>(fold.to_plain("model.layers.0.self_attn.o_proj.weight", own.source())),
      std::invalid_argument);
}

}  // namespace
}  // namespace strait::testing
