// Presets and the split of layers over stages.
#include "engine/nn/model_shape.h"

#include <gtest/gtest.h>

namespace strait {
namespace {

// Counted by hand: 2VC + L(2C + (H+2Hkv)Dh C + H Dh C + 3FC) + C.
TEST(ModelShape, PresetsHaveTheParametersOfDocsModels) {
  const std::pair<const char*, int64_t> expected[] = {
      {"llama-1m", 1'328'256},     {"llama-7m", 6'917'376},     {"llama-20m", 20'453'760},
      {"llama-150m", 149'439'488}, {"llama-500m", 504'153'600}, {"llama-800m", 793'282'560},
      {"llama-1b", 1'003'554'816}, {"llama-2b", 2'031'161'344}, {"llama-3b", 2'957'641'728},
      {"llama-8b", 8'030'261'248}};
  ASSERT_EQ(model_preset_names().size(), std::size(expected));
  for (const auto& [name, count] : expected)
    EXPECT_EQ(parameter_count(model_preset(name)), count) << name;
}

TEST(ModelShape, AnUnknownPresetNamesTheKnownOnes) {
  try {
    model_preset("llama-9b");
    FAIL();
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find("llama-8b"), std::string::npos);
  }
}

TEST(ModelShape, LayersAreSplitEvenlyAndTheEndsGetTheFewest) {
  const auto r = split_layers(10, 4, {});
  std::vector<int> counts;
  int next = 0;
  for (const LayerRange& l : r) {
    EXPECT_EQ(l.first, next);
    next += l.count;
    counts.push_back(l.count);
  }
  EXPECT_EQ(counts, (std::vector<int>{2, 3, 3, 2}));
  EXPECT_EQ(split_layers(4, 1, {})[0].count, 4);
  EXPECT_EQ(split_layers(5, 2, {})[0].count, 3);
  EXPECT_THROW(split_layers(3, 4, {}), std::invalid_argument);
  EXPECT_THROW(split_layers(4, 2, {1, 2}), std::invalid_argument);
  EXPECT_THROW(split_layers(4, 2, {4, 0}), std::invalid_argument);
  EXPECT_THROW(split_layers(4, 2, {4}), std::invalid_argument);
}

}  // namespace
}  // namespace strait
