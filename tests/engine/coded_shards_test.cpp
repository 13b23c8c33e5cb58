// Trainings whose keys and values are coded on the way: mixtures of subspaces and the baselines, on grids, through checkpoints and phases
// (specs/mixture_of_subspaces.md 8 and 13).
#include <cmath>
#include <functional>
#include <map>
#include <tuple>

#include "tests/engine/shards_support.h"

namespace strait::testing {
namespace {

using namespace shards;

// The function does not depend on who computes: with an angle that no piece chooses, any number of shards trains the same model.
TEST(CodedShards, MixturesOfSubspacesTrainAsOnOneRank) {
  for (const char* theta : {"zero", "constant"}) {
    const Masked data(mixture(1, theta).shape);
    const Outcome one = run(mixture(1, theta), data);
    for (const int shards : {2, 4}) {
      TrainingConfig c = mixture(shards, theta);
      expect_near(run(c, data), one, kRounding, theta);
      c.context.algorithm = ContextAlgorithm::allgather;
      c.context.layout = TokenLayout::contiguous;
      expect_near(run(c, data), one, kRounding, theta);
    }
    EXPECT_GT(std::abs(one.steps[0].loss - run(config(1, 1, 1, DType::f64), data).steps[0].loss),
              1e-6);
  }
}

// Stages, shards and replicas together, under 1f1b; with angles that pieces choose, too, where the pieces are the same.
TEST(CodedShards, MixturesOfSubspacesTrainAsOnOneRankInEveryGrid) {
  for (const char* theta : {"zero", "constant", "prev_piece"}) {
    const TrainingConfig one = mixture(theta == std::string("prev_piece") ? 2 : 1, theta);
    const Masked data(one.shape);
    const Outcome expected = run(one, data);
    for (const auto& [pipeline, replicas] : {std::pair{2, 1}, std::pair{1, 2}, std::pair{2, 2}}) {
      TrainingConfig c = config(pipeline, 2, replicas, DType::f64);
      c.context = one.context;
      ASSERT_EQ(c.schedule, "1f1b");
      expect_near(run(c, data), expected, kRounding,
                  std::string(theta) + ", " + std::to_string(pipeline) + " stages, " +
                      std::to_string(replicas) + " replicas");
    }
  }
}

// What trainings do with keys and values, by name. Gradients that are coded on the way are not: one rank sends none.
std::map<std::string, ContextOptions> coded_ways() {
  std::map<std::string, ContextOptions> ways;
  ContextOptions mos = mixture(1, "zero").context;
  mos.mixture.rotation = "none";
  mos.mixture.basis_opt = "stiefel";
  mos.mixture.basis_lr_mult = 1e5;  // gradients of so small a model's bases are small
  ways["stiefel"] = mos;
  for (const char* method : {"quantize", "topk"}) {
    ContextOptions o;
    o.method = o.baseline.method = method;
    o.baseline.keep = 0.5;
    ways[method] = o;
  }
  return ways;
}

std::vector<double> state_of(const Snapshot& snapshot, const std::string& name) {
  const ParameterState* state = snapshot.find(name);
  return state == nullptr ? std::vector<double>{} : values_of(state->master, state->dtype);
}

TEST(CodedShards, CodedKeysAndValuesTrainAsOnOneRank) {
  for (const auto& [name, options] : coded_ways()) {
    TrainingConfig one = config(1, 1, 1, DType::f64);
    one.context = options;
    const Masked data(one.shape);
    const Outcome expected = run(one, data);
    EXPECT_GT(
        std::abs(expected.steps[0].loss - run(config(1, 1, 1, DType::f64), data).steps[0].loss),
        1e-6);
    for (const auto& [pipeline, shards, replicas] :
         {std::tuple{1, 2, 1}, std::tuple{1, 4, 1}, std::tuple{2, 2, 2}}) {
      TrainingConfig c = config(pipeline, shards, replicas, DType::f64);
      c.context = options;
      const Outcome o = run(c, data);
      expect_near(o, expected, kRounding, name + " " + std::to_string(shards));
      if (name != "stiefel") continue;
      const std::string basis = "model.layers.0.self_attn.mixture.k.frames";
      const auto before = state_of(expected.snapshots.at(0), basis),
                 end = state_of(expected.snapshots.at(1), basis);
      EXPECT_GT(nrmse(end, before), 1e-4);
      EXPECT_LE(nrmse(state_of(o.snapshots.at(1), basis), end), kRounding);
    }
  }
}

// Every bit of what is drawn, moved or coded on the way goes through a checkpoint.
TEST(CodedShards, CodedKeysAndValuesGoOnBitForBit) {
  std::map<std::string, ContextOptions> ways = coded_ways();
  ways["random"] = mixture(2, "prev_piece").context;
  ways["random"].mixture.rotation = "random";
  ways["drawn"] = mixture(2, "random").context;
  for (const char* method : {"quantize", "topk"}) {
    ways[std::string(method) + ", gradients, too"] = ways[method];
    ways[std::string(method) + ", gradients, too"].baseline.gradients = "same";
  }
  for (const auto& [name, options] : ways) {
    TrainingConfig c = config(1, 2, 1, DType::f32);
    c.context = options;
    const Masked data(c.shape);
    const Outcome whole = run(c, data), rest = run(c, data, &whole.snapshots.at(0));
    ASSERT_EQ(rest.steps.size(), 1U) << name;
    EXPECT_EQ(rest.steps[0].loss, whole.steps[2].loss) << name;
    EXPECT_EQ(rest.steps[0].grad_norm, whole.steps[2].grad_norm) << name;
    const Snapshot &a = rest.snapshots.back(), &b = whole.snapshots.back();
    ASSERT_EQ(a.parameters.size(), b.parameters.size()) << name;
    for (const ParameterState& p : b.parameters)
      EXPECT_EQ(a.find(p.name)->master, p.master) << name << " " << p.name;
  }
}

// bf16: what is projected is what computes, not the masters alone. Own keys and values are left as the projections make them (`exact`).
TEST(CodedShards, ProjectedWeightsComputeInBf16) {
  TrainingConfig c = mixture(1, "zero", DType::bf16);
  c.steps = 2;
  c.evaluate_every = 0;
  c.learning_rate.peak = 0;
  c.context.mixture.local_block = "exact";
  c.context.mixture.project_at_start = true;
  const Masked data(c.shape);
  const Outcome projected = run(c, data);
  Snapshot folded = projected.snapshots.at(0);
  folded.step = 0;
  TrainingConfig plain = config(1, 1, 1, DType::bf16);
  plain.steps = 2;
  plain.evaluate_every = 0;
  plain.learning_rate.peak = 0;
  plain.context.fold_on_unplug = false;  // it is
  EXPECT_EQ(projected.steps[0].loss, run(plain, data, &folded).steps[0].loss);
  EXPECT_NE(projected.steps[0].loss, run(plain, data).steps[0].loss);
}

// Of layer l and keys, or values: what diagnostics.csv tells, of the first copy of each stage, once a step that is asked for.
TEST(CodedShards, DiagnosticsOfAbsorbedProjectionsAreThoseOfDirectOnes) {
  TrainingConfig c = mixture(2, "prev_piece");
  c.diagnose_every = 1;
  const Masked data(c.shape);
  const auto diagnosed = [&](const char* projection, DType dtype) {
    c.context.mixture.projection = projection;
    c.dtype = dtype;
    std::vector<record::Diagnostic> found;
    TrainingObserver observer;
    observer.diagnostic = [&](const record::Diagnostic& d) { found.push_back(d); };
    train({{c, &data}}, dtype == DType::f64 ? BackendKind::reference : BackendKind::cpu, 2, {},
          observer);
    return found;
  };
  const auto direct = diagnosed("direct", DType::f64), absorbed = diagnosed("absorbed", DType::f64);
  ASSERT_EQ(direct.size(), absorbed.size());
  ASSERT_FALSE(direct.empty());
  for (size_t i = 0; i < direct.size(); ++i) {
    EXPECT_EQ(direct[i].name, absorbed[i].name);
    EXPECT_NEAR(direct[i].value, absorbed[i].value, kRounding) << direct[i].name;
  }
  EXPECT_EQ(diagnosed("absorbed", DType::bf16).size(), direct.size());
}

TEST(CodedShards, DiagnosticsTellOfKeysAndValuesAndChangeNothing) {
  std::map<std::string, ContextOptions> ways = coded_ways();
  ways["mos"] = mixture(2, "prev_piece").context;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const auto& [name, options] : ways) {
      TrainingConfig c = config(2, 2, 2, dtype);
      c.context = options;
      const Masked data(c.shape);
      const std::string plain = train(c, BackendKind::cpu, &data, 2, {}).parameters_hash;
      c.diagnose_every = 2;
      std::map<std::string, record::Diagnostic> found;
      TrainingObserver observer;
      observer.diagnostic = [&](const record::Diagnostic& d) {
        if (!d.name.starts_with("layer")) return;
        EXPECT_TRUE(found.emplace(d.name, d).second) << d.name;
      };
      EXPECT_EQ(train(c, BackendKind::cpu, &data, 2, observer).parameters_hash, plain) << name;
      const bool mos = name == "mos", basis = mos || name == "stiefel";
      EXPECT_EQ(found.size(), mos ? 12U : 4U) << name;
      for (const int layer : {0, 1})
        for (const char* z : {"key", "value"}) {
          const std::string prefix = "layer" + std::to_string(layer) + "_" + z;
          const record::Diagnostic& d = found.at(prefix + (basis ? "_captured" : "_error"));
          EXPECT_EQ(d.step, 2);
          EXPECT_EQ(d.boundary, layer);  // the stage that has the layer
          EXPECT_GT(d.value, 0) << name << " " << d.name;
          EXPECT_LT(d.value, 1) << name << " " << d.name;
          if (!mos) continue;
          EXPECT_GT(found.at(prefix + "_angle").value, 0);  // in the second step heads are not zero
          EXPECT_LE(found.at(prefix + "_angle").value, options.mixture.theta_clip);
          EXPECT_EQ(found.at(prefix + "_clipped").value, 0);
        }
    }
}

// M20: a layer that is not compressed works as in plain context parallelism.
TEST(CodedShards, M20_UncompressedLayersAreThoseOfPlainAttention) {
  TrainingConfig c = mixture(2, "prev_piece", DType::f32);
  c.context.mixture.uncompressed_layers = "list";
  c.context.mixture.uncompressed_list = {0, 1};
  const Masked data(c.shape);
  const Outcome all_plain = run(c, data), plain = run(config(1, 2, 1, DType::f32), data);
  for (size_t i = 0; i < plain.steps.size(); ++i)
    EXPECT_EQ(all_plain.steps[i].loss, plain.steps[i].loss);
}

// Plain, then compressed, then plain again: the basis is made when the method begins, goes through checkpoints, and what is left of it when
// it ends is a fold (specs/mixture_of_subspaces.md 8, M19).
TEST(CodedShards, MixturesBeginAndEndInPhases) {
  for (const auto& [theta, source] :
       {std::pair{"prev_piece", "weights"}, std::pair{"prev_piece", "activations"},
        std::pair{"zero", "weights"}}) {
    const bool causal = std::string(theta) == "prev_piece";
    TrainingConfig plain = config(1, 2, 1, DType::f64), mixed = mixture(2, theta), after = plain;
    mixed.context.mixture.basis_source = source;
    for (TrainingConfig* c : {&plain, &mixed, &after}) {
      c->steps = 6;
      c->learning_rate.total_steps = 6;
      c->evaluate_every = 0;
    }
    const auto tokens = static_cast<uint64_t>(plain.batch * plain.shape.context);
    mixed.first_step = 3;
    mixed.tokens_before = 2 * tokens;
    after.first_step = 5;
    after.tokens_before = 4 * tokens;
    after.learning_rate.peak = 0;  // what the fold leaves is looked at
    const Masked data(plain.shape);
    const auto train_phases = [&](const Snapshot* start) {
      Outcome o;
      TrainingObserver observer;
      observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
      observer.checkpoint = [&](const Snapshot& s) { o.snapshots.push_back(s); };
      observer.checkpoint_every = 1;
      train({{plain, &data}, {mixed, &data}, {after, &data}}, BackendKind::reference, 2, {start},
            observer);
      return o;
    };
    const Outcome whole = train_phases(nullptr);
    ASSERT_EQ(whole.steps.size(), 6U);
    for (const size_t done : {2U, 3U, 4U}) {
      const Outcome rest = train_phases(&whole.snapshots.at(done - 1));
      ASSERT_EQ(rest.steps.size(), 6 - done);
      for (size_t i = 0; i < rest.steps.size(); ++i)
        EXPECT_EQ(rest.steps[i].loss, whole.steps[i + done].loss) << done;
    }
    if (causal) continue;
    // M19: at an angle of zero the folded model has the loss that the mixture would have had.
    TrainingConfig longer = mixed;
    longer.learning_rate.peak = 0;
    longer.first_step = 5;
    longer.tokens_before = 4 * tokens;
    Outcome o;
    TrainingObserver observer;
    observer.step = [&](const record::StepLog& s) { o.steps.push_back(s); };
    train({{plain, &data}, {mixed, &data}, {longer, &data}}, BackendKind::reference, 2,
          {&whole.snapshots.at(3)}, observer);
    EXPECT_NEAR(o.steps.at(0).loss, whole.steps[4].loss, 1e-6);
  }
}

// Whatever follows, a layer that has a basis no longer has its weights folded onto it.
TEST(CodedShards, MixturesThatEndAreFolded) {
  const TrainingConfig mixed = mixture(2, "prev_piece");
  const Masked data(mixed.shape);
  const Snapshot trained = run(mixed, data).snapshots.at(0);
  // The projections after two more steps that move nothing.
  const auto next = [&](const std::function<void(ContextOptions&)>& change) {
    TrainingConfig first = mixed, after = mixed;
    change(after.context);
    after.first_step = 3;
    after.tokens_before = static_cast<uint64_t>(2 * mixed.batch * mixed.shape.context);
    for (TrainingConfig* c : {&first, &after}) {
      c->steps = 4;
      c->evaluate_every = 0;
      c->learning_rate.peak = 0;
    }
    TrainingObserver observer;
    Snapshot end;
    observer.checkpoint = [&](const Snapshot& s) { end = s; };
    observer.checkpoint_every = 4;
    train({{first, &data}, {after, &data}}, BackendKind::reference, 2, {&trained}, observer);
    return end;
  };
  const auto weights = [](const Snapshot& s, int layer) {
    return state_of(s, "model.layers." + std::to_string(layer) + ".self_attn.qkv_proj.weight");
  };
  const Snapshot plain = next([](ContextOptions& o) { o.method = "none"; });
  for (const int layer : {0, 1}) EXPECT_NE(weights(plain, layer), weights(trained, layer));
  for (const char* method : {"quantize", "topk"}) {
    const auto change = [&](ContextOptions& o) { o.method = o.baseline.method = method; };
    const Snapshot folded = next(change), kept = next([&](ContextOptions&o) {
                                            change(o);
                                            o.fold_on_unplug = false;
                                          });
    for (const int layer : {0, 1}) {
      EXPECT_EQ(weights(folded, layer), weights(plain, layer)) << method;
      EXPECT_EQ(weights(kept, layer), weights(trained, layer)) << method;
    }
  }
  const Snapshot one_layer = next([](ContextOptions& o) {
    o.mixture.uncompressed_layers = "list";
    o.mixture.uncompressed_list = {0};
  });
  EXPECT_EQ(weights(one_layer, 0), weights(plain, 0));
  EXPECT_EQ(weights(one_layer, 1), weights(trained, 1));
}

// A phase makes anew the bases that it would make otherwise, layer by layer, whatever the grid; the others go on.
TEST(CodedShards, PhasesOfMixturesMakeAnewWhatTheyChange) {
  const auto losses = [](int pipeline, const std::function<void(MixtureOptions&)>& change,
                         const std::string& source = "weights") {
    TrainingConfig first = mixture(2, "prev_piece"), second = first;
    first.context.mixture.basis_source = second.context.mixture.basis_source = source;
    first.context.mixture.uncompressed_layers = second.context.mixture.uncompressed_layers = "last";
    for (TrainingConfig* c : {&first, &second}) {
      c->pipeline = pipeline;
      c->steps = 4;
      c->evaluate_every = 0;
    }
    second.first_step = 3;
    second.tokens_before = static_cast<uint64_t>(2 * first.batch * first.shape.context);
    change(second.context.mixture);
    const Masked data(first.shape);
    std::vector<double> found;
    TrainingObserver observer;
    observer.step = [&](const record::StepLog& s) { found.push_back(s.loss); };
    train({{first, &data}, {second, &data}}, BackendKind::reference, 2, {}, observer);
    return found;
  };
  const auto same = losses(1, [](MixtureOptions&) {});
  for (const auto& [what, change] : std::map<std::string, std::function<void(MixtureOptions&)>>{
           {"rotation", [](MixtureOptions& o) { o.rotation = "plane"; }},
           {"seed", [](MixtureOptions& o) { o.basis_source = "random", o.seed = 5; }},
           {"scope", [](MixtureOptions& o) { o.scope = "per_head"; }},
           {"layers", [](MixtureOptions& o) { o.uncompressed_layers = "none"; }}}) {
    const auto one = losses(1, change), two = losses(2, change);
    ASSERT_EQ(one.size(), 4U) << what;
    EXPECT_EQ(one[1], same[1]) << what;
    EXPECT_GT(std::abs(one[3] - same[3]), 1e-9) << what;
    for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(two[i], one[i], kRounding) << what;
  }
  // One stage's layer begins and sees activations, the other's has its basis: both compute.
  const auto more = [](MixtureOptions& o) { o.uncompressed_layers = "none"; };
  const auto one = losses(1, more, "activations"), two = losses(2, more, "activations");
  ASSERT_EQ(two.size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(two[i], one[i], kRounding);
}

}  // namespace
}  // namespace strait::testing
