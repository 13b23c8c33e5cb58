// What the scenario layer knows by name, the engine must know, too: the two halves share no code.
#include <gtest/gtest.h>

#include "engine/codec/method.h"
#include "engine/nn/model_shape.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/progress.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {
namespace {

TEST(Names, ModelPresetsAreTheSameInScenarioAndEngine) {
  EXPECT_EQ(scenario::model_preset_names(), strait::model_preset_names());
}

TEST(Bridge, AScenarioBecomesATrainingConfig) {
  const auto result = scenario::parse_scenario(
      R"({"model": {"preset": "llama-1m", "kv_heads": 2}, "data": {"corpus": "austen"}, "training": {"steps": 7},
          "parallel": {"pipeline": 2}, "compression": {"pipeline": {"method": "subspace", "ratio": 8, "wire": "bf16"}}})",
      "test.json");
  ASSERT_TRUE(result.ok()) << result.text();
  const TrainingConfig c = to_training(*result.scenario, 320);
  EXPECT_EQ(c.shape.vocabulary, 320);  // the tokenizer's, not the preset's
  EXPECT_EQ(c.shape.kv_heads, 2);
  EXPECT_EQ(c.steps, 7);
  EXPECT_EQ(c.method.method, "subspace");
  EXPECT_EQ(c.method.wire, DType::bf16);
  // 2 d w0 / (2 k w + i) = 1024 / (4 k + 2): k = 31 gives 8.13, k = 32 gives 7.88.
  EXPECT_EQ(make_method(c.method, c.shape, c.dtype)->rank(), 32);
}

TEST(Text, DurationsAndSizesAreReadable) {
  EXPECT_EQ(duration_text(0.0123), "12.3 ms");
  EXPECT_EQ(duration_text(12.34), "12.3 s");
  EXPECT_EQ(duration_text(200), "3 min 20 s");
  EXPECT_EQ(duration_text(3840), "1 h 04 min");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(3.19e6), "3.19 MB");
}

}  // namespace
}  // namespace strait::cli
