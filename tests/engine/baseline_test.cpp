// The baselines: codecs of any tensor. What each promises of its error, of its bytes and of its states; that gradients cross as they were decoded;
// that activations and gradients may be coded differently.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "engine/codec/baseline.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"

namespace strait::testing {
namespace {

using ::testing::HasSubstr;
using Values = std::vector<double>;
using Choose = std::function<void(MethodOptions&)>;

// Both ends of one boundary of width d, with N tokens a message.
struct Boundary {
  Boundary(const std::string& method, int64_t N, int d, DType dtype, const Choose& choose = {},
           BackendKind kind = BackendKind::reference, int vocabulary = 61)
      : rows(N), config(tiny(2, method, dtype)), ops(make_backend(kind, 1)) {
    config.shape.width = d;
    config.shape.vocabulary = vocabulary;
    if (choose) choose(config.method);
    config.method.batch = {N, 2, 1};
    const auto m = make_method(config.method, config.shape, dtype);
    for (const BoundaryEnd end : {BoundaryEnd::sender, BoundaryEnd::receiver}) {
      lists.push_back(std::make_unique<ParameterList>(dtype));
      codecs.push_back(m->make_codec({config.shape, config.seed, *lists.back(), pool}, 0, end));
      lists.back()->allocate(*ops);
      frames.emplace_back();
      if (end == BoundaryEnd::sender) frames.back().ids = tokens();
      memory.push_back(ops->allocate(1 << 20));
      frames.back().arena = Arena(memory.back()->data(), 1 << 20, "frame");
      frames.back().step = 1;
      frames.back().loss_scale = 1e-4;
    }
    memory.push_back(ops->allocate(8 << 20));
    scratch = Arena(memory.back()->data(), 8 << 20, "scratch");
  }
  void at_step(int64_t step, int microbatch = 0, bool training = true) {
    for (Frame& f : frames) {
      f.step = step;
      f.microbatch = microbatch;
      f.training = training;
      f.arena.rewind(0);
    }
  }
  // (N) i32: token n is 7 n of the vocabulary.
  Tensor tokens() {
    memory.push_back(ops->allocate(static_cast<size_t>(rows) * sizeof(int32_t)));
    const Tensor ids(memory.back()->data(), DType::i32, {rows});
    for (int64_t n = 0; n < rows; ++n)
      ids.as<int32_t>()[n] = static_cast<int32_t>(7 * n % config.shape.vocabulary);
    return ids;
  }
  Tensor tensor(const Values& v) {
    memory.push_back(ops->allocate(v.size() * sizeof(double)));
    const Tensor t(memory.back()->data(), config.dtype, {rows, config.shape.width});
    if (config.dtype == DType::bf16) {
      memory.push_back(ops->allocate(v.size() * sizeof(float)));
      const Tensor wide(memory.back()->data(), DType::f32, t.shape);
      for (size_t i = 0; i < v.size(); ++i) set(wide, static_cast<int64_t>(i), v[i]);
      ops->cast(t, wide);
      return t;
    }
    for (size_t i = 0; i < v.size(); ++i) set(t, static_cast<int64_t>(i), v[i]);
    return t;
  }
  Values forward(const Values& x) {
    Context ctx{*ops, scratch};
    const Tensor in = tensor(x), out = tensor(Values(x.size(), 7.0));
    const Message m = codecs[0]->encode(ctx, frames[0], in);
    bytes.first = m.bytes().count;
    codecs[1]->decode(ctx, frames[1], out, m);
    return values(out);
  }
  Values backward(const Values& dy) {
    Context ctx{*ops, scratch};
    const Tensor in = tensor(dy), out = tensor(Values(dy.size(), 7.0));
    const Message m = codecs[1]->encode_grad(ctx, frames[1], in);
    bytes.second = m.bytes().count;
    codecs[0]->decode_grad(ctx, frames[0], out, m);
    return values(out);
  }
  Values random(uint64_t stream, double size = 1) const {
    Values v(static_cast<size_t>(rows * config.shape.width));
    for (size_t i = 0; i < v.size(); ++i)
      v[i] = static_cast<double>(static_cast<float>(size * normal_at(Philox{21}, stream, i)));
    return v;
  }

  int64_t rows;
  TrainingConfig config;
  std::unique_ptr<Backend> ops;
  MessagePool pool;
  std::vector<std::unique_ptr<ParameterList>> lists;
  std::vector<std::unique_ptr<Codec>> codecs;  // sender, receiver
  std::vector<std::unique_ptr<DeviceMemory>> memory;
  std::vector<Frame> frames;
  Arena scratch;
  std::pair<uint64_t, uint64_t> bytes;
};

Choose format(const std::string& name) {
  return [name](MethodOptions& o) { o.format = name; };
}
Choose quantization(int bits, const std::string& scale, const std::string& rounding) {
  return [=](MethodOptions& o) {
    o.bits = bits;
    o.scale = scale;
    o.group = 8;
    o.rounding = rounding;
  };
}
Choose size(int k) {
  return [k](MethodOptions& o) { o.rank = k; };
}
Choose anchored(const Choose& choose) {
  return [choose](MethodOptions& o) {
    choose(o);
    o.anchors = "static";
  };
}

TEST(Baseline, MessagesHaveExactlyTheirBytes) {
  struct Expected {
    const char* method;
    Choose choose;
    uint64_t forward, backward;
  };
  const auto bf16 = [](int k) {
    return [k](MethodOptions& o) { o.rank = k, o.wire = DType::bf16; };
  };
  const uint64_t N = 6, d = 35;
  const std::vector<Expected> all = {
      {"none", {}, N * d * 4, N * d * 4},
      {"cast", format("bf16"), N * d * 2, N * d * 2},
      {"cast", format("fp16"), N * d * 2, N * d * 2},
      {"cast", format("fp8_e4m3"), N * (d + 2), N * (d + 2)},
      {"quantize", quantization(8, "token", "nearest"), N * (d + 2), N * (d + 2)},
      {"quantize", quantization(4, "group", "stochastic"), N * (18 + 5 * 2), N * (18 + 5 * 2)},
      {"topk", bf16(4), N * 4 * 3, N * 4 * 3},
      {"column_mask", bf16(7), N * 7 * 2 + 5, N * 7 * 2},
      {"column_mask", bf16(2), N * 2 * 2 + 4, N * 2 * 2},
      {"column_mask", anchored(bf16(7)), N * (7 * 2 + 2) + 5, N * 7 * 2},
      {"lowrank", bf16(3), (N + d) * 3 * 2, (N + d) * 3 * 2}};
  for (const Expected& e : all) {
    Boundary b(e.method, N, static_cast<int>(d), DType::f32, e.choose, BackendKind::cpu);
    b.forward(b.random(1));
    b.backward(b.random(2));
    EXPECT_EQ(b.bytes, std::pair(e.forward, e.backward)) << e.method;
    EXPECT_EQ(b.codecs[0]->expected_bytes(N), b.bytes) << e.method;
    EXPECT_EQ(b.codecs[0]->handshake(*b.ops), b.codecs[1]->handshake(*b.ops));
  }
  Boundary wide("topk", 2, 300, DType::f32, size(5));
  wide.forward(wide.random(1));
  EXPECT_EQ(wide.bytes.first, 2u * 5u * (4u + 2u));  // more than 256 columns
}

// Ids of a vocabulary above 65536 take 4 bytes and lie before narrower values.
TEST(Baseline, IdsOfALargeVocabularyAreWide) {
  Boundary b("column_mask", 6, 35, DType::f32,
             anchored([](MethodOptions& o) { o.rank = 7, o.wire = DType::bf16; }), BackendKind::cpu,
             70'000);
  b.forward(b.random(1));
  EXPECT_EQ(b.bytes.first, 6u * (7 * 2 + 4) + 5);
}

// Half a step of each format is at most 2^-8, 2^-11 and 2^-4 of a number, or that of its smallest numbers.
TEST(Baseline, CastRoundsToTheFormat) {
  for (const auto& [name, bound, least] :
       {std::tuple("bf16", 0x1p-8, 0.0), std::tuple("fp16", 0x1p-11, 0x1p-25),
        std::tuple("fp8_e4m3", 0x1p-4, 0.0)}) {
    Boundary b("cast", 5, 40, DType::f64, format(name));
    const Values x = b.random(1), y = b.forward(x);
    for (size_t i = 0; i < x.size(); ++i) {
      double largest = 0;
      for (size_t j = i / 40 * 40; j < i / 40 * 40 + 40; ++j)
        largest = std::max(largest, std::abs(x[j]));
      // FP8 below its normal range: steps of 2^-9 of a scale of largest / 448.
      const double floor = std::string(name) == "fp8_e4m3" ? largest / 448 * 0x1p-9 : least;
      EXPECT_LE(std::abs(y[i] - x[i]), std::max(bound * std::abs(x[i]), floor)) << name;
    }
  }
}

// Gradients of a mean over 10^4 tokens, far below what the formats hold by themselves.
TEST(Baseline, TinyGradientsSurviveNarrowFormats) {
  for (const auto& [name, bound] : {std::pair("fp16", 1e-3), std::pair("fp8_e4m3", 0.05)}) {
    Boundary b("cast", 5, 40, DType::f32, format(name), BackendKind::cpu);
    const Values g = b.random(1, 1e-7);
    EXPECT_LE(nrmse(b.backward(g), g), bound) << name;
  }
}

TEST(Baseline, QuantisationErrsByHalfAStepAndKeepsTheLargest) {
  for (const int bits : {8, 4})
    for (const char* scale : {"token", "group"}) {
      Boundary b("quantize", 7, 37, DType::f32, quantization(bits, scale, "nearest"),
                 BackendKind::cpu);
      const Values x = b.random(1), y = b.forward(x);
      const size_t group = *scale == 't' ? 37 : 8;
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t row = i / 37 * 37, begin = row + (i - row) / group * group;
        double largest = 0;
        for (size_t j = begin; j < std::min(begin + group, row + 37); ++j)
          largest = std::max(largest, std::abs(x[j]));
        // bf16 scales are rounded up, by 2^-7 at most; f32 arithmetic adds 2^-22 of the number.
        const double step = largest / (bits == 8 ? 127 : 7) * (1 + 0x1p-7);
        EXPECT_LE(std::abs(y[i] - x[i]), step / 2 + 0x1p-22 * largest);
      }
    }
}

// The mean over 400 steps of numbers between two codes: its standard deviation is at most half a step / 20, bound 5 of them.
TEST(Baseline, StochasticRoundingIsUnbiased) {
  Boundary b("quantize", 3, 16, DType::f32, quantization(4, "token", "stochastic"),
             BackendKind::cpu);
  const Values x = b.random(1);
  Values mean(x.size());
  for (int step = 1; step <= 400; ++step) {
    b.at_step(step);
    const Values y = b.forward(x);
    for (size_t i = 0; i < x.size(); ++i) mean[i] += y[i] / 400;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    double largest = 0;
    for (size_t j = i / 16 * 16; j < i / 16 * 16 + 16; ++j)
      largest = std::max(largest, std::abs(x[j]));
    EXPECT_NEAR(mean[i], x[i], 5 * largest / 7 / 2 / 20 * 1.01);
  }
}

TEST(Baseline, RandomNumbersBelongToTheStepTheMicrobatchAndTheDirection) {
  const auto make = [](BackendKind kind) {
    return Boundary("quantize", 3, 16, DType::f32, quantization(4, "token", "stochastic"), kind);
  };
  Boundary b = make(BackendKind::cpu), r = make(BackendKind::reference);
  const Values x = b.random(1), y = b.forward(x);
  EXPECT_EQ(b.forward(x), y);
  EXPECT_EQ(r.forward(x), y);  // the same bits on every backend
  EXPECT_NE(b.backward(x), y);
  b.at_step(1, 1);
  EXPECT_NE(b.forward(x), y);
  b.at_step(2);
  EXPECT_NE(b.forward(x), y);
}

TEST(Baseline, NotANumberArrivesAsOne) {
  for (const char* method : {"quantize", "cast"}) {
    Boundary b(method, 2, 8, DType::f32, format("fp8_e4m3"), BackendKind::cpu);
    Values x = b.random(1);
    x[3] = std::nan("");
    const Values y = b.forward(x);
    EXPECT_TRUE(std::isnan(y[3])) << method;
    EXPECT_FALSE(std::isnan(y[8])) << method;  // another token
  }
}

TEST(Baseline, EverythingKeptIsTheIdentity) {
  for (const char* method : {"topk", "column_mask"}) {
    Boundary b(method, 5, 24, DType::f64, size(24));
    const Values x = b.random(1), g = b.random(2);
    EXPECT_EQ(b.forward(x), x) << method;
    EXPECT_EQ(b.backward(g), g) << method;
  }
  Boundary b("lowrank", 40, 24, DType::f64, size(24));
  const Values x = b.random(1);
  EXPECT_LE(nrmse(b.forward(x), x), 1e-12);  // a projection onto everything, to rounding
}

TEST(Baseline, TopkKeepsTheLargestOfEachToken) {
  Boundary b("topk", 2, 6, DType::f64, size(2));
  EXPECT_EQ(b.forward({1, -5, 2, 3, 0, 0, 4, 4, -4, 4, 1, 0}),
            (Values{0, -5, 0, 3, 0, 0, 4, 4, 0, 0, 0, 0}));  // of equal ones the first
}

TEST(Baseline, ErrorFeedbackSendsEverythingInTheEnd) {
  Boundary b("topk", 4, 12, DType::f64, [](MethodOptions& o) {
    o.rank = 3;
    o.error_feedback = "per_microbatch";
  });
  const Values x = b.random(1), other = b.random(2);
  const auto after = [&](int steps) {
    Values sum(x.size());
    for (int s = 1; s <= steps; ++s) {
      b.at_step(s, 0);
      const Values y = b.forward(x);
      for (size_t i = 0; i < x.size(); ++i) sum[i] += y[i];
      b.at_step(s, 1);
      b.forward(other);  // has an error of its own
      b.at_step(0, 0, false);
      b.forward(other);  // an evaluation leaves it alone
    }
    for (double& v : sum) v /= steps;
    return nrmse(sum, x);
  };
  const double few = after(4), many = after(400);
  EXPECT_LT(many, few / 10);
  EXPECT_LT(many, 0.02);  // what is left over is bounded, so the mean converges with 1 / steps
}

TEST(Baseline, ColumnsAreThoseOfLargestEnergyAndGradientsFollowThem) {
  Boundary b("column_mask", 2, 5, DType::f64, size(2));
  const Values x = {1, 0, 3, 0, 2, 1, 1, 3, 0, 2}, g = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_EQ(b.forward(x), (Values{0, 0, 3, 0, 2, 0, 0, 3, 0, 2}));
  EXPECT_EQ(b.backward(g), (Values{0, 0, 3, 0, 5, 0, 0, 8, 0, 10}));
}

// specs/subspace_models.md, section 11, variant (c): the columns are those of x - tau[ids], what is not sent arrives as tau[ids], and ids arrive, too.
TEST(Baseline, ColumnsMayBeOfWhatATokenTableLeaves) {
  Boundary b("column_mask", 3, 8, DType::f64, anchored(size(2)));
  const Values rest = {1, 0, 0, 9, 2, 0, 0, 0, 0, 1, 1, 7, 3, 0, 0, 0, 0, 0, 0, 8, 5, 0, 2, 0};
  Values x(rest.size()), table(rest.size());
  for (const Buffer& c : b.lists[0]->buffers())
    if (c.name == "column_mask.anchors")
      for (int64_t i = 0; i < 24; ++i)
        table[static_cast<size_t>(i)] = at(c.value, 7 * (i / 8) * 8 + i % 8);
  ASSERT_GT(std::abs(table[0]), 0);
  for (size_t i = 0; i < x.size(); ++i) x[i] = rest[i] + table[i];
  const Values y = b.forward(x);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t column = i % 8;
    EXPECT_NEAR(y[i], table[i] + (column == 3 || column == 4 ? rest[i] : 0), 1e-14) << i;
  }
  const Values g = b.random(2), back = b.backward(g);
  for (size_t i = 0; i < g.size(); ++i)
    EXPECT_EQ(back[i], i % 8 == 3 || i % 8 == 4 ? g[i] : 0) << i;
  ASSERT_EQ(b.frames[1].ids.size(0), 3);
  for (int64_t n = 0; n < 3; ++n) EXPECT_EQ(b.frames[1].ids.as<int32_t>()[n], 7 * n);
  EXPECT_TRUE(b.codecs[0]->traits().needs_ids);
  EXPECT_TRUE(b.codecs[0]->traits().exact_adjoint);
  Boundary other("column_mask", 3, 8, DType::f64, [](MethodOptions& o) {
    o.rank = 2;
    o.anchors = "static";
    o.basis_seed = 5;
  });
  EXPECT_NE(b.codecs[0]->handshake(*b.ops), other.codecs[0]->handshake(*other.ops));
}

TEST(Baseline, ColumnsAreChosenAgainEveryRefresh) {
  Boundary b("column_mask", 1, 4, DType::f64, [](MethodOptions& o) {
    o.rank = 1;
    o.refresh = 2;
  });
  b.at_step(1, 0);
  EXPECT_EQ(b.forward({1, 9, 2, 3}), (Values{0, 9, 0, 0}));
  b.at_step(1, 1);
  EXPECT_EQ(b.forward({9, 1, 2, 3}), (Values{0, 1, 0, 0}));
  b.at_step(2, 0);
  EXPECT_EQ(b.forward({9, 1, 2, 3}), (Values{0, 1, 0, 0}));
  b.at_step(0, 0, false);
  EXPECT_EQ(b.forward({9, 1, 2, 3}), (Values{0, 1, 0, 0}));
  b.at_step(3, 0);
  EXPECT_EQ(b.forward({9, 1, 2, 3}), (Values{9, 0, 0, 0}));
}

// X of rank 3 is found exactly; of another X the warm start finds the best approximation in time. Error of the truncated SVD from the construction:
// orthonormal factors with known singular values.
TEST(Baseline, LowrankFindsTheLargestDirections) {
  Boundary b("lowrank", 30, 20, DType::f64, size(3));
  Values x(600);
  const auto factor = [](uint64_t stream, int64_t i) {
    return normal_at(Philox{4}, stream, static_cast<uint64_t>(i));
  };
  for (int64_t n = 0; n < 30; ++n)
    for (int64_t c = 0; c < 20; ++c)
      for (uint64_t r = 0; r < 3; ++r)
        x[static_cast<size_t>(n * 20 + c)] += factor(r, n) * factor(10 + r, c);
  EXPECT_LE(nrmse(b.forward(x), x), 1e-12);
  EXPECT_EQ(b.forward(Values(600, 0.0)), Values(600, 0.0));  // no direction at all
  EXPECT_LE(nrmse(b.forward(x), x), 1e-9);                   // and back from there
  const Values noise = b.random(7);
  const double first = nrmse(b.forward(noise), noise);
  double last = first;
  for (int i = 0; i < 50; ++i) last = nrmse(b.forward(noise), noise);
  EXPECT_LT(last, first);
  EXPECT_LT(last, 1);
}

// The columns of a (n,r), row-major, made orthonormal in their order.
void gram_schmidt(Values& a, size_t n, size_t r) {
  for (size_t j = 0; j < r; ++j)
    for (size_t k = 0; k <= j; ++k) {
      double product = 0;
      for (size_t i = 0; i < n; ++i) product += a[i * r + j] * a[i * r + k];
      const double norm = std::sqrt(product);
      for (size_t i = 0; i < n; ++i)
        if (k == j)
          a[i * r + j] /= norm;
        else
          a[i * r + j] -= product * a[i * r + k];
    }
}

// P = orth(X V), Q = X^T P, X^ = P Q^T, V' = orth(Q) + start / 1000, message for message, computed here by Gram-Schmidt. Activations and gradients each
// have a V of their own. f64: 1e-10 is a thousand roundings of sums of 30 terms in a basis whose condition is below 100.
TEST(Baseline, LowrankIsItsFactorisationAndSoAreItsGradients) {
  constexpr size_t N = 30, d = 20, r = 3;
  Boundary b("lowrank", N, d, DType::f64, size(r));
  for (const char* direction : {"activations", "gradients"}) {
    const bool gradients = *direction == 'g';
    Values start;
    for (const Buffer& c : b.lists[gradients ? 1 : 0]->buffers())
      if (c.name == std::string("boundaries.0.") + direction + ".start") start = values(c.value);
    ASSERT_EQ(start.size(), d * r);
    Values right = start;
    for (uint64_t message = 0; message < 3; ++message) {
      const Values x = b.random(30 + message + (gradients ? 10 : 0));
      Values v(d * r), p(N * r), q(d * r), expected(N * d);
      for (size_t i = 0; i < v.size(); ++i) v[i] = right[i] + 1e-3 * start[i];
      for (size_t n = 0; n < N; ++n)
        for (size_t c = 0; c < d; ++c)
          for (size_t j = 0; j < r; ++j) p[n * r + j] += x[n * d + c] * v[c * r + j];
      gram_schmidt(p, N, r);
      for (size_t n = 0; n < N; ++n)
        for (size_t c = 0; c < d; ++c)
          for (size_t j = 0; j < r; ++j) q[c * r + j] += x[n * d + c] * p[n * r + j];
      for (size_t n = 0; n < N; ++n)
        for (size_t c = 0; c < d; ++c)
          for (size_t j = 0; j < r; ++j) expected[n * d + c] += p[n * r + j] * q[c * r + j];
      EXPECT_LE(nrmse(gradients ? b.backward(x) : b.forward(x), expected), 1e-10)
          << direction << message;
      right = q;
      gram_schmidt(right, d, r);
    }
  }
}

// X of rank 3 again, in bf16: x itself, P and Q are rounded by 2^-9 of a number at most, and x^ once more: below 2^-9 sqrt(4) = 2^-8 in the mean square,
// with either wire. The first message begins with random directions, whose condition multiplies roundings of x.
TEST(Baseline, LowrankInBf16LosesRoundingsAlone) {
  for (const DType wire : {DType::bf16, DType::f32}) {
    Boundary b(
        "lowrank", 30, 20, DType::bf16, [&](MethodOptions& o) { o.rank = 3, o.wire = wire; },
        BackendKind::cpu);
    Values x(600);
    for (size_t i = 0; i < x.size(); ++i)
      for (uint64_t r = 0; r < 3; ++r)
        x[i] += normal_at(Philox{4}, r, i / 20) * normal_at(Philox{4}, 10 + r, i % 20);
    b.forward(x);
    for (int message = 1; message < 4; ++message)
      EXPECT_LE(nrmse(b.forward(x), x), 0x1p-8) << name_of(wire) << message;
  }
}

TEST(Baseline, ATokenMoreThanRanksMakesNoNumbersThatAreNone) {
  Boundary b("lowrank", 2, 20, DType::f32, size(6), BackendKind::cpu);
  const Values x = b.random(1);
  EXPECT_LE(nrmse(b.forward(x), x), 1e-5);  // rank 2: six are enough, in f32
}

// What is decoded is what the backward of the stage before gets, bit for bit: the rounding is taken for the identity.
TEST(Baseline, GradientsCrossAsTheyWereDecoded) {
  TrainingConfig c = tiny(2, "quantize", DType::f32);
  Pipeline p(c, BackendKind::cpu), plain(tiny(2, "none", DType::f32), BackendKind::cpu);
  Pipeline::Hooks hooks;
  hooks.sent = [&](int, Tensor x, Tensor) {  // already on the grid of codes: nothing is lost
    for (int64_t i = 0; i < x.elements(); ++i)
      set(x, i, static_cast<double>(i % x.size(1) == 0 ? 127 : i % 50));
  };
  hooks.gradient = [&](int, Tensor g) {
    for (int64_t i = 0; i < g.elements(); ++i)
      set(g, i, static_cast<double>(i % g.size(1) == 0 ? 127 : i % 60) * 0x1p-10);
  };
  p.step(0, 2, 1, hooks);
  plain.step(0, 2, 1, hooks);
  for (Parameter* q : plain.all())
    EXPECT_EQ(values(p.find(q->name).grad), values(q->grad)) << q->name;
}

TEST(Baseline, GradientsMayHaveACodecOfTheirOwn) {
  TrainingConfig c = tiny_run(3, "topk", DType::f32, 3, 1);
  DirectionOptions& gradients = c.method.backward.emplace();
  gradients.method = "quantize";
  gradients.bits = 4;
  const HashedTokens data(c.shape);
  const Outcome o = run({{c, &data}});
  const auto rows = static_cast<uint64_t>(c.batch / c.microbatches * c.shape.context);
  for (const record::RankLog& rank : o.steps[0].ranks)
    for (const record::Entry& entry : rank.entries)
      if (const auto* send = std::get_if<record::Send>(&entry.action)) {
        if (send->kind == record::MessageKind::forward) {
          EXPECT_EQ(send->payload.count, rows * 4 * 5);
        } else if (send->kind == record::MessageKind::backward) {
          EXPECT_EQ(send->payload.count, rows * (16 + 2));
        }
      }
}

TEST(Baseline, SizesComeFromRatios) {
  const auto rank_of = [](const std::string& method, double ratio, const Choose& choose = {}) {
    TrainingConfig c = tiny(3, method, DType::f32);
    c.shape.width = 128;
    c.method.rank.reset();
    c.method.ratio = ratio;
    c.method.batch.rows = 128;
    if (choose) choose(c.method);
    return *make_method(c.method, c.shape, c.dtype)->rank();
  };
  EXPECT_EQ(rank_of("topk", 8), 13);         // 128 * 4 / (k (4 + 1)): 12.8
  EXPECT_EQ(rank_of("column_mask", 8), 16);  // 16 bytes of bits a microbatch are little
  EXPECT_EQ(rank_of("lowrank", 8), 8);       // as many tokens as columns: half of 128 / 8
  EXPECT_EQ(rank_of("topk", 8,
                    [](MethodOptions& o) {
                      o.wire = DType::bf16;
                      o.backward.emplace().method = "none";
                    }),
            21);  // of activations alone: 128 * 4 / (k (2 + 1)) = 8 at 21.3
  try {
    rank_of("lowrank", 1e6);
    FAIL() << "accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("cannot be reached by lowrank at width 128: 1 to 128 ranks"));
  }
}

TEST(Baseline, WhatDoesNotFitIsRefused) {
  const auto error = [](const std::string& method, const Choose& choose) -> std::string {
    TrainingConfig c = tiny(2, method, DType::f32);
    choose(c.method);
    try {
      static_cast<void>(make_method(c));
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(error("cast", size(3)), HasSubstr("neither rank nor ratio"));
  EXPECT_THAT(error("topk", [](MethodOptions& o) { o.rank.reset(); }), HasSubstr("exactly one"));
  EXPECT_THAT(error("topk", size(33)), HasSubstr("1 to the model's width 32"));
  EXPECT_THAT(error("cast", format("fp4")), HasSubstr("format is \"fp4\"; allowed: bf16, fp16"));
  EXPECT_THAT(error("quantize", [](MethodOptions& o) { o.group = 3; }), HasSubstr("group is 3"));
  EXPECT_THAT(error("column_mask", [](MethodOptions& o) { o.anchors = "full"; }),
              HasSubstr("anchors is \"full\"; allowed: none, static"));
  EXPECT_THAT(error("none",
                    [](MethodOptions& o) {
                      DirectionOptions& g = o.backward.emplace();
                      g.method = "column_mask";
                      g.rank = 4;
                      g.anchors = "static";
                    }),
              HasSubstr("anchors of gradients is \"static\"; allowed: none"));
  EXPECT_THAT(error("none", [](MethodOptions& o) { o.backward.emplace().method = "resbm"; }),
              HasSubstr("allowed: none, cast, quantize, topk, column_mask, lowrank"));
  EXPECT_THAT(error("resbm", [](MethodOptions& o) { o.backward.emplace(); }),
              HasSubstr("codes both directions itself"));
}

TEST(Baseline, DiagnosticsSayWhatIsLostAndChangeNothing) {
  for (const char* method :
       {"cast", "quantize", "topk", "column_mask", "column_mask+anchors", "lowrank"}) {
    TrainingConfig c = tiny_run(3, method, DType::f32, 3, 1);
    c.method.error_feedback = "per_microbatch";
    c.method.format = "fp8_e4m3";
    c.method.refresh = 2;
    const HashedTokens data(c.shape);
    const Outcome plain = run({{c, &data}});
    c.diagnose_every = 2;
    std::map<std::string, int> found;
    TrainingObserver observer;
    observer.diagnostic = [&](const record::Diagnostic& d) {
      ++found[d.name];
      if (d.name.ends_with("_error")) {
        EXPECT_GT(d.value, 0) << method << d.name;
        // With anchors what is dropped arrives as the table's N(0,1), which is larger than x here.
        EXPECT_TRUE(d.value < 1 || c.method.anchors != "none") << method << d.name;
      }
    };
    EXPECT_EQ(train(c, BackendKind::cpu, &data, 2, observer).parameters_hash,
              plain.result.parameters_hash)
        << method;
    EXPECT_EQ(found["activation_error"], 2) << method;
    EXPECT_EQ(found["gradient_error"], 2) << method;
  }
}

}  // namespace
}  // namespace strait::testing
