// The whole model against PyTorch (tests/golden/make_golden.py: 2 layers, GQA, float64): logits, activations, every gradient,
// and ten AdamW losses with clipping. Tolerances: docs/numerics.md, from design section 9.
#include <gtest/gtest.h>

#include "engine/checkpoint/safetensors.h"
#include "engine/in_process.h"
#include "engine/rank.h"
#include "tests/engine/pipeline.h"

namespace strait::testing {
namespace {

const SafetensorsFile& golden() {
  static const SafetensorsFile file(STRAIT_SOURCE_DIR "/tests/golden/llama_tiny.safetensors");
  return file;
}

TrainingConfig golden_config(int pipeline, DType dtype) {
  TrainingConfig c;
  c.shape = {2, 64, 4, 2, 16, 176, 97, 32, 10000, 1e-5};
  c.dtype = c.method.wire = dtype;
  c.pipeline = pipeline;
  c.batch = 2;
  c.microbatches = 1;
  c.steps = 10;
  c.learning_rate = {LearningRateSchedule::Kind::constant, 1e-3, 0, 10, 1};
  c.optimizer.adamw = {0.9, 0.95, 1e-8, 0.1};
  c.clip_norm = 1.0;
  return c;
}

class GoldenTokens final : public BatchSource {
 public:
  GoldenTokens()
      : ids_(golden().read_as_double("input.ids")),
        targets_(golden().read_as_double("input.targets")) {}
  void training(int64_t index, int32_t* ids, int32_t* targets) const override {
    for (size_t t = 0; t < 32; ++t) {
      const size_t i = static_cast<size_t>(index % 2) * 32 + t;
      if (ids != nullptr) ids[t] = static_cast<int32_t>(ids_[i]);
      if (targets != nullptr) targets[t] = static_cast<int32_t>(targets_[i]);
    }
  }
  void validation(int64_t index, int32_t* ids, int32_t* targets) const override {
    training(index, ids, targets);
  }

 private:
  std::vector<double> ids_, targets_;
};

// Our stacked matrices are Hugging Face's one behind the other.
std::vector<double> stacked(const std::string& prefix, const std::string& name) {
  std::vector<std::string> parts = {name};
  const std::string qkv = "self_attn.qkv_proj.weight", gate_up = "mlp.gate_up_proj.weight";
  if (const size_t at = name.find(qkv); at != std::string::npos) {
    const std::string layer = name.substr(0, at);
    parts = {layer + "self_attn.q_proj.weight", layer + "self_attn.k_proj.weight",
             layer + "self_attn.v_proj.weight"};
  } else if (const size_t g = name.find(gate_up); g != std::string::npos) {
    const std::string layer = name.substr(0, g);
    parts = {layer + "mlp.gate_proj.weight", layer + "mlp.up_proj.weight"};
  }
  std::vector<double> all;
  for (const std::string& part : parts) {
    const std::vector<double> v = golden().read_as_double(prefix + part);
    all.insert(all.end(), v.begin(), v.end());
  }
  return all;
}

void load_weights(Parameter& p) {
  const std::vector<double> w = stacked("", p.name);
  ASSERT_EQ(static_cast<int64_t>(w.size()), p.shape.elements()) << p.name;
  for (size_t i = 0; i < w.size(); ++i) {
    set(p.master, static_cast<int64_t>(i), w[i]);
    if (p.value.dtype == DType::bf16)
      p.value.as<bfloat16>()[i] = bfloat16(static_cast<float>(w[i]));
  }
}

struct Bounds {
  DType dtype;
  BackendKind backend;
  double activations, gradients, losses;
};
class Golden : public ::testing::TestWithParam<Bounds> {};

TEST_P(Golden, ActivationsLogitsAndGradientsEqualPyTorch) {
  const Bounds b = GetParam();
  const GoldenTokens tokens;
  Pipeline p(golden_config(2, b.dtype), b.backend, nullptr, &tokens);
  for (Parameter* q : p.all()) load_weights(*q);
  Pipeline::Hooks hooks;
  hooks.sent = [&](int, Tensor x, Tensor) {
    EXPECT_LE(nrmse(values(x), golden().read_as_double("activation.block.0")), b.activations);
  };
  const double loss = p.step(0, 2, 2, hooks);
  EXPECT_LE(nrmse(values(p.output()), golden().read_as_double("activation.block.1")),
            b.activations);
  EXPECT_LE(nrmse(p.logits(), golden().read_as_double("activation.logits")), b.activations);
  double expected = 0;
  for (double l : golden().read_as_double("loss.per_token")) expected += l / 64;
  EXPECT_NEAR(loss, expected, b.losses);
  for (Parameter* q : p.all())
    EXPECT_LE(nrmse(values(q->grad), stacked("gradient.", q->name)), b.gradients) << q->name;
}

TEST_P(Golden, TenAdamWLossesEqualPyTorch) {
  const Bounds b = GetParam();
  const TrainingConfig c = golden_config(1, b.dtype);
  const GoldenTokens tokens;
  const DryRun plan = dry_run(c);
  MessagePool pool;
  InProcess hub(1, 1);
  const std::vector<double> losses = golden().read_as_double("adamw.losses"),
                            norms = golden().read_as_double("adamw.gradient_norms");
  hub.run([&](int) {
    auto ops = make_backend(b.backend, 1);
    RankRecorder recorder(0, *ops);
    auto communicator = hub.communicator(0, recorder);
    Rank rank(c, 0, *ops, recorder, *communicator, pool, &tokens, plan.ranks.data());
    for (Parameter& p : rank.parameters().parameters()) load_weights(p);
    for (size_t step = 1; step <= losses.size(); ++step) {
      const RankStep s = rank.train(static_cast<int64_t>(step), false);
      EXPECT_NEAR(s.loss_sum / 64, losses[step - 1], b.losses) << step;
      EXPECT_NEAR(std::sqrt(s.grad_sum_squares), norms[step - 1], b.gradients * norms[step - 1])
          << step;
    }
  });
}

// f64: both sides compute in double; what is left is the file's rounding of activations and gradients to float32 (6e-8);
// the losses are stored in double and ten optimizer steps amplify 1e-16 by far less than 1e7. fp32: design section 9's bounds
// for logits and gradients, losses 2e-5. bf16: activations and weights are rounded to 2^-9 at some twenty places on the way
// (1.7e-3 each, adding in quadrature: about 1e-2); gradients twice as far.
INSTANTIATE_TEST_SUITE_P(Types, Golden,
                         ::testing::Values(Bounds{DType::f64, BackendKind::reference, 1e-7, 1e-7,
                                                  1e-9},
                                           Bounds{DType::f32, BackendKind::cpu, 1e-5, 1e-4, 2e-5},
                                           Bounds{DType::bf16, BackendKind::cpu, 2e-2, 4e-2, 2e-2}),
                         [](const auto& i) { return std::string(name_of(i.param.dtype)); });

}  // namespace
}  // namespace strait::testing
