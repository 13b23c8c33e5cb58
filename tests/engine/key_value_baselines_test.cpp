// The baselines for keys and values: their bytes, and that attention and its gradients are those of what is decoded.
#include <gmock/gmock.h>

#include "engine/context/key_value_baselines.h"
#include "tests/engine/context_support.h"

namespace strait::testing {
namespace {

using record::MessageKind;

ContextCase with(ContextCase c, const KeyValueBaselineOptions& o) {
  c.codec = [o, t = c.dtype](ParameterList&, const Buffer* rope) {
    return make_key_value_baseline(o, t, rope);
  };
  return c;
}

ContextCase case_of(ContextAlgorithm algorithm, int shards) {
  ContextCase c;
  c.shards = shards;
  c.options.algorithm = algorithm;
  return c;
}

uint64_t sent(const ContextResult& r, MessageKind kind) {
  uint64_t bytes = 0;
  for (const record::RankLog& log : r.logs) bytes += bytes_sent(log, kind);
  return bytes;
}

TEST(KeyValueBaselines, BytesCountScalesAndIndices) {
  ContextCase c = case_of(ContextAlgorithm::allgather, 4);
  c.dtype = DType::bf16;
  c.options.keep_gathered_kv = true;
  const auto tokens = static_cast<uint64_t>(c.sequences * c.tokens);  // rows of 12 numbers
  const auto expect = [&](const KeyValueBaselineOptions& o, uint64_t row, uint64_t gradient_row) {
    const ContextResult r = run_context(with(c, o), context_inputs(c, c.dtype));
    EXPECT_EQ(sent(r, MessageKind::forward), 3 * tokens * 2 * row);
    EXPECT_EQ(sent(r, MessageKind::backward), 3 * tokens * 2 * gradient_row);
  };
  KeyValueBaselineOptions o;
  expect(o, 12 + 2, 12 * 4);
  o.gradients = "same";
  expect(o, 12 + 2, 12 + 2);
  o.bits = 4;
  o.group = 4;
  expect(o, 6 + 2 * 3, 6 + 2 * 3);
  o.method = "topk";
  o.keep = 0.25;
  expect(o, 3 * (2 + 1), 3 * (4 + 1));
  o.gradient_wire = DType::bf16;
  expect(o, 3 * (2 + 1), 3 * (2 + 1));
}

// What a receiver has of rows of all heads.
Values decoded(const Values& x, int64_t width, const KeyValueBaselineOptions& o) {
  Values y = x;
  const auto ops = make_reference_backend();
  TensorStore store(*ops);
  const int64_t n = static_cast<int64_t>(x.size()) / width;
  const Tensor in = store.make({n, width}, DType::f64), out = store.make({n, width}, DType::f64);
  for (int64_t i = 0; i < n * width; ++i) set(in, i, x[static_cast<size_t>(i)]);
  if (o.method == "quantize") {
    const Quantization kind = o.bits == 8 ? Quantization::int8 : Quantization::int4;
    const int64_t group = std::min(o.group, width);
    const Tensor codes = store.make({n, o.bits == 8 ? width : (width + 1) / 2}, DType::u8),
                 scale = store.make({n, (width + group - 1) / group}, DType::bf16);
    ops->quantize_rows(codes, scale, in, kind, group, {});
    ops->dequantize_rows(out, codes, scale, kind, group);
  } else {
    const auto k = std::lround(o.keep * static_cast<double>(width));
    const Tensor entries = store.make({n, k}, DType::f64), indices = store.make({n, k}, DType::u8);
    ops->topk_rows(entries, indices, in);
    ops->scatter_entries(out, entries, indices);
  }
  return values(out);
}

TEST(KeyValueBaselines, AttentionIsThatOfWhatIsDecodedAndGradientsGoStraightThrough) {
  KeyValueBaselineOptions int8, int4, topk;
  int4.bits = 4;
  int4.group = 4;
  topk.method = "topk";
  topk.keep = 0.5;
  for (const KeyValueBaselineOptions& o : {int8, int4, topk})
    for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
      const ContextCase c = case_of(algorithm, 3);
      const int64_t width = int64_t{c.kv_heads} * c.head_width;
      const ContextInputs in = context_inputs(c, c.dtype);
      ContextInputs rounded = in;
      rounded.k = decoded(in.k, width, o);
      rounded.v = decoded(in.v, width, o);
      const ContextResult r = run_context(with(c, o), in), expected = run_single(c, rounded);
      // In f64, sums in another order.
      EXPECT_LE(largest_difference(r.o, expected.o), 1e-12);
      EXPECT_LE(largest_difference(r.dq, expected.dq), 1e-12);
      EXPECT_LE(largest_difference(r.dk, expected.dk), 1e-12);
      EXPECT_LE(largest_difference(r.dv, expected.dv), 1e-12);
      EXPECT_GT(largest_difference(rounded.k, in.k), 1e-3);
    }
}

TEST(KeyValueBaselines, DiagnosesWhatIsLost) {
  KeyValueBaselineOptions int4, topk;
  int4.bits = 4;
  topk.method = "topk";
  topk.keep = 0.5;
  for (const KeyValueBaselineOptions& o : {int4, topk}) {
    ContextCase c = with(case_of(ContextAlgorithm::ring, 1), o);
    const ContextInputs in = context_inputs(c, c.dtype);
    const int64_t width = int64_t{c.kv_heads} * c.head_width;
    std::vector<int32_t> all(static_cast<size_t>(c.tokens));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    Diagnosis found;
    c.after = [&](int, Context& ctx, ParameterList&, KeyValueCodec& codec) {
      TensorStore store(ctx.ops);
      found = codec.diagnose(ctx, Frame{},
                             {store.tokens(c, in.k, c.kv_heads, all, c.dtype),
                              store.tokens(c, in.v, c.kv_heads, all, c.dtype)});
    };
    run_context(c, in);
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0].first, "key_error");
    EXPECT_NEAR(found[0].second, nrmse(decoded(in.k, width, o), in.k), 1e-12);
    EXPECT_EQ(found[1].first, "value_error");
    EXPECT_NEAR(found[1].second, nrmse(decoded(in.v, width, o), in.v), 1e-12);
  }
}

TEST(KeyValueBaselines, GradientsCodedTheSameWay) {
  for (ContextAlgorithm algorithm : {ContextAlgorithm::ring, ContextAlgorithm::allgather}) {
    const ContextCase c = case_of(algorithm, 3);
    const ContextInputs in = context_inputs(c, c.dtype);
    KeyValueBaselineOptions plain, coded;
    coded.gradients = "same";
    const ContextResult exact = run_context(with(c, plain), in);
    const ContextResult rounded = run_context(with(c, coded), in);
    EXPECT_EQ(exact.o, rounded.o);
    EXPECT_EQ(exact.dq, rounded.dq);
    // Codes of 8 bits: half a scale, 1/254 of the largest of 12 numbers, a rounding; up to three of them.
    EXPECT_LT(nrmse(rounded.dk, exact.dk), 2e-2);
    EXPECT_LT(nrmse(rounded.dv, exact.dv), 2e-2);
    EXPECT_GT(nrmse(rounded.dk, exact.dk), 1e-4);
    // All entries of topk are all there is.
    KeyValueBaselineOptions all;
    all.method = "topk";
    all.keep = 1;
    all.gradients = "same";
    const ContextResult whole = run_context(with(c, all), in), dense = run_single(c, in);
    EXPECT_LE(largest_difference(whole.o, dense.o), 1e-12);
    EXPECT_LE(largest_difference(whole.dk, dense.dk), 1e-12);
    EXPECT_LE(largest_difference(whole.dv, dense.dv), 1e-12);
  }
}

TEST(KeyValueBaselines, RefuseOptionsWithAReason) {
  const auto refusal = [](auto change) -> std::string {
    KeyValueBaselineOptions o;
    change(o);
    try {
      make_key_value_baseline(o, DType::f32, nullptr);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  using O = KeyValueBaselineOptions;
  EXPECT_EQ(refusal([](O& o) { o.method = "zip"; }),
            "keys and values, method: zip is not possible; allowed: quantize, topk");
  EXPECT_THAT(refusal([](O& o) { o.bits = 5; }), ::testing::HasSubstr("bits: 5"));
  EXPECT_THAT(refusal([](O& o) { o.group = 3; }), ::testing::HasSubstr("even numbers from 2"));
  EXPECT_THAT(refusal([](O& o) { o.keep = 0; }), ::testing::HasSubstr("keep: 0"));
  EXPECT_THAT(refusal([](O& o) { o.gradients = "some"; }), ::testing::HasSubstr("none, same"));
  EXPECT_THAT(refusal([](O& o) { o.wire = DType::u8; }), ::testing::HasSubstr("wire_dtype: u8"));
}

}  // namespace
}  // namespace strait::testing
