// Method `frozen`: an orthogonal projection at each boundary, its own adjoint, with exactly its bytes. In double precision 1e-12 stands
// for sums of some hundred terms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/codec/projection.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"

namespace strait::testing {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Values = std::vector<double>;

TrainingConfig config(const std::string& anchors, DType dtype) {
  TrainingConfig c = tiny(3, "frozen", dtype);
  c.method.anchors = anchors;
  return c;
}

// What leaves stage 0, what arrives behind it, and the anchors of its tokens.
struct Crossing {
  Values sent, received, anchors;
};
Crossing cross(const std::string& anchors) {
  Pipeline p(config(anchors, DType::f64), BackendKind::reference);
  Crossing result;
  std::vector<int64_t> ids;
  Pipeline::Hooks hooks;
  hooks.sent = [&](int boundary, Tensor x, Tensor tokens) {
    if (boundary != 0) return;
    result.sent = values(x);
    for (int64_t i = 0; i < tokens.elements(); ++i) ids.push_back(tokens.as<int32_t>()[i]);
    // The codec on its own: what a receiver makes of it.
    Context ctx = p.context();
    const auto memory = p.ops().allocate(1 << 16), room = p.ops().allocate(x.bytes());
    Frame receiver;
    receiver.arena = Arena(memory->data(), 1 << 16, "receiver");
    const Tensor y(room->data(), x.dtype, x.shape);
    p.codec_before(1).decode(ctx, receiver, y, p.codec_after(0).encode(ctx, p.frame(0), x));
    result.received = values(y);
  };
  p.step(0, 1, 1, hooks, false);
  const int64_t d = p.config().shape.width;
  for (Buffer& c : p.list(0).buffers())
    if (c.name == "frozen.anchors")
      for (const int64_t id : ids)
        for (int64_t j = 0; j < d; ++j) result.anchors.push_back(at(c.value, id * d + j));
  return result;
}

TEST(Frozen, ABoundaryIsAnOrthogonalProjection) {
  for (const char* anchors : {"none", "static"}) {
    const Crossing c = cross(anchors);
    EXPECT_EQ(c.anchors.empty(), *anchors == 'n');
    double product = 0, lost = 0, kept = 0;
    for (size_t i = 0; i < c.sent.size(); ++i) {
      const double anchor = c.anchors.empty() ? 0 : c.anchors.at(i),
                   rest = c.sent[i] - c.received[i], inside = c.received[i] - anchor;
      product += rest * inside;
      lost += rest * rest;
      kept += inside * inside;
    }
    EXPECT_NEAR(product, 0, 1e-12 * (lost + kept)) << anchors;
    EXPECT_GT(lost, 0) << anchors;
    EXPECT_GT(kept, 0) << anchors;
  }
}

TEST(Frozen, EachBoundaryHasItsOwnBasis) {
  Pipeline p(config("none", DType::f64), BackendKind::reference);
  std::vector<Values> bases;
  for (Buffer& c : p.list(1).buffers())
    if (c.name.starts_with("frozen.U.")) bases.push_back(values(c.value));
  ASSERT_EQ(bases.size(), 2u);
  EXPECT_GT(nrmse(bases[0], bases[1]), 0.5);
}

TEST(Frozen, AtFullRankItIsTheUncompressedModel) {
  TrainingConfig c = config("none", DType::f64);
  c.method.rank = c.shape.width;
  Pipeline p(c, BackendKind::reference), plain(tiny(3, "none", DType::f64), BackendKind::reference);
  EXPECT_NEAR(p.step(0, 2, 1, {}), plain.step(0, 2, 1, {}), 1e-12);
  for (Parameter* q : plain.all())
    EXPECT_LE(nrmse(values(p.find(q->name).grad), values(q->grad)), 1e-11) << q->name;
}

TEST(Frozen, AddsNoParameters) {
  Pipeline p(config("static", DType::f32), BackendKind::cpu),
      plain(tiny(3, "none", DType::f32), BackendKind::cpu);
  std::vector<std::string> with, without;
  for (Parameter* q : p.all()) with.push_back(q->name);
  for (Parameter* q : plain.all()) without.push_back(q->name);
  EXPECT_THAT(with, ElementsAreArray(without));
}

TEST(Frozen, MessagesHaveExactlyTheirBytes) {
  for (const char* anchors : {"none", "static"}) {
    TrainingConfig c = config(anchors, DType::f32);
    c.method.wire = DType::bf16;
    const HashedTokens data(c.shape);
    const Outcome o = run({{c, &data}});
    const auto rows = static_cast<uint64_t>(c.batch / c.microbatches * c.shape.context);
    int sent = 0;
    for (const record::RankLog& rank : o.steps[0].ranks)
      for (const record::Entry& entry : rank.entries)
        if (const auto* send = std::get_if<record::Send>(&entry.action)) {
          const bool ids = *anchors == 's' && send->kind == record::MessageKind::forward;
          EXPECT_EQ(send->payload.count, rows * (4 * 2 + (ids ? 2 : 0)));
          ++sent;
        }
    EXPECT_EQ(sent, 2 * 2 * c.microbatches);
  }
}

TEST(Frozen, TheRankComesFromTheRatio) {
  TrainingConfig c = config("none", DType::f32);
  ModelShape wide = c.shape;
  wide.width = 128;
  EXPECT_EQ(projection_rank_for_ratio("frozen", 8, wide, DType::f32, DType::f32, false), 16);
  c.method.rank.reset();
  c.method.ratio = 1e6;
  try {
    static_cast<void>(make_method(c.method, c.shape, c.dtype));
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("cannot be reached by frozen at width 32"));
  }
}

}  // namespace
}  // namespace strait::testing
