// compression.match: the FFN width that balances what a method adds or saves, whatever the method.
#include "engine/parameter_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>

#include "engine/trainer.h"

namespace strait {
namespace {

using testing::HasSubstr;

TrainingConfig config_of(const std::string& method) {
  TrainingConfig c;
  c.shape = {.layers = 4,
             .width = 32,
             .heads = 4,
             .kv_heads = 2,
             .head_width = 8,
             .ffn_width = 96,
             .vocabulary = 300,
             .context = 16};
  c.pipeline = 4;
  c.method.method = method;
  if (method != "none" && method != "cast" && method != "quantize") c.method.rank = 6;
  return c;
}

int64_t parameters_with(TrainingConfig c, int ffn_width) {
  c.shape.ffn_width = ffn_width;
  return trainable_parameters(c);
}

TEST(TrainableParameters, AreThoseOfTheDryRun) {
  for (const std::string& method : method_names()) {
    const TrainingConfig c = config_of(method);
    int64_t sum = 0;
    for (const RankPlan& rank : dry_run(c).ranks) sum += rank.parameters;
    EXPECT_EQ(trainable_parameters(c), sum) << method;
  }
  EXPECT_EQ(trainable_parameters(config_of("none")), parameter_count(config_of("none").shape));
}

// No other multiple comes closer, no narrower one as close: the definition, for every method there is.
TEST(ParameterMatch, IsTheNearestWidthForEveryMethod) {
  const int64_t wanted = trainable_parameters(config_of("none"));
  for (const std::string& method : method_names()) {
    if (method == "none") continue;
    const TrainingConfig c = config_of(method);
    for (const int multiple : {1, 4, 8}) {
      const int width = matched_ffn_width(c, multiple);
      EXPECT_EQ(width % multiple, 0) << method;
      const auto error = [&](int w) { return std::abs(parameters_with(c, w) - wanted); };
      EXPECT_LE(error(width), error(width + multiple)) << method << ", multiples of " << multiple;
      if (width > multiple) {
        EXPECT_LT(error(width), error(width - multiple)) << method << ", multiples of " << multiple;
      }
    }
  }
}

TEST(ParameterMatch, WidensWhatSavesAndNarrowsWhatAdds) {
  EXPECT_GT(matched_ffn_width(config_of("subspace"), 1), 96);
  EXPECT_LT(matched_ffn_width(config_of("resbm"), 1), 96);
  EXPECT_EQ(matched_ffn_width(config_of("frozen"), 1), 96);  // its bases are not trained
}

TEST(ParameterMatch, LeavesTheUncompressedModelAlone) {
  EXPECT_EQ(matched_ffn_width(config_of("none"), 64), 96);
}

TEST(ParameterMatch, SaysWhereItIsImpossible) {
  TrainingConfig c = config_of("resbm");
  c.method.hidden = 4096;
  try {
    matched_ffn_width(c, 8);
    ADD_FAILURE() << "encoders larger than the model were balanced";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("/compression/match: method resbm has"));
    EXPECT_THAT(e.what(), HasSubstr("with an FFN of width 8"));
  }
}

}  // namespace
}  // namespace strait
