// The hook for methods that compress keys and values (engine/context/key_value_codec.h), with one that has all that a method can have:
// sections of several types, coordinates before RoPE, a number a sequence that depends on all tokens of the piece, a trained
// parameter of the owner, and gradients of its own form.
#include <gtest/gtest.h>

#include <mutex>

#include "tests/engine/context_support.h"

namespace strait::testing {
namespace {

// For each of K and V, of a piece: C = Z U, m_b = mean of Z over tokens and channels, and everybody has Zhat = (1 + g m_b) C U^T, with
// a fixed U (w, r), w = Hkv Dh, and g a parameter of the owner, which travels as m g. One piece: [tag u8 | g m_K, g m_V (B) | C_K | C_V].
// In plain loops, for the reference backend.
class Coordinates final : public KeyValueCodec {
 public:
  Coordinates(DType t, int rank, double gain, Values* gain_gradient)
      : type_(t), rank_(rank), gain_(gain), gain_gradient_(gain_gradient) {}

  Sections payload(const KeyValueShape& s) const override {
    return {{DType::u8, {3}}, {type_, {2, s.sequences}}, {type_, rows(s)}, {type_, rows(s)}};
  }
  Sections gradient(const KeyValueShape& s) const override { return accumulator(s); }
  Sections accumulator(const KeyValueShape& s) const override {
    return {{type_, {2, s.sequences}}, {type_, rows(s)}, {type_, rows(s)}};
  }
  bool splits_heads() const override { return false; }

  void encode(Context&, Frame& frame, const Tensors& payload, const KeyValueSource& pre,
              const KeyValuePiece& piece) override {
    if (kept_.size() <= static_cast<size_t>(piece.index)) kept_.resize(2);
    auto& kept = kept_[static_cast<size_t>(piece.index)];
    kept = frame.arena.take({2, piece.shape.sequences}, type_);
    payload[0].as<uint8_t>()[0] = static_cast<uint8_t>(piece.shard);
    for (int z = 0; z < 2; ++z) {
      const Tensor& x = z == 0 ? pre.k : pre.v;
      each_row(piece.shape, [&](int64_t b, int64_t t, int64_t row) {
        for (int r = 0; r < rank_; ++r) {
          double sum = 0;
          for (int64_t c = 0; c < width(piece.shape); ++c) sum += get(x, b, t, c) * basis(z, c, r);
          set(payload[static_cast<size_t>(2 + z)], row * rank_ + r, sum);
        }
      });
      for (int64_t b = 0; b < piece.shape.sequences; ++b) {
        double sum = 0;
        for (int64_t t = 0; t < piece.shape.tokens; ++t)
          for (int64_t c = 0; c < width(piece.shape); ++c) sum += get(x, b, t, c);
        const double mean = sum / static_cast<double>(piece.shape.tokens * width(piece.shape));
        set(kept, z * piece.shape.sequences + b, mean);
        set(payload[1], z * piece.shape.sequences + b, gain_ * mean);
      }
    }
  }

  KeyValue decode(Context& ctx, Frame&, const Tensors& payload,
                  const KeyValuePiece& piece) override {
    EXPECT_EQ(payload[0].as<uint8_t>()[0], piece.shard);
    KeyValue kv{ctx.scratch.take(piece.shape.shape(), type_),
                ctx.scratch.take(piece.shape.shape(), type_)};
    for (int z = 0; z < 2; ++z)
      each_row(piece.shape, [&](int64_t b, int64_t, int64_t row) {
        for (int64_t c = 0; c < width(piece.shape); ++c) {
          double sum = 0;
          for (int r = 0; r < rank_; ++r)
            sum += at(payload[static_cast<size_t>(2 + z)], row * rank_ + r) * basis(z, c, r);
          set(z == 0 ? kv.k : kv.v, row * width(piece.shape) + c,
              (1 + at(payload[1], z * piece.shape.sequences + b)) * sum);
        }
      });
    return kv;
  }

  void decode_backward(Context&, Frame&, const Tensors& accumulator, const KeyValue& gradient,
                       const Tensors& payload, const KeyValuePiece& piece,
                       bool accumulate) override {
    for (size_t s = 0; s < accumulator.size() && !accumulate; ++s)
      for (int64_t i = 0; i < accumulator[s].elements(); ++i) set(accumulator[s], i, 0);
    for (int z = 0; z < 2; ++z)
      each_row(piece.shape, [&](int64_t b, int64_t, int64_t row) {
        const int64_t of_b = z * piece.shape.sequences + b;
        const Tensor& dc = accumulator[static_cast<size_t>(1 + z)];
        for (int r = 0; r < rank_; ++r) {
          double sum = 0;
          for (int64_t c = 0; c < width(piece.shape); ++c)
            sum +=
                at(z == 0 ? gradient.k : gradient.v, row * width(piece.shape) + c) * basis(z, c, r);
          const int64_t i = row * rank_ + r;
          set(dc, i, at(dc, i) + (1 + at(payload[1], of_b)) * sum);
          set(accumulator[0], of_b,
              at(accumulator[0], of_b) + sum * at(payload[static_cast<size_t>(2 + z)], i));
        }
      });
  }

  void encode_backward(Context&, Frame&, const KeyValueSource& pre, const Tensors& accumulator,
                       const KeyValuePiece& piece) override {
    const auto& kept = kept_[static_cast<size_t>(piece.index)];
    const double elements = static_cast<double>(piece.shape.tokens * width(piece.shape));
    for (int z = 0; z < 2; ++z) {
      const Tensor& dx = z == 0 ? pre.k : pre.v;
      for (int64_t b = 0; b < piece.shape.sequences; ++b)
        *gain_gradient_ =
            Values{(*gain_gradient_)[0] + at(accumulator[0], z * piece.shape.sequences + b) *
                                              at(kept, z * piece.shape.sequences + b)};
      each_row(piece.shape, [&](int64_t b, int64_t t, int64_t row) {
        const double dmean = gain_ * at(accumulator[0], z * piece.shape.sequences + b);
        for (int64_t c = 0; c < width(piece.shape); ++c) {
          double sum = dmean / elements;
          for (int r = 0; r < rank_; ++r)
            sum += at(accumulator[static_cast<size_t>(1 + z)], row * rank_ + r) * basis(z, c, r);
          dx.as<double>()[b * dx.stride(0) + t * dx.stride(1) + c] = sum;
        }
      });
    }
  }

 private:
  static int64_t width(const KeyValueShape& s) { return s.heads * s.head_width; }
  Shape rows(const KeyValueShape& s) const { return {s.sequences * s.tokens, rank_}; }
  static double basis(int z, int64_t c, int r) {
    return normal_at(Philox{21}, static_cast<uint64_t>(z), static_cast<uint64_t>(c * 16 + r)) / 3;
  }
  static double get(const Tensor& x, int64_t b, int64_t t, int64_t c) {
    return x.as<double>()[b * x.stride(0) + t * x.stride(1) + c];
  }
  static void each_row(const KeyValueShape& s,
                       const std::function<void(int64_t, int64_t, int64_t)>& body) {
    for (int64_t b = 0; b < s.sequences; ++b)
      for (int64_t t = 0; t < s.tokens; ++t) body(b, t, b * s.tokens + t);
  }

  DType type_;
  int rank_;
  double gain_;
  Values* gain_gradient_;
  std::vector<Tensor> kept_;  // by piece: the means (2, B)
};

struct Trained {
  ContextResult result;
  double gain_gradient = 0;
};

Trained run_with(ContextCase c, const ContextInputs& in, double gain, bool backward) {
  std::vector<std::unique_ptr<Values>> gradients;
  std::mutex mutex;
  c.codec = [&](ParameterList&, const Buffer*) {
    const std::lock_guard lock(mutex);
    gradients.push_back(std::make_unique<Values>(1, 0.0));
    return std::make_unique<Coordinates>(c.dtype, 3, gain, gradients.back().get());
  };
  Trained run{run_context(c, in, backward)};
  for (const auto& g : gradients) run.gain_gradient += (*g)[0];
  return run;
}

TEST(KeyValueCodec, GradientsThroughACompressingMethodAreFiniteDifferences) {
  ContextCase base;
  base.tokens = 12;
  base.heads = 4;
  base.kv_heads = 2;
  base.head_width = 4;
  std::vector<ContextCase> cases(6, base);
  cases[0].shards = 1;
  cases[1].shards = 3;
  cases[2].shards = 2;
  cases[2].options.bwd_schedule = RingBackward::reverse;
  cases[3].shards = 3;
  cases[3].options.kv_send = KeyValueSend::needed;
  cases[4].shards = 3;
  cases[4].options.algorithm = ContextAlgorithm::allgather;
  cases[4].options.keep_gathered_kv = true;
  cases[5].shards = 2;
  cases[5].options.algorithm = ContextAlgorithm::allgather;
  cases[5].options.kv_send = KeyValueSend::needed;
  cases[5].options.layout = TokenLayout::contiguous;
  for (const ContextCase& c : cases) {
    SCOPED_TRACE(text_of(c));
    ContextInputs in = context_inputs(c, c.dtype);
    double gain = 0.7;
    const Trained run = run_with(c, in, gain, true);
    const auto loss = [&] {
      const Values o = run_with(c, in, gain, false).result.o;
      double sum = 0;
      for (size_t i = 0; i < o.size(); ++i) sum += o[i] * in.dout[i];
      return sum;
    };
    // h^2 and 1e-16 / h are both below 1e-8.
    const auto difference = [&](double& x) {
      const double before = x, h = 1e-4;
      x = before + h;
      const double up = loss();
      x = before - h;
      const double down = loss();
      x = before;
      return (up - down) / (2 * h);
    };
    for (size_t i = 1; i < in.k.size(); i += in.k.size() / 6) {
      EXPECT_NEAR(run.result.dk[i], difference(in.k[i]), 1e-7) << "k " << i;
      EXPECT_NEAR(run.result.dv[i], difference(in.v[i]), 1e-7) << "v " << i;
    }
    for (size_t i = 2; i < in.q.size(); i += in.q.size() / 3)
      EXPECT_NEAR(run.result.dq[i], difference(in.q[i]), 1e-7) << "q " << i;
    EXPECT_NEAR(run.gain_gradient, difference(gain), 1e-7);
  }
}

// How a message is divided does not change what arrives: sections of several widths, all pieces or the first alone.
TEST(PieceMessage, PartsHoldTheSameSections) {
  const auto ops = make_reference_backend();
  MessagePool pool;
  const Sections sections{{DType::u8, {3}}, {DType::f64, {2}}, {DType::bf16, {5}}};
  const PieceMessage whole(pool, *ops, {0, 1}, sections);
  EXPECT_EQ(whole.message().bytes().count, 2u * (3 + 16 + 10));
  for (int piece : {0, 1})
    whole.piece(piece)[0].as<uint8_t>()[0] = static_cast<uint8_t>(40 + piece);
  for (int piece : {0, 1}) {
    const PieceMessage part = whole.part({piece});
    EXPECT_EQ(part.message().bytes().count, 29u);
    const PieceMessage arrived(part.message(), {piece}, sections);
    ASSERT_EQ(arrived.piece(piece).size(), 3u);
    for (size_t s = 0; s < 3; ++s)
      EXPECT_EQ(arrived.piece(piece)[s].data, whole.piece(piece)[s].data);
    EXPECT_EQ(arrived.piece(piece)[0].as<uint8_t>()[0], 40 + piece);
  }
  EXPECT_THROW(PieceMessage(whole.message(), {0}, sections), std::logic_error);
  EXPECT_THROW(whole.part({2}), std::logic_error);
}

}  // namespace
}  // namespace strait::testing
