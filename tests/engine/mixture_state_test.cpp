// What mixtures of subspaces make of weights, and states that move (specs/mixture_of_subspaces.md 13, M16, M19, M21).
#include "tests/engine/mixture_matrices.h"

namespace strait::testing {
namespace {

// Decoupled decay and plain descent with the gradients of the method at theta = 0: what lies outside the subspace decays by itself alone.
TEST(MixtureOfSubspaces, Invariant16_IdleDirectionsDecayUnderSgdAndNotUnderAdamW) {
  MixtureCase c;
  c.mixture.theta_source = "zero";
  c.sequences = 1;
  c.qkv = random_qkv(c);
  const Named frames = run_mixture(c, context_inputs(c, c.dtype), false).frames;
  c.frames = frames;
  const Matrix u = first_frame(c, frames, 0, 0);
  const Matrix idle = sum(identity(c.width()), product(u, transposed(u)), -1);
  const int64_t first = int64_t{c.heads} * c.head_width, w = c.width();
  for (const bool adam : {false, true}) {
    Values qkv = c.qkv, m(qkv.size(), 0.0), v(qkv.size(), 0.0);
    const auto idle_norm = [&] {
      Matrix keys(w, c.columns);
      std::copy_n(qkv.begin() + first * c.columns, w * c.columns, keys.x.begin());
      double square = 0;
      for (double x : product(idle, keys).x) square += x * x;
      return std::sqrt(square);
    };
    const double eta = 0.05, lambda = 0.2, begin = idle_norm();
    double worst = 0;
    for (int step = 1; step <= 20; ++step) {
      const Projected p = projected(c, qkv);
      const Values dk = run_mixture(c, p.in).result.dk;
      for (int64_t i = 0; i < w; ++i)
        for (int64_t j = 0; j < c.columns; ++j) {
          double g = 0;
          for (int64_t t = 0; t < c.tokens; ++t)
            g += dk[static_cast<size_t>(t * w + i)] * p.x[static_cast<size_t>(t * c.columns + j)];
          const auto at = static_cast<size_t>((first + i) * c.columns + j);
          double move = g;
          if (adam) {
            m[at] = 0.9 * m[at] + 0.1 * g;
            v[at] = 0.95 * v[at] + 0.05 * g * g;
            move = m[at] / (1 - std::pow(0.9, step)) /
                   (std::sqrt(v[at] / (1 - std::pow(0.95, step))) + 1e-8);
          }
          qkv[at] -= eta * (move + lambda * qkv[at]);
        }
      worst =
          std::max(worst, std::abs(idle_norm() / (begin * std::pow(1 - eta * lambda, step)) - 1));
    }
    if (adam)
      EXPECT_GT(worst, 1e-2);
    else
      EXPECT_LT(worst, 1e-10);
  }
}

TEST(MixtureOfSubspaces, Invariant19_FoldingTheBasisIntoTheWeightsChangesNothingAtAngleZero) {
  for (const char* scope : {"layer", "per_head"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.scope = scope;
    if (c.mixture.scope == "per_head") c.mixture.rank_k = 1, c.mixture.rank_v = 2;
    c.qkv = random_qkv(c);
    const ContextInputs in = projected(c, c.qkv).in;
    const MixtureRun plugged = run_mixture(c, in, false);
    Values folded = c.qkv;
    fold_key_values(folded, c.mixture, c.shape(), plugged.frames.at("k.frames"),
                    plugged.frames.at("v.frames"));
    const ContextInputs after = projected(c, folded).in;
    const Values plain = run_context(c, after, false).o;
    EXPECT_NEAR(loss_of(plugged.result.o, in.dout), loss_of(plain, in.dout), 1e-10);
    EXPECT_LE(largest_difference(plugged.result.o, plain), 1e-12);
    // Queries are not touched.
    for (int64_t i = 0; i < int64_t{c.heads} * c.head_width * c.columns; ++i)
      EXPECT_EQ(folded[static_cast<size_t>(i)], c.qkv[static_cast<size_t>(i)]);
  }
}

// project_at_start does the same to the weights where the method begins.
TEST(MixtureOfSubspaces, WeightsAreProjectedWhereAskedFor) {
  MixtureCase c;
  c.qkv = random_qkv(c);
  c.mixture.project_at_start = true;
  const auto ops = make_reference_backend();
  ParameterList list(DType::f64);
  const ModelShape shape = c.shape();
  const Buffer* rope = declare_rope_table(list, shape);
  const auto codec =
      make_mixture_of_subspaces(c.mixture, {shape, TokenLayout::zigzag, 1, 0, 1, list, rope});
  Parameter* qkv = list.declare("qkv", {c.qkv_rows(), c.columns}, ParameterGroup::matrix, zeros());
  list.allocate(*ops);
  host_upload(*ops, qkv->master, c.qkv);
  Arena scratch;
  Context ctx{*ops, scratch};
  NoOtherCopies alone;
  codec->begin(ctx, alone, *qkv);
  Named frames;
  for (Buffer& b : list.buffers())
    if (b.saved) frames[prefix_of(b.name)] = host_values(*ops, b.value);
  Values expected = c.qkv;
  fold_key_values(expected, c.mixture, shape, frames.at("k.frames"), frames.at("v.frames"));
  EXPECT_EQ(host_values(*ops, qkv->master), expected);
}

// Gives a buffer the sum over copies that a test has made.
class Copies final : public ControlLink {
 public:
  Copies(Backend& ops, const Named& sums, const ParameterList& list)
      : ops_(ops), sums_(sums), list_(list) {}
  void send(int32_t, Message) override {}
  Message receive(int32_t) override { return {}; }
  void compute(const std::function<void()>& work) override { work(); }
  void sum_gradient(Tensor value) override { sum_over_copies(value); }
  void sum_over_copies(Tensor value) override {
    for (const Buffer& b : list_.buffers())
      if (b.value.data == value.data) host_upload(ops_, value, sums_.at(prefix_of(b.name)));
  }
  void from_first_copy(Tensor, const std::function<void()>& make) override { make(); }

 private:
  Backend& ops_;
  const Named& sums_;
  const ParameterList& list_;
};

// Bases that move: one step down the gradient on the Stiefel manifold. Copies, here ranks, sum their gradients of U.
TEST(MixtureOfSubspaces, Invariant21_StiefelStepsStayOnTheManifoldAndDescend) {
  for (const char* scope : {"layer", "per_head"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.scope = scope;
    if (c.mixture.scope == "per_head") c.mixture.rank_k = 2, c.mixture.rank_v = 3;
    c.mixture.rotation = "none";
    c.mixture.basis_opt = "stiefel";
    const ContextInputs in = context_inputs(c, c.dtype);
    c.frames = run_mixture(c, in, false).frames;
    const double before = loss_of(run_mixture(c, in, false).result.o, in.dout);
    // The sum over the ranks, as ControlLink gives it.
    Named gradients;
    std::mutex mutex;
    ContextCase context = c;
    context.codec = [&](ParameterList& list, const Buffer* rope) {
      return make_mixture_of_subspaces(c.mixture,
                                       {c.shape(), c.options.layout, c.shards, 0, 1, list, rope});
    };
    context.before = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      set_up(c, ctx, list, codec);
    };
    context.after = [&](int, Context& ctx, ParameterList& list, KeyValueCodec&) {
      const std::lock_guard lock(mutex);
      for (Buffer& b : list.buffers())
        if (b.name.find("basis_gradient") != std::string::npos) {
          Values& total = gradients[prefix_of(b.name)];
          const Values part = host_values(ctx.ops, b.value);
          total.resize(part.size());
          for (size_t i = 0; i < part.size(); ++i) total[i] += part[i];
        }
    };
    run_context(context, in);

    // dU against finite differences: U moves freely, C = Z U and Zhat = C U^T.
    for (const char* z : {"k", "v"}) {
      Values& frames = c.frames->at(std::string(z) + ".frames");
      for (size_t i = 1; i < frames.size(); i += 5) {
        const double x = frames[i], h = 1e-5;
        frames[i] = x + h;
        const double up = loss_of(run_mixture(c, in, false).result.o, in.dout);
        frames[i] = x - h;
        const double down = loss_of(run_mixture(c, in, false).result.o, in.dout);
        frames[i] = x;
        EXPECT_NEAR(gradients.at(std::string(z) + ".basis_gradient")[i], (up - down) / (2 * h),
                    1e-6);
      }
    }

    // The step itself, on a copy of the state.
    MixtureCase one = c;
    one.shards = 1;
    Named moved;
    ContextCase step = one;
    step.codec = [&](ParameterList& list, const Buffer* rope) {
      return make_mixture_of_subspaces(c.mixture,
                                       {c.shape(), c.options.layout, 1, 0, 1, list, rope});
    };
    step.after = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      set_up(one, ctx, list, codec);
      Copies copies(ctx.ops, gradients, list);
      codec.end_synchronise(ctx, copies, {1, 1e-3});
      for (Buffer& b : list.buffers()) {
        if (b.saved) moved[prefix_of(b.name)] = host_values(ctx.ops, b.value);
        if (b.name.find("basis_gradient") == std::string::npos) continue;
        for (double x : host_values(ctx.ops, b.value)) EXPECT_EQ(x, 0);
      }
    };
    run_context(step, in, false);
    for (int z = 0; z < 2; ++z)
      for (int64_t g = 0; g < c.groups(); ++g) {
        const Matrix u = first_frame(c, *c.frames, z, g), after = first_frame(c, moved, z, g);
        EXPECT_LE(not_orthonormal(after), 1e-12);
        // Tangent to first order: U^T (U+ - U) is skew up to the square of the step.
        const Matrix change = sum(after, u, -1), k = product(transposed(u), change);
        EXPECT_GT(largest(change), 1e-5);
        EXPECT_LE(largest(sum(k, transposed(k))), 2 * largest(product(transposed(change), change)));
      }
    c.frames = moved;
    EXPECT_LT(loss_of(run_mixture(c, in, false).result.o, in.dout), before);
  }
}

// The principal directions of what was seen, not of the weights.
TEST(MixtureOfSubspaces, BasesOfActivations) {
  MixtureCase c;
  c.mixture.basis_source = "activations";
  const ContextInputs in = context_inputs(c, c.dtype);
  ContextCase context = c;
  Named frames;
  context.codec = [&](ParameterList& list, const Buffer* rope) {
    return make_mixture_of_subspaces(c.mixture, {c.shape(), c.options.layout, 1, 0, 1, list, rope});
  };
  const auto begin = [&](Context& ctx, KeyValueCodec& codec) {
    TensorStore store(ctx.ops);
    Parameter qkv;
    qkv.shape = {c.qkv_rows(), c.columns};
    qkv.master = qkv.value = store.make(qkv.shape, c.dtype);
    NoOtherCopies alone;
    codec.begin(ctx, alone, qkv);
  };
  context.before = [&](int, Context& ctx, ParameterList&, KeyValueCodec& codec) {
    EXPECT_TRUE(codec.wants_calibration());
    EXPECT_THROW(begin(ctx, codec), std::runtime_error);  // nothing was seen
    codec.calibrate(true);
  };
  context.after = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
    codec.calibrate(false);
    begin(ctx, codec);
    for (Buffer& b : list.buffers())
      if (b.saved) frames[prefix_of(b.name)] = host_values(ctx.ops, b.value);
  };
  // While it looks, attention is that of method none.
  const ContextCase plain = c;
  EXPECT_EQ(run_context(context, in, false).o, run_context(plain, in, false).o);
  const int64_t rows = c.sequences * c.tokens, w = c.width();
  const Matrix keys = matrix(rows, w, in.k);
  const Eigen e = symmetric_eigen(product(transposed(keys), keys));
  Values sorted = e.values;
  std::sort(sorted.rbegin(), sorted.rend());
  double most = 0, captured = 0;
  for (int64_t i = 0; i < c.rank(0); ++i) most += sorted[static_cast<size_t>(i)];
  for (double x : product(keys, first_frame(c, frames, 0, 0)).x) captured += x * x;
  EXPECT_NEAR(captured, most, 1e-9 * most);
}

// Of the pieces of one shard of two, between forward and backward as far as a codec can tell.
TEST(MixtureOfSubspaces, DiagnosesCapturedEnergyAndAngles) {
  for (const char* scope : {"layer", "per_head"}) {
    MixtureCase c;
    c.shards = 2;
    c.mixture.scope = scope;
    c.mixture.rank_v = static_cast<int>(c.width());
    c.mixture.theta_source = "chunk_mean";
    c.with_heads(0.1);
    c.parameters["v.theta_proj.bias"] = Values(static_cast<size_t>(c.groups()), 3.0);
    const ContextInputs in = context_inputs(c, c.dtype);
    const SequenceLayout layout = token_layout(c.options, c.shards, c.tokens);
    const std::vector<int32_t> mine = layout.positions(0);
    std::map<std::string, double> found;
    ContextCase context = c;
    context.codec = [&](ParameterList& list, const Buffer* rope) {
      return make_mixture_of_subspaces(c.mixture,
                                       {c.shape(), c.options.layout, c.shards, 0, 1, list, rope});
    };
    context.before = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      set_up(c, ctx, list, codec);
    };
    Named frames;
    context.after = [&](int rank, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
      if (rank != 0) return;
      for (Buffer& b : list.buffers())
        if (b.saved) frames[prefix_of(b.name)] = host_values(ctx.ops, b.value);
      TensorStore store(ctx.ops);
      const auto tell = codec.diagnose(ctx, Frame{},
                                       {store.tokens(c, in.k, c.kv_heads, mine, c.dtype),
                                        store.tokens(c, in.v, c.kv_heads, mine, c.dtype)});
      found.insert(tell.begin(), tell.end());
    };
    run_context(context, in);
    const auto key = [&](int64_t b, int32_t position, int64_t g, int64_t j) {
      return in
          .k[static_cast<size_t>(((b * c.tokens + position) * c.groups() + g) * c.width() + j)];
    };
    double energy = 0, captured = 0, angle = 0;
    for (int64_t g = 0; g < c.groups(); ++g)
      for (int64_t b = 0; b < c.sequences; ++b) {
        Matrix keys(layout.shard_tokens(), c.width());
        std::vector<double> t(static_cast<size_t>(layout.pieces()),
                              c.parameters.at("k.theta_proj.bias")[static_cast<size_t>(g)]);
        for (int64_t i = 0; i < keys.rows; ++i)
          for (int64_t j = 0; j < c.width(); ++j) {
            const double x = keys(i, j) = key(b, mine[static_cast<size_t>(i)], g, j);
            energy += x * x;
            t[static_cast<size_t>(i / layout.piece_tokens())] +=
                x * c.parameters.at("k.theta_proj.weight")[static_cast<size_t>(g * c.width() + j)] /
                static_cast<double>(layout.piece_tokens());
          }
        for (double x : product(keys, first_frame(c, frames, 0, g)).x) captured += x * x;
        for (double x : t) angle = std::max(angle, std::abs(x));
      }
    EXPECT_EQ(layout.pieces(), 2);
    EXPECT_NEAR(found.at("key_captured"), captured / energy, 1e-12);
    EXPECT_NEAR(found.at("value_captured"), 1, 1e-12);
    EXPECT_NEAR(found.at("key_angle"), angle, 1e-12);
    EXPECT_LT(angle, 0.5);
    EXPECT_EQ(found.at("key_clipped"), 0);
    EXPECT_EQ(found.at("value_angle"), 0.5);
    EXPECT_EQ(found.at("value_clipped"), 1);
  }
}

}  // namespace
}  // namespace strait::testing
