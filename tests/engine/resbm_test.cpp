// The numbered invariants of specs/resbm.md, section 8; finite differences (3) for every form, activation and skip are in
// gradients_test.cpp. Bit-exact where the arithmetic is the same; in double precision 1e-12 stands for sums of some hundred terms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/codec/resbm.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"

namespace strait::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using Values = std::vector<double>;

// Both ends of one boundary, each with its own parameters.
struct Boundary {
  Boundary(int width, int c, DType dtype, const std::function<void(MethodOptions&)>& choose = {})
      : config(tiny(2, "resbm", dtype)), ops(make_backend(BackendKind::reference, 1)) {
    if (dtype == DType::f32) ops = make_backend(BackendKind::cpu, 1);
    config.shape.width = width;
    config.method.rank = c;
    config.method.wire = dtype;
    if (choose) choose(config.method);
    method = make_method(config.method, config.shape, dtype);
    for (const BoundaryEnd end : {BoundaryEnd::sender, BoundaryEnd::receiver}) {
      lists.push_back(std::make_unique<ParameterList>(dtype));
      codecs.push_back(
          method->make_codec({config.shape, config.seed, *lists.back(), pool}, 0, end));
      lists.back()->allocate(*ops);
      memory.push_back(ops->allocate(1 << 20));
      frames.emplace_back();
      frames.back().arena = Arena(memory.back()->data(), 1 << 20, "frame");
    }
    memory.push_back(ops->allocate(1 << 20));
    scratch = Arena(memory.back()->data(), 1 << 20, "scratch");
  }

  void zero_weights() {
    for (auto& list : lists)
      for (Parameter& p : list->parameters()) ops->fill(p.master, 0.0);
  }
  Tensor tensor(const Values& v) {
    const int64_t d = config.shape.width;
    memory.push_back(ops->allocate(v.size() * sizeof(double)));
    const Tensor t(memory.back()->data(), config.dtype, {static_cast<int64_t>(v.size()) / d, d});
    for (size_t i = 0; i < v.size(); ++i) set(t, static_cast<int64_t>(i), v[i]);
    return t;
  }
  Values forward(const Values& x) {
    Context ctx{*ops, scratch};
    const Tensor in = tensor(x), out = tensor(Values(x.size(), 7.0));
    const Message m = codecs[0]->encode(ctx, frames[0], in);
    if (m.section(0).dtype != DType::f16) message = values(m.section(0));
    codecs[1]->decode(ctx, frames[1], out, m);
    return values(out);
  }
  Values backward(const Values& dh) {
    Context ctx{*ops, scratch};
    const Tensor in = tensor(dh), out = tensor(Values(dh.size(), 7.0));
    const Message m = codecs[1]->encode_grad(ctx, frames[1], in);
    codecs[0]->decode_grad(ctx, frames[0], out, m);
    return values(out);
  }

  TrainingConfig config;
  std::unique_ptr<Backend> ops;
  MessagePool pool;
  std::unique_ptr<Method> method;
  std::vector<std::unique_ptr<ParameterList>> lists;
  std::vector<std::unique_ptr<Codec>> codecs;  // sender, receiver
  std::vector<std::unique_ptr<DeviceMemory>> memory;
  std::vector<Frame> frames;
  Arena scratch;
  Values message;  // the last forward one; not of an f16 wire
};

Values whole_numbers(size_t n, uint64_t stream) {
  Values v(n);
  for (size_t i = 0; i < n; ++i)
    v[i] = std::round(10 * normal_at(Philox{2}, stream, static_cast<uint64_t>(i)));
  return v;
}
Values random_values(size_t n, uint64_t stream) {
  Values v(n);
  for (size_t i = 0; i < n; ++i) v[i] = normal_at(Philox{2}, stream, static_cast<uint64_t>(i));
  return v;
}
double dot(const Values& a, const Values& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b.at(i);
  return sum;
}
// The first c of every d values, the rest 0.
Values leading(Values x, size_t d, size_t c) {
  for (size_t i = 0; i < x.size(); ++i)
    if (i % d >= c) x[i] = 0;
  return x;
}

TEST(Resbm, Invariant1TheRectangularIdentitiesAreAdjoint) {
  Boundary b(12, 5, DType::f32);
  b.zero_weights();
  const Values x = whole_numbers(36, 1), y = whole_numbers(36, 2);
  const Values forward = b.forward(x);
  EXPECT_EQ(dot(forward, y), dot(x, b.backward(y)));
  EXPECT_THAT(b.forward(forward), ElementsAreArray(forward));  // P_d T_c is idempotent
  const Values z = b.message;
  b.forward(forward);
  EXPECT_THAT(b.message, ElementsAreArray(z));  // T_c P_d = 1
}

TEST(Resbm, Invariant2WithoutLearnedPartsABoundaryTruncates) {
  Boundary b(12, 5, DType::f32);
  b.zero_weights();
  const Values x = random_values(36, 1);
  Values as_stored = x;
  for (double& v : as_stored) v = static_cast<double>(static_cast<float>(v));
  EXPECT_THAT(b.forward(x), ElementsAreArray(leading(as_stored, 12, 5)));
  EXPECT_THAT(b.backward(x), ElementsAreArray(leading(as_stored, 12, 5)));
  EXPECT_THAT(b.forward(b.forward(x)), ElementsAreArray(leading(as_stored, 12, 5)));
}

// Of the form iota_v1 in two parts: [y; g] becomes [P_d T_c(y); 0].
TEST(Resbm, Invariant2OfTheFusedForm) {
  Boundary b(12, 5, DType::f32, [](MethodOptions& o) { o.form = "iota_v1"; });
  b.zero_weights();
  const Values x = whole_numbers(72, 1);  // 3 tokens, two tensors
  Values expected = leading(x, 12, 5);
  std::fill(expected.begin() + 36, expected.end(), 0.0);
  EXPECT_THAT(b.forward(x), ElementsAreArray(expected));
  EXPECT_THAT(b.backward(x), ElementsAreArray(expected));
}

// Section 2.4: z = T_c(y) + SiLU(g) W4, r = ReLU(z W_dec), written out; sums of 12 terms in double precision.
TEST(Resbm, TheFusedFormIsItsFormula) {
  constexpr size_t d = 12, c = 5, n = 3;
  Boundary b(d, c, DType::f64, [](MethodOptions& o) { o.form = "iota_v1"; });
  for (auto& list : b.lists)
    for (Parameter& p : list->parameters())
      b.ops->random_normal(p.master, Philox{4}, hash_name(p.name), 0.5);
  const Values w4 = values(b.lists[0]->find("boundaries.0.encoder.output.weight").master),
               decoder = values(b.lists[1]->find("boundaries.0.decoder.hidden.weight").master);
  ASSERT_EQ(w4.size(), d * c);
  ASSERT_EQ(decoder.size(), d * c);
  const Values x = random_values(2 * n * d, 6), y = b.forward(x);
  for (size_t t = 0; t < n; ++t) {
    Values z(c);
    for (size_t j = 0; j < c; ++j) {
      z[j] = x[t * d + j];
      for (size_t i = 0; i < d; ++i) {
        const double g = x[(n + t) * d + i];
        z[j] += g / (1 + std::exp(-g)) * w4[j * d + i];
      }
      EXPECT_NEAR(b.message[t * c + j], z[j], 1e-12);
    }
    for (size_t i = 0; i < d; ++i) {
      double v = 0;
      for (size_t j = 0; j < c; ++j) v += z[j] * decoder[i * c + j];
      EXPECT_NEAR(y[t * d + i], i < c ? z[i] : 0, 1e-12);
      EXPECT_NEAR(y[(n + t) * d + i], std::max(v, 0.0), 1e-12);
    }
  }
}

TEST(Resbm, Invariant4NarrowingIsNoIdentity) {
  Boundary b(2, 1, DType::f64);
  b.zero_weights();
  EXPECT_THAT(b.forward({3, 4}), ElementsAreArray({3.0, 0.0}));
}

TEST(Resbm, Invariant5RanksWithMessagesAreTheComposition) {
  for (const auto& [wire, form] :
       {std::pair{DType::f64, "mlp"}, std::pair{DType::bf16, "mlp"}, std::pair{DType::f16, "mlp"},
        std::pair{DType::f64, "iota_v1"}, std::pair{DType::bf16, "iota_v1"}}) {
    TrainingConfig c = tiny_run(3, "resbm", DType::f64, 1, 0);
    c.method.form = form;
    c.clip_norm = 0;
    c.evaluate_every = 0;
    c.method.wire = wire;
    const HashedTokens data(c.shape);
    const Outcome o = run({{c, &data}}, {}, BackendKind::reference);
    Pipeline p(c, BackendKind::reference);
    const double loss = p.step(0, c.batch, c.batch / c.microbatches, {});
    double squares = 0;
    for (Parameter* q : p.all())
      for (const double g : values(q->grad)) squares += g * g;
    EXPECT_NEAR(o.steps[0].loss, loss, 1e-12);
    EXPECT_NEAR(o.steps[0].grad_norm, std::sqrt(squares), 1e-12);
  }
}

TEST(Resbm, Invariant6MessagesHaveExactlyTheirBytesAndNothingElseIsSent) {
  for (const auto& [wire, form] :
       {std::pair{DType::f32, "mlp"}, std::pair{DType::bf16, "mlp"}, std::pair{DType::f16, "mlp"},
        std::pair{DType::f32, "iota_v1"}}) {
    TrainingConfig c = tiny_run(3, "resbm", DType::f32, 1, 0);
    c.clip_norm = 0;  // which sends norms
    c.method.wire = wire;
    c.method.form = form;
    const HashedTokens data(c.shape);
    const Outcome o = run({{c, &data}});
    const uint64_t bytes =
        static_cast<uint64_t>(c.batch / c.microbatches * c.shape.context * 4) * size_of(wire);
    int sent = 0;
    for (const record::RankLog& rank : o.steps[0].ranks)
      for (const record::Entry& entry : rank.entries)
        if (const auto* send = std::get_if<record::Send>(&entry.action)) {
          EXPECT_EQ(send->payload.count, bytes);
          EXPECT_EQ(send->dense.count, bytes / size_of(wire) / 4 * 32 * 4);
          EXPECT_EQ(send->sync.count, 0u);
          EXPECT_NE(send->kind, record::MessageKind::sync);
          ++sent;
        }
    EXPECT_EQ(sent, 2 * 2 * c.microbatches);
  }
}

// Rank by elimination with full pivoting: a pivot below 1e-9 of the first is rounding.
int numerical_rank(std::vector<Values> a) {
  double first = 0;
  for (size_t rank = 0; rank < a.size(); ++rank) {
    size_t row = rank, column = rank;
    for (size_t i = rank; i < a.size(); ++i)
      for (size_t j = rank; j < a.size(); ++j)
        if (std::abs(a[i][j]) > std::abs(a[row][column])) row = i, column = j;
    const double pivot = a[row][column];
    if (rank == 0) first = std::abs(pivot);
    if (std::abs(pivot) <= 1e-9 * first) return static_cast<int>(rank);
    std::swap(a[rank], a[row]);
    for (Values& r : a) std::swap(r[rank], r[column]);
    for (size_t i = rank + 1; i < a.size(); ++i) {
      const double factor = a[i][rank] / pivot;
      for (size_t j = rank; j < a.size(); ++j) a[i][j] -= factor * a[rank][j];
    }
  }
  return static_cast<int>(a.size());
}

TEST(Resbm, Invariant7ABoundarysJacobianHasTheBottlenecksRank) {
  constexpr size_t d = 12;
  for (const char* form : {"mlp", "linear", "iota_v1"}) {
    Boundary b(d, 3, DType::f64, [&](MethodOptions& o) { o.form = form; });
    const size_t all = std::string(form) == "iota_v1" ? 2 * d : d;  // in one part or two
    for (auto& list : b.lists)
      for (Parameter& p : list->parameters())
        b.ops->random_normal(p.master, Philox{4}, hash_name(p.name), 0.5);
    b.forward(random_values(all, 5));  // the backward is the Jacobian's transpose, row by row
    std::vector<Values> jacobian;
    for (size_t i = 0; i < all; ++i) {
      Values unit(all, 0.0);
      unit[i] = 1;
      jacobian.push_back(b.backward(unit));
    }
    EXPECT_EQ(numerical_rank(jacobian), 3) << form;
  }
}

TEST(Resbm, Invariant8AtFullWidthWithoutLearnedPartsItIsTheUncompressedModel) {
  TrainingConfig c = tiny(3, "resbm", DType::f32);
  c.method.rank = c.shape.width;
  Pipeline p(c, BackendKind::cpu), plain(tiny(3, "none", DType::f32), BackendKind::cpu);
  for (Parameter* q : p.all())
    if (q->name.starts_with("boundaries.")) p.ops().fill(q->master, 0.0);
  EXPECT_EQ(p.step(0, 2, 1, {}), plain.step(0, 2, 1, {}));
  for (Parameter* q : plain.all())
    EXPECT_THAT(values(p.find(q->name).grad), ElementsAreArray(values(q->grad))) << q->name;
}

TEST(Resbm, Invariant9AnOrthonormalStartIsAProjection) {
  Boundary b(12, 5, DType::f64, [](MethodOptions& o) {
    o.form = "linear";
    o.bottleneck_init = "orth";
  });
  const Values x = random_values(36, 1), once = b.forward(x), twice = b.forward(once);
  EXPECT_LE(nrmse(twice, once), 1e-12);
  Values rest = x;
  for (size_t i = 0; i < x.size(); ++i) rest[i] -= once[i];
  EXPECT_NEAR(dot(rest, once), 0, 1e-12);
  EXPECT_GT(dot(rest, rest), 1);
}

TEST(Resbm, Invariant10EachEndHasItsOwnParametersAndNoMore) {
  for (const auto& [form, norm] :
       {std::pair{"mlp", false}, std::pair{"linear", false}, std::pair{"mlp", true},
        std::pair{"linear", true}, std::pair{"iota_v1", false}}) {
    const bool mlp = std::string(form) == "mlp";
    TrainingConfig c = tiny(4, "resbm", DType::f32);
    c.method.form = form;
    c.method.encoder_norm = norm ? "rms" : "none";
    Pipeline p(c, BackendKind::cpu);
    int64_t added = 0;
    for (int s = 0; s < 4; ++s)
      for (const Parameter& q : p.list(s).parameters()) {
        if (!q.name.starts_with("boundaries.")) continue;
        added += q.shape.elements();
        const int boundary = q.name.at(11) - '0';
        EXPECT_EQ(q.name.find("encoder") != std::string::npos ? boundary : boundary + 1, s);
      }
    const int64_t d = c.shape.width, k = 4, m = 64;
    EXPECT_EQ(added, 3 * ((mlp ? 2 * m * (d + k) : 2 * d * k) + (norm ? d : 0)));
  }
}

TEST(Resbm, Invariant11MicrobatchesAddUpToTheBatch) {
  for (const char* form : {"mlp", "iota_v1"}) {
    TrainingConfig c = tiny(3, "resbm", DType::f64);
    c.method.form = form;
    Pipeline whole(c, BackendKind::reference), parts(c, BackendKind::reference);
    EXPECT_NEAR(whole.step(0, 4, 4, {}), parts.step(0, 4, 1, {}), 1e-12);
    for (Parameter* q : whole.all())
      EXPECT_LE(nrmse(values(parts.find(q->name).grad), values(q->grad)), 1e-12) << q->name;
  }
}

TEST(Resbm, Invariant12SchedulesOrderTheSameSums) {
  for (const char* form : {"mlp", "iota_v1"}) {
    TrainingConfig c = tiny_run(3, "resbm", DType::f64, 3, 1);
    c.method.form = form;
    const HashedTokens data(c.shape);
    const Outcome one = run({{c, &data}}, {}, BackendKind::reference),
                  again = run({{c, &data}}, {}, BackendKind::reference);
    c.schedule = "gpipe";
    const Outcome gpipe = run({{c, &data}}, {}, BackendKind::reference);
    EXPECT_EQ(one.result.parameters_hash, again.result.parameters_hash);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(one.steps[i].loss, gpipe.steps[i].loss, 1e-12);
  }
}

// Gradients of a mean over 10^4 tokens are below what fp16 holds by itself. Half a step of fp16 is 2^-11 of a number.
TEST(Resbm, TinyGradientsSurviveAnFp16Wire) {
  Boundary b(12, 5, DType::f64, [](MethodOptions& o) { o.wire = DType::f16; });
  b.zero_weights();
  b.frames[0].loss_scale = b.frames[1].loss_scale = 1e-4;
  const Values x = random_values(36, 1);
  Values g = random_values(36, 2);
  for (double& v : g) v *= 1e-8;
  EXPECT_LE(nrmse(b.forward(x), leading(x, 12, 5)), 0x1p-11);
  EXPECT_LE(nrmse(b.backward(g), leading(g, 12, 5)), 0x1p-11);
  EXPECT_NE(b.codecs[0]->handshake(*b.ops),
            Boundary(12, 5, DType::f64, [](MethodOptions& o) { o.wire = DType::bf16; })
                .codecs[0]
                ->handshake(*b.ops));
}

// The same batch in every step.
class OneBatch final : public BatchSource {
 public:
  explicit OneBatch(const TrainingConfig& c) : tokens_(c.shape), batch_(c.batch) {}
  void training(int64_t index, int32_t* ids, int32_t* targets) const override {
    tokens_.training(index % batch_, ids, targets);
  }
  void validation(int64_t index, int32_t* ids, int32_t* targets) const override {
    training(index, ids, targets);
  }

 private:
  HashedTokens tokens_;
  int64_t batch_;
};

TEST(Resbm, Invariant13ItMemorisesAndTheSkipHelps) {
  for (const int c : {8, 2}) {
    double last[2];
    for (const bool skips : {true, false}) {
      TrainingConfig config = tiny_run(3, "resbm", DType::f32, 40, 4);
      config.method.rank = c;
      config.method.skip = skips ? "both" : "none";
      config.evaluate_every = 0;
      const OneBatch data(config);
      const Outcome o = run({{config, &data}});
      for (size_t i = 5; i < o.steps.size(); i += 5)
        EXPECT_TRUE(!skips || o.steps[i].loss < o.steps[i - 5].loss) << "c " << c << ", step " << i;
      last[skips ? 0 : 1] = o.steps.back().loss;
    }
    EXPECT_LT(last[0], last[1]) << c;
  }
}

TEST(Resbm, Invariant13OfTheFusedForm) {
  TrainingConfig config = tiny_run(3, "resbm", DType::f32, 40, 4);
  config.method.form = "iota_v1";
  config.method.rank = 8;
  config.evaluate_every = 0;
  const OneBatch data(config);
  const Outcome o = run({{config, &data}});
  for (size_t i = 5; i < o.steps.size(); i += 5)
    EXPECT_LT(o.steps[i].loss, o.steps[i - 5].loss) << "step " << i;
}

TEST(Resbm, InitialValuesAreTheOnesAskedFor) {
  const auto weights = [](const char* init, const char* which) {
    Boundary b(32, 8, DType::f64, [&](MethodOptions& o) { o.bottleneck_init = init; });
    return values(
        b.lists[0]->find(std::string("boundaries.0.encoder.") + which + ".weight").master);
  };
  const Values truncated = weights("trunc001", "hidden");
  EXPECT_LE(*std::max_element(truncated.begin(), truncated.end()), 0.02);
  // A normal cut at two standard deviations has 0.880 of its own.
  EXPECT_NEAR(std::sqrt(dot(truncated, truncated) / static_cast<double>(truncated.size())), 0.0088,
              5e-4);
  EXPECT_THAT(weights("zero_out", "output"), Each(0.0));
  const Values normal = weights("normal002", "hidden");
  EXPECT_NEAR(std::sqrt(dot(normal, normal) / static_cast<double>(normal.size())), 0.02, 1e-3);
}

TEST(Resbm, GoesOnFromAPlainModelWithFreshBottlenecksAndBack) {
  TrainingConfig plain = tiny_run(3, "none", DType::f32, 6, 1),
                 held = tiny_run(3, "resbm", DType::f32, 6, 1);
  held.first_step = 3;
  TrainingConfig after = plain;
  after.first_step = 5;
  const HashedTokens data(plain.shape);
  const Outcome o = run({{plain, &data}, {held, &data}, {after, &data}}, {.checkpoint_every = 2});
  ASSERT_EQ(o.steps.size(), 6u);
  EXPECT_EQ(o.snapshots[0].find("boundaries.0.encoder.hidden.weight"), nullptr);
  EXPECT_NE(o.snapshots[1].find("boundaries.0.encoder.hidden.weight"), nullptr);
  EXPECT_EQ(o.snapshots[2].find("boundaries.0.encoder.hidden.weight"), nullptr);
}

// Weights of another bottleneck, form or place mean nothing here.
TEST(Resbm, OtherBoundariesBeginAfresh) {
  const TrainingConfig c = tiny_run(3, "resbm", DType::f32, 4, 1);
  TrainingConfig narrow = c, relu = c, elsewhere = c;
  narrow.method.rank = 2;
  relu.method.activation = Activation::relu;
  elsewhere.layers_per_stage = {3, 2, 1};
  const HashedTokens data(c.shape);
  Snapshot start = run({{c, &data}}, {.checkpoint_every = 4}).snapshots.back();
  start.step = 0;
  const auto encoder_after_load = [&](TrainingConfig next) {
    next.steps = 1;
    next.learning_rate.peak = 0;
    return run({{next, &data}}, {.start = &start, .checkpoint_every = 1})
        .snapshots.back()
        .find("boundaries.0.encoder.output.weight")
        ->master;
  };
  const auto trained = start.find("boundaries.0.encoder.output.weight")->master;
  EXPECT_EQ(encoder_after_load(c), trained);
  EXPECT_NE(encoder_after_load(relu), trained);
  EXPECT_NE(encoder_after_load(elsewhere), trained);
  EXPECT_NE(encoder_after_load(narrow).size(), trained.size());
}

// The learned part sees x without its scale, the identity beside it does not.
TEST(Resbm, TheNormIsOfTheLearnedPartAlone) {
  for (const char* form : {"mlp", "linear"}) {
    Boundary b(24, 5, DType::f64, [&](MethodOptions& o) {
      o.form = form;
      o.encoder_norm = "rms";
    });
    Values x = random_values(3 * 24, 8), larger = x;
    for (double& v : larger) v *= 1000;
    b.forward(x);
    const Values small = b.message;
    b.forward(larger);
    for (size_t n = 0; n < 3; ++n)
      for (size_t j = 0; j < 5; ++j)  // eps = 1e-5 beside a mean square of 1
        EXPECT_NEAR(b.message[n * 5 + j] - larger[n * 24 + j], small[n * 5 + j] - x[n * 24 + j],
                    2e-5);
  }
}

TEST(Resbm, OptionsThatFitNothingAreRefused) {
  const auto refusal = [](const std::function<void(MethodOptions&)>& choose) -> std::string {
    TrainingConfig c = tiny(2, "resbm", DType::f32);
    choose(c.method);
    try {
      static_cast<void>(make_method(c.method, c.shape, c.dtype));
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "accepted";
  };
  EXPECT_THAT(refusal([](MethodOptions& o) { o.rank = 33; }), HasSubstr("rank 33 is outside 1 to"));
  EXPECT_THAT(refusal([](MethodOptions& o) { o.rank.reset(); }), HasSubstr("exactly one of"));
  EXPECT_THAT(refusal([](MethodOptions& o) { o.rank.reset(), o.ratio = 100; }),
              HasSubstr("ranks 1 to 32 give 32 to 1"));
  EXPECT_THAT(refusal([](MethodOptions& o) { o.form = "conv"; }),
              HasSubstr("allowed: mlp, linear, iota_v1"));
  EXPECT_THAT(refusal([](MethodOptions& o) {
                o.form = "iota_v1";
                o.bottleneck_init = "zero_out";
              }),
              HasSubstr("would never learn"));
  EXPECT_THAT(refusal([](MethodOptions& o) { o.bottleneck_init = "orth"; }),
              HasSubstr("needs form linear"));
  EXPECT_THAT(refusal([](MethodOptions& o) { o.encoder_norm = "layer"; }),
              HasSubstr("enc_norm is \"layer\"; allowed: none, rms"));
  EXPECT_EQ(refusal([](MethodOptions& o) { o.rank.reset(), o.ratio = 16; }), "accepted");
}

}  // namespace
}  // namespace strait::testing
