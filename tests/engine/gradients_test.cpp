// Every module and codec by central differences in double precision: the loss of a whole pipeline against the gradient that
// the hand-written backward gives, entry by entry.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/engine/pipeline.h"

namespace strait::testing {
namespace {

struct Case {
  const char* method;
  int pipeline;
  const char* variant = "";
  void (*choose)(MethodOptions&) = [](MethodOptions&) {};
};
class Gradients : public ::testing::TestWithParam<Case> {};

// Central differences with h = 1e-5 in double: truncation h^2 ~ 1e-10, rounding 1e-16 / 1e-5 = 1e-11 of a loss of order 1,
// so entries of order 1e-3 and above must agree to 1e-6 of the largest entry of their tensor.
TEST_P(Gradients, EqualCentralDifferencesForEveryParameter) {
  TrainingConfig config = tiny(GetParam().pipeline, GetParam().method, DType::f64);
  GetParam().choose(config.method);
  Pipeline p(config, BackendKind::reference);
  // Away from the initial point, so that no gain is 1 and no Z tiny.
  for (Parameter* q : p.all()) {
    for (int64_t i = 0; i < q->shape.elements(); ++i) {
      set(q->master, i,
          at(q->master, i) * 1.2 +
              0.2 * normal_at(Philox{3}, hash_name(q->name), static_cast<uint64_t>(i)));
    }
  }
  p.step(0, 2, 1, {});
  for (Parameter* q : p.all()) {
    double largest = 0;
    for (double g : values(q->grad)) largest = std::max(largest, std::abs(g));
    ASSERT_GT(largest, 0) << q->name;
    const std::vector<double> gradient = values(q->grad);
    for (int k = 0; k < 3; ++k) {
      const auto i =
          static_cast<int64_t>(Philox{9}.word(hash_name(q->name), static_cast<uint64_t>(k)) %
                               static_cast<uint64_t>(q->shape.elements()));
      const double h = 1e-5, old = at(q->master, i);
      set(q->master, i, old + h);
      const double above = p.step(0, 2, 1, {}, false);
      set(q->master, i, old - h);
      const double below = p.step(0, 2, 1, {}, false);
      set(q->master, i, old);
      EXPECT_NEAR((above - below) / (2 * h), gradient[static_cast<size_t>(i)],
                  1e-6 * largest + 1e-9)
          << q->name << "[" << i << "]";
    }
  }
}

// What a lossy baseline loses, the gradient takes for a constant (straight-through): it is the derivative of the loss with x + (x^ - x) behind each
// boundary, the bracket as it was. Gradients cross as they are. One microbatch, so that there is one bracket a boundary.
class StraightThrough : public ::testing::TestWithParam<Case> {};

TEST_P(StraightThrough, GradientsEqualCentralDifferencesWithTheLossHeld) {
  TrainingConfig config = tiny(3, GetParam().method, DType::f64);
  GetParam().choose(config.method);
  config.method.backward.emplace().wire = DType::f64;
  Pipeline p(config, BackendKind::reference);
  std::map<int, std::vector<double>> lost;
  Pipeline::Hooks coded, held;
  coded.sent = [&](int b, Tensor x, Tensor) { lost[b] = values(x); };
  coded.messages = [&](int b, const Message& m, const Message* backward) {
    if (backward != nullptr) return;
    const auto memory = p.ops().allocate(lost[b].size() * sizeof(double));
    const Tensor y(memory->data(), DType::f64,
                   {static_cast<int64_t>(lost[b].size()) / config.shape.width, config.shape.width});
    Context ctx = p.context();
    p.codec_before(b + 1).decode(ctx, p.frame(b + 1), y, m);
    for (size_t i = 0; i < lost[b].size(); ++i)
      lost[b][i] = at(y, static_cast<int64_t>(i)) - lost[b][i];
  };
  held.codec = false;
  held.sent = [&](int b, Tensor x, Tensor) {
    for (int64_t i = 0; i < x.elements(); ++i)
      set(x, i, at(x, i) + lost.at(b)[static_cast<size_t>(i)]);
  };
  const double loss = p.step(0, 2, 2, coded);
  for (const auto& [boundary, values] : lost)
    EXPECT_GT(*std::max_element(values.begin(), values.end()), 1e-6) << boundary;
  EXPECT_NEAR(p.step(0, 2, 2, held, false), loss, 1e-12);  // x + (x^ - x) is x^ to a rounding
  for (Parameter* q : p.all()) {
    const std::vector<double> gradient = values(q->grad);
    double largest = 0;
    for (double g : gradient) largest = std::max(largest, std::abs(g));
    const auto i = static_cast<int64_t>(Philox{9}.word(hash_name(q->name), 0) %
                                        static_cast<uint64_t>(q->shape.elements()));
    const double h = 1e-5, old = at(q->master, i);
    set(q->master, i, old + h);
    const double above = p.step(0, 2, 2, held, false);
    set(q->master, i, old - h);
    const double below = p.step(0, 2, 2, held, false);
    set(q->master, i, old);
    EXPECT_NEAR((above - below) / (2 * h), gradient[static_cast<size_t>(i)], 1e-6 * largest + 1e-9)
        << q->name << "[" << i << "]";
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, StraightThrough,
                         ::testing::Values(Case{"cast", 3}, Case{"quantize", 3}, Case{"topk", 3},
                                           Case{"lowrank", 3}),
                         [](const auto& i) { return std::string(i.param.method); });

INSTANTIATE_TEST_SUITE_P(
    Methods, Gradients,
    ::testing::Values(
        Case{"none", 1}, Case{"none", 3}, Case{"subspace", 1}, Case{"subspace", 3},
        Case{"frozen", 3},
        Case{"frozen", 3, "Anchors", [](MethodOptions& o) { o.anchors = "static"; }},
        Case{"column_mask", 3},
        Case{"column_mask", 3, "Anchors", [](MethodOptions& o) { o.anchors = "static"; }},
        Case{"lowrank", 3, "Everything", [](MethodOptions& o) { o.rank = 32; }}, Case{"mapl", 3},
        Case{"mapl", 3, "FullAnchors", [](MethodOptions& o) { o.mapl.anchors.kind = "full"; }},
        Case{"mapl", 3, "TablesOfASide",
             [](MethodOptions& o) { o.mapl.anchors.tables = "per_boundary_side"; }},
        Case{"mapl", 2, "NoAnchors", [](MethodOptions& o) { o.mapl.anchors.kind = "none"; }},
        Case{"mapl", 2, "StaticAnchors", [](MethodOptions& o) { o.mapl.anchors.kind = "static"; }},
        Case{"resbm", 3},
        Case{"resbm", 3, "Relu", [](MethodOptions& o) { o.activation = Activation::relu; }},
        Case{"resbm", 3, "Gelu", [](MethodOptions& o) { o.activation = Activation::gelu; }},
        Case{"resbm", 3, "Linear", [](MethodOptions& o) { o.form = "linear"; }},
        Case{"resbm", 3, "Iota", [](MethodOptions& o) { o.form = "iota_v1"; }},
        Case{"resbm", 6, "IotaOneLayerAStage", [](MethodOptions& o) { o.form = "iota_v1"; }},
        Case{"resbm", 2, "IotaEncoderSkip",
             [](MethodOptions& o) {
               o.form = "iota_v1";
               o.skip = "encoder";
             }},
        Case{"resbm", 3, "Norm", [](MethodOptions& o) { o.encoder_norm = "rms"; }},
        Case{"resbm", 2, "LinearNorm",
             [](MethodOptions& o) {
               o.form = "linear";
               o.encoder_norm = "rms";
             }},
        Case{"resbm", 2, "EncoderSkip", [](MethodOptions& o) { o.skip = "encoder"; }},
        Case{"resbm", 2, "DecoderSkip", [](MethodOptions& o) { o.skip = "decoder"; }},
        Case{"resbm", 2, "NoSkip", [](MethodOptions& o) { o.skip = "none"; }}),
    [](const auto& i) {
      return std::string(i.param.method) + std::to_string(i.param.pipeline) + i.param.variant;
    });

}  // namespace
}  // namespace strait::testing
