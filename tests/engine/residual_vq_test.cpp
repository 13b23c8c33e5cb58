// Residual vector quantisation of mapl: invariants 9 to 11 of specs/mapl.md, section 9, and its bytes (12).
#include <gtest/gtest.h>

#include <set>

#include "engine/codec/residual_vq.h"
#include "tests/engine/control_loop.h"
#include "tests/engine/run_phases.h"

namespace strait::testing {
namespace {

using Values = std::vector<double>;

TrainingConfig config(DType dtype) {
  TrainingConfig c = tiny(3, "mapl", dtype);
  c.method.rank = 8;
  c.method.mapl.vq.on = true;
  c.method.mapl.vq.groups = 2;
  c.method.mapl.vq.codes = 5;
  c.method.mapl.vq.rounds = 2;
  return c;
}

// Both ends of a quantiser without a pipeline.
class Ends {
 public:
  Ends(ResidualVqOptions options, DType dtype, DType wire, int64_t rank, int64_t rows)
      : ops_(make_backend(dtype == DType::f64 ? BackendKind::reference : BackendKind::cpu, 1)),
        sent_(dtype),
        received_(dtype),
        rows_(rows),
        rank_(rank),
        dtype_(dtype) {
    options.on = true;
    const MethodContext a{shape_, 3, sent_, pool_}, b{shape_, 3, received_, pool_};
    const BatchShape batch{rows, 4, 1};
    sender = std::make_unique<ResidualVq>(a, batch, options, "vq.sender", rank, wire, true);
    receiver = std::make_unique<ResidualVq>(b, batch, options, "vq.receiver", rank, wire, false);
    for (ParameterList* list : {&sent_, &received_}) {
      list->declare("unused", {1}, ParameterGroup::vector, ones());
      list->allocate(*ops_);
    }
    memory_.push_back(ops_->allocate(1 << 22));
    scratch_ = Arena(memory_.back()->data(), 1 << 22, "scratch");
  }
  // Encodes and decodes z; what the two ends make of it.
  std::pair<Values, Values> cross(int64_t step, int microbatch, const Values& z, bool training) {
    ArenaScope scope(scratch_);
    Context ctx{*ops_, scratch_};
    Frame frame;
    frame.step = step;
    frame.microbatch = microbatch;
    frame.training = training;
    const auto room = [&](Message::Section s) { return scratch_.take(s.shape, s.dtype); };
    Tensor in = scratch_.take({rows_, rank_}, dtype_), q = scratch_.take(in.shape, dtype_),
           out = scratch_.take(in.shape, dtype_),
           codes = room(sender->code_section(sender->is_first(frame))),
           packed = room(sender->index_section(rows_));
    for (int64_t i = 0; i < in.elements(); ++i) set(in, i, z[static_cast<size_t>(i)]);
    sender->encode(ctx, frame, q, in, codes, packed);
    receiver->decode(ctx, frame, out, codes, packed);
    return {values(q), values(out)};
  }
  Values latents(uint64_t seed, double scale = 1) const {
    Values z(static_cast<size_t>(rows_ * rank_));
    for (size_t i = 0; i < z.size(); ++i) z[i] = scale * normal_at(Philox{seed}, 2, i);
    return z;
  }
  Tensor state(const std::string& name) { return buffer(sent_, "vq.sender." + name); }
  Values codes(int round) const { return values(sender->wire_codebook(round)); }
  Values received_codes(int round) const { return values(receiver->wire_codebook(round)); }

  std::unique_ptr<ResidualVq> sender, receiver;

 private:
  ModelShape shape_{6, 32, 4, 2, 8, 44, 61, 9, 10000, 1e-5};
  std::unique_ptr<Backend> ops_;
  MessagePool pool_;
  ParameterList sent_, received_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  Arena scratch_;
  int64_t rows_, rank_;
  DType dtype_;
};

ResidualVqOptions small(int codes, int rounds) {
  ResidualVqOptions o;
  o.groups = 2;
  o.codes = codes;
  o.rounds = rounds;
  return o;
}

double error(const Values& a, const Values& b) { return nrmse(a, b); }

// Indices of 5 and of 8 codes: three bits each, with and without codes that no index names.
TEST(ResidualVq, Invariant9TheReceiverNeedsNothingButTheMessage) {
  for (int codes : {5, 8}) {
    Ends e(small(codes, 2), DType::f32, DType::bf16, 8, 21);
    for (int m = 0; m < 12; ++m) {
      const auto [here, there] =
          e.cross(1 + m / 4, m % 4, e.latents(static_cast<uint64_t>(m)), true);
      EXPECT_EQ(here, there) << codes << " " << m;
    }
  }
}

TEST(ResidualVq, Invariant9TheErrorFallsWithTheRoundsWhereCodeZeroIsZero) {
  double before = 1;  // no round: all of it
  for (int rounds = 1; rounds <= 4; ++rounds) {
    Ends e(small(6, rounds), DType::f64, DType::f64, 8, 21);
    const Values z = e.latents(1);
    for (int round = 0; round < rounds; ++round)
      for (int64_t c = 0; c < 8; ++c) set(e.sender->wire_codebook(round), c, 0.0);
    const double now = error(e.cross(2, 0, z, false).first, z);
    EXPECT_LE(now, before);
    before = now;
  }
  EXPECT_LT(before, 1);
}

// What the rows of the first book leave is nothing: later books must be made of others.
TEST(ResidualVq, TheFirstMessageBringsCodesForEveryRound) {
  Values errors;
  for (int rounds : {1, 2, 3}) {
    Ends e(small(8, rounds), DType::f32, DType::f32, 8, 96);
    const Values z = e.latents(1);
    errors.push_back(error(e.cross(1, 0, z, true).first, z));
    const Values codes = e.codes(rounds - 1);
    std::set<Values> rows;
    for (size_t k = 0; k < 8; ++k)
      rows.insert(Values(codes.begin() + static_cast<std::ptrdiff_t>(8 * k),
                         codes.begin() + static_cast<std::ptrdiff_t>(8 * k + 8)));
    EXPECT_EQ(rows.size(), 8u) << rounds;
  }
  EXPECT_LT(errors[1], 0.9 * errors[0]);
  EXPECT_LT(errors[2], 0.9 * errors[1]);
}

TEST(ResidualVq, Invariant9ACodeIsReproducedExactly) {
  Ends e(small(6, 1), DType::f64, DType::f64, 8, 6);
  const Values z = e.codes(0);  // six codes, six tokens
  EXPECT_EQ(e.cross(2, 0, z, false).first, z);
}

TEST(ResidualVq, Invariant10BothEndsHoldTheSameCodes) {
  for (const bool share : {false, true})
    for (double fraction : {0.0, 0.3, 1.0}) {
      ResidualVqOptions o = small(7, 2);
      o.share_rounds = share;
      o.sync_fraction = fraction;
      Ends e(o, DType::f32, DType::bf16, 8, 21);
      for (int m = 0; m < 20; ++m) {
        e.cross(1 + m / 4, m % 4, e.latents(static_cast<uint64_t>(m)), true);
        for (int round = 0; round < 2; ++round)
          ASSERT_EQ(e.codes(round), e.received_codes(round)) << m;
      }
    }
}

// n messages bring every code, whether the order is drawn anew or not; in a redrawn one a code waits up to 2n - 1.
TEST(ResidualVq, Invariant10EveryCodeIsRefreshedInTime) {
  for (const bool fixed : {false, true}) {
    ResidualVqOptions o = small(10, 1);
    o.sync_fraction = 0.3;
    o.fixed_order = fixed;
    Ends e(o, DType::f32, DType::f32, 8, 21);
    const int n = 4;
    std::vector<int> last(10, -1);
    for (int m = 0; m < 100; ++m)
      for (int32_t code : e.sender->synchronised(m)) {
        const int waited = m - last[static_cast<size_t>(code)];
        if (last[static_cast<size_t>(code)] >= 0) {
          EXPECT_LE(waited, fixed ? n : 2 * n - 1) << code;
        }
        last[static_cast<size_t>(code)] = m;
      }
    for (int sweep = 0; sweep < 5; ++sweep) {
      std::set<int32_t> seen;
      for (int m = sweep * n; m < (sweep + 1) * n; ++m)
        for (int32_t code : e.sender->synchronised(m)) seen.insert(code);
      EXPECT_EQ(seen.size(), 10u);
    }
  }
}

TEST(ResidualVq, Invariant10StaleEndsDiffer) {
  ResidualVqOptions o = small(7, 1);
  o.sync = "stale";
  o.decay = 0.5;
  Ends e(o, DType::f32, DType::f32, 8, 21);
  bool differ = false;
  for (int m = 0; m < 8; ++m) {
    const auto [here, there] = e.cross(1 + m / 4, m % 4, e.latents(static_cast<uint64_t>(m)), true);
    differ = differ || here != there;
  }
  EXPECT_TRUE(differ);
}

TEST(ResidualVq, AnEvaluationChangesNothing) {
  Ends e(small(7, 2), DType::f32, DType::bf16, 8, 21);
  e.cross(1, 0, e.latents(1), true);
  const Values codes = e.codes(0), counts = values(e.state("counts")),
               sums = values(e.state("sums"));
  e.cross(0, 0, e.latents(2), false);
  EXPECT_EQ(e.codes(0), codes);
  EXPECT_EQ(e.received_codes(0), codes);
  EXPECT_EQ(values(e.state("counts")), counts);
  EXPECT_EQ(values(e.state("sums")), sums);
}

// With no memory the means are those of the message, as if computed on the spot.
TEST(ResidualVq, Invariant11WithoutMemoryCodesAreTheMeansOfTheBatch) {
  ResidualVqOptions o = small(3, 1);
  o.groups = 1;
  o.decay = 0;
  Ends e(o, DType::f64, DType::f64, 2, 21);
  const Values z = e.latents(5);
  e.cross(1, 0, e.latents(4), true);
  const Values codes = e.codes(0);
  e.cross(1, 1, z, true);
  const Values counts = values(e.state("counts")), sums = values(e.state("sums"));
  for (size_t k = 0; k < 3; ++k) {
    double n = 0, sum[2] = {0, 0};
    for (size_t i = 0; i < 21; ++i) {
      size_t best = 0;
      double least = 1e300;
      for (size_t j = 0; j < 3; ++j) {
        const double distance =
            std::pow(z[2 * i] - codes[2 * j], 2) + std::pow(z[2 * i + 1] - codes[2 * j + 1], 2);
        if (distance < least) least = distance, best = j;
      }
      if (best != k) continue;
      n += 1;
      sum[0] += z[2 * i];
      sum[1] += z[2 * i + 1];
    }
    if (n == 0) continue;  // began anew
    EXPECT_EQ(counts[k], n);
    EXPECT_NEAR(sums[2 * k], sum[0], 1e-12);
    EXPECT_NEAR(sums[2 * k + 1], sum[1], 1e-12);
  }
}

TEST(ResidualVq, Invariant11CodesOutOfUseBeginAnewAndCountsStayPositive) {
  ResidualVqOptions o = small(16, 1);
  o.decay = 0.1;
  Ends e(o, DType::f32, DType::f32, 8, 5);  // fewer tokens than codes: most are out of use
  for (int m = 0; m < 30; ++m) {
    e.cross(1 + m / 4, m % 4, e.latents(static_cast<uint64_t>(m)), true);
    for (double n : values(e.state("counts"))) ASSERT_GE(n, o.threshold * 0.99);
  }
}

// Straight through: the gradient that the receiver takes at q is the one that the sender takes at Z.
TEST(ResidualVq, Invariant11TheGradientPassesStraightThrough) {
  Pipeline p(config(DType::f64), BackendKind::reference);
  Tensor gradient;
  Values sent;
  Pipeline::Hooks hooks;
  hooks.gradient = [&](int boundary, Tensor g) {
    if (boundary == 0) gradient = g;
  };
  hooks.messages = [&](int boundary, const Message& m, const Message* backward) {
    if (boundary == 0 && backward != nullptr) sent = values(m.section(0));
  };
  p.step(0, 1, 1, hooks);
  const Tensor a = buffer(p.list(1), "boundaries.0.receiver.projector");
  for (int64_t n = 0; n < gradient.size(0); ++n)
    for (int64_t k = 0; k < 8; ++k) {
      double expected = 0;
      for (int64_t j = 0; j < 32; ++j) expected += at(gradient, n * 32 + j) * at(a, j * 8 + k);
      EXPECT_NEAR(sent[static_cast<size_t>(n * 8 + k)], expected, 1e-12);
    }
}

TEST(ResidualVq, Invariant12BytesAreThoseOfTheSpecification) {
  for (const bool share : {false, true})
    for (const char* backward : {"none", "rvq"}) {
      TrainingConfig c = config(DType::f32);
      c.method.wire = DType::bf16;
      c.method.mapl.vq.share_rounds = share;
      c.method.mapl.vq.backward = backward;
      c.method.mapl.vq.sync_fraction = 0.4;  // two of five codes
      const DryRun dry = dry_run(c);
      uint64_t forward = 0, back = 0, riding = 0;
      for (const record::RankLog& rank : dry.step.ranks)
        for (const record::Entry& e : rank.entries)
          if (const auto* send = std::get_if<record::Send>(&e.action)) {
            if (send->kind == record::MessageKind::forward) forward += send->payload.count;
            if (send->kind == record::MessageKind::backward) back += send->payload.count;
            if (send->kind != record::MessageKind::sync) riding += send->sync.count;
          }
      const uint64_t boundaries = 2, M = 2, N = 2 * 9, G = 2, R = 2, bits = 3, r = 8;
      const uint64_t indices = (N * G * R * bits + 7) / 8, codes = 2 * r * (share ? 1 : R) * 2;
      const bool both = *backward == 'r';
      EXPECT_EQ(forward, boundaries * M * (indices + N * 2));
      EXPECT_EQ(back, boundaries * M * (both ? indices : N * r * 2));
      EXPECT_EQ(riding, boundaries * M * codes * (both ? 2 : 1));
    }
}

TEST(ResidualVq, TrainingGoesDown) {
  TrainingConfig c = tiny_run(2, "mapl", DType::f32, 30, 3);
  c.method = config(DType::f32).method;
  c.evaluate_every = 30;
  const HashedTokens tokens(c.shape);
  const Outcome o = run({{c, &tokens}});
  EXPECT_LT(o.steps.back().loss, o.steps.front().loss);
}

}  // namespace
}  // namespace strait::testing
