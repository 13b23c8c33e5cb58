// Mixtures of subspaces for tests: P in-process ranks with given head weights, and the same written out in plain loops by the formulas of
// specs/mixture_of_subspaces.md 2 and 3, for chunks that nobody sends.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/context/mixture_of_subspaces.h"
#include "engine/context/rotation_family.h"
#include "tests/engine/context_support.h"
#include "tests/engine/symmetric_eigen.h"

namespace strait::testing {

// One copy alone.
class NoOtherCopies final : public ControlLink {
 public:
  void send(int32_t, Message) override { FAIL(); }
  Message receive(int32_t) override { throw std::logic_error("nobody sends"); }
  void compute(const std::function<void()>& work) override { work(); }
  void sum_over_copies(Tensor) override {}
  void sum_gradient(Tensor) override {}
  void from_first_copy(Tensor, const std::function<void()>& make) override { make(); }
};

inline Values normal_values(size_t n, uint64_t stream, double stddev) {
  Values x(n);
  for (size_t i = 0; i < n; ++i) x[i] = stddev * normal_at(Philox{77}, stream, i);
  return x;
}

// By "k.theta_proj.weight" and so on: what follows the layer's prefix.
using Named = std::map<std::string, Values>;

struct MixtureCase : ContextCase {
  MixtureOptions mixture;
  Named parameters;             // values of the heads; others stay zero
  int64_t columns = 10;         // C of the stacked projection
  Values qkv;                   // ((H + 2 Hkv) Dh, C) of which bases are made; empty: random
  std::optional<Named> frames;  // instead of those that begin() makes
  std::function<std::unique_ptr<KeyValueCodec>(std::unique_ptr<KeyValueCodec>, int number)>
      watch;  // stands before the codec of every rank

  MixtureCase() {
    tokens = 24;
    head_width = 4;
    mixture.scope = "layer";
    mixture.rank_k = 3;
    mixture.rank_v = 5;
    mixture.generator_norm = "spectral";  // so that angles matter
    mixture.uncompressed_layers = "none";
  }
  int64_t groups() const { return mixture.scope == "per_head" ? kv_heads : 1; }
  int64_t width() const { return int64_t{kv_heads} * head_width / groups(); }
  int64_t rank(int z) const { return z == 0 ? *mixture.rank_k : *mixture.rank_v; }
  int64_t qkv_rows() const { return int64_t{heads + 2 * kv_heads} * head_width; }

  // Heads that make angles of about `angle`.
  void with_heads(double angle) {
    const bool reads = mixture.theta_source == "prev_piece" || mixture.theta_source == "chunk_mean";
    for (const char* z : {"k", "v"}) {
      const uint64_t stream = z[0];
      if (reads)
        parameters[std::string(z) + ".theta_proj.weight"] =
            normal_values(static_cast<size_t>(groups() * width()), stream, angle);
      if (reads || mixture.theta_source == "constant")
        parameters[std::string(z) + ".theta_proj.bias"] =
            normal_values(static_cast<size_t>(groups()), stream + 1, angle);
    }
  }
};

struct MixtureRun {
  ContextResult result;
  Named gradients;  // of the heads, and of bases that move, summed over the ranks
  Named frames;     // of rank 0: "k.frames", "v.frames"
};

inline std::string prefix_of(const std::string& name) {
  return name.substr(name.find("mixture.") + 8);
}

inline Values host_of(Backend& ops, const Tensor& t) { return host_values(ops, t); }

// Gives the codec its heads and its bases.
inline void set_up(const MixtureCase& c, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
  if (c.meta) return;
  for (Parameter& p : list.parameters())
    if (const auto found = c.parameters.find(prefix_of(p.name)); found != c.parameters.end()) {
      ASSERT_EQ(static_cast<int64_t>(found->second.size()), p.shape.elements()) << p.name;
      host_upload(ctx.ops, p.master, found->second);
      if (p.value.dtype != p.master.dtype) ctx.ops.cast(p.value, p.master);
    }
  TensorStore store(ctx.ops);
  const DType s = statistics_of(c.dtype);
  Parameter qkv;
  qkv.shape = {c.qkv_rows(), c.columns};
  qkv.master = qkv.value = store.make(qkv.shape, s);
  host_upload(
      ctx.ops, qkv.master,
      c.qkv.empty() ? normal_values(static_cast<size_t>(c.qkv_rows() * c.columns), 5, 1) : c.qkv);
  NoOtherCopies alone;
  codec.begin(ctx, alone, qkv);
  if (c.frames)
    for (Buffer& b : list.buffers())
      if (const auto found = c.frames->find(prefix_of(b.name)); found != c.frames->end())
        host_upload(ctx.ops, b.value, found->second);
}

inline MixtureRun run_mixture(const MixtureCase& c, const ContextInputs& in, bool backward = true) {
  MixtureRun run;
  std::mutex mutex;
  ContextCase context = c;
  int made = 0;
  context.codec = [&](ParameterList& list, const Buffer* rope) {
    const MixturePlace place{c.shape(), c.options.layout, c.shards, c.layer, 1, list, rope};
    auto codec = make_mixture_of_subspaces(c.mixture, place);
    const std::lock_guard lock(mutex);
    return c.watch ? c.watch(std::move(codec), made++) : std::move(codec);
  };
  context.before = [&](int, Context& ctx, ParameterList& list, KeyValueCodec& codec) {
    set_up(c, ctx, list, codec);
  };
  context.after = [&](int rank, Context& ctx, ParameterList& list, KeyValueCodec&) {
    const std::lock_guard lock(mutex);
    const auto add = [&](const std::string& name, const Tensor& part) {
      const Values gradient = host_of(ctx.ops, part);
      Values& sum = run.gradients[prefix_of(name)];
      sum.resize(gradient.size());
      for (size_t i = 0; i < gradient.size(); ++i) sum[i] += gradient[i];
    };
    for (Parameter& p : list.parameters()) add(p.name, p.grad);
    for (Buffer& b : list.buffers())
      if (b.name.ends_with("basis_gradient")) add(b.name, b.value);
    if (rank == 0)
      for (Buffer& b : list.buffers())
        if (b.saved) run.frames[prefix_of(b.name)] = host_of(ctx.ops, b.value);
  };
  run.result = run_context(context, in, backward);
  return run;
}

// ---- the same in plain loops ---------------------------------------------------------------------------------------

struct OracleOptions {
  bool receivers = true, owner = true;  // which terms of dtheta are summed (invariant M10)
};

// One chunk of one sequence and group: its tokens' rows are (tokens, w).
struct Chunk {
  std::vector<int32_t> positions;
  Matrix z{0, 0}, c{0, 0}, u{0, 0}, du{0, 0};
  double t = 0, theta = 0;
  std::vector<double> zbar;
};

class MixtureOracle {
 public:
  MixtureOracle(const MixtureCase& c, const ContextInputs& in, const Named& frames)
      : c_(c), in_(in), frames_(frames) {
    const SequenceLayout layout = token_layout(c.options, c.shards, c.tokens);
    for (int shard = 0; shard < c.shards; ++shard) {
      const std::vector<int32_t> all = layout.positions(shard);
      const int64_t length = layout.piece_tokens();
      for (int piece = 0; piece < layout.pieces(); ++piece)
        pieces_.emplace_back(all.begin() + piece * length, all.begin() + (piece + 1) * length);
    }
    std::sort(pieces_.begin(), pieces_.end());
  }

  MixtureRun run(const OracleOptions& options = {}) {
    MixtureRun run;
    ContextInputs dense = in_;
    std::vector<Chunk> chunks[2];
    for (int z = 0; z < 2; ++z) {
      for (int64_t b = 0; b < c_.sequences; ++b)
        for (int64_t g = 0; g < c_.groups(); ++g) forward(chunks[z], z, b, g);
      Values& values = z == 0 ? dense.k : dense.v;
      each(chunks[z], [&](Chunk& chunk, int64_t b, int64_t g) {
        const Matrix zhat = product(chunk.c, transposed(chunk.u));
        put(values, zhat, chunk, b, g);
      });
    }
    run.result = run_single(c_, dense);
    for (int z = 0; z < 2; ++z) backward(run, chunks[z], z, options);
    return run;
  }

 private:
  Values frame(int z, int64_t g, int64_t j) const {
    const Values& all = frames_.at(z == 0 ? "k.frames" : "v.frames");
    const int64_t size = c_.width() * c_.rank(z);
    const auto terms = static_cast<int64_t>(all.size()) / (size * c_.groups());
    const auto from = all.begin() + (g * terms + j) * size;
    return {from, from + size};
  }
  int64_t terms(int z) const {
    return static_cast<int64_t>(frames_.at(z == 0 ? "k.frames" : "v.frames").size()) /
           (c_.width() * c_.rank(z) * c_.groups());
  }
  Matrix basis(int z, int64_t g, double theta, bool derivative) const {
    Matrix u(c_.width(), c_.rank(z));
    for (int64_t j = 0; j < terms(z); ++j) {
      double f = derivative ? (j == 0 ? 0 : static_cast<double>(j) * std::pow(theta, j - 1))
                            : std::pow(theta, j);
      if (c_.mixture.rotation == "plane" && j > 0)
        f = j == 1 ? (derivative ? std::cos(theta) : std::sin(theta))
                   : (derivative ? std::sin(theta) : 1 - std::cos(theta));
      const Values m = frame(z, g, j);
      for (size_t i = 0; i < m.size(); ++i) u.x[i] += f * m[i];
    }
    return u;
  }
  double head(int z, int64_t g, const std::vector<double>& zbar) const {
    const std::string side = z == 0 ? "k." : "v.";
    double t = 0;
    if (const auto b = c_.parameters.find(side + "theta_proj.bias"); b != c_.parameters.end())
      t = b->second[static_cast<size_t>(g)];
    if (const auto psi = c_.parameters.find(side + "theta_proj.weight"); psi != c_.parameters.end())
      for (int64_t i = 0; i < c_.width(); ++i)
        t += psi->second[static_cast<size_t>(g * c_.width() + i)] * zbar[static_cast<size_t>(i)];
    return t;
  }
  size_t at(int32_t position, int64_t b, int64_t g, int64_t column) const {
    return static_cast<size_t>(((b * c_.tokens + position) * c_.groups() + g) * c_.width() +
                               column);
  }
  void put(Values& all, const Matrix& rows, const Chunk& chunk, int64_t b, int64_t g) const {
    for (int64_t i = 0; i < rows.rows; ++i)
      for (int64_t j = 0; j < rows.columns; ++j)
        all[at(chunk.positions[static_cast<size_t>(i)], b, g, j)] = rows(i, j);
  }
  Matrix get(const Values& all, const Chunk& chunk, int64_t b, int64_t g) const {
    Matrix rows(static_cast<int64_t>(chunk.positions.size()), c_.width());
    for (int64_t i = 0; i < rows.rows; ++i)
      for (int64_t j = 0; j < rows.columns; ++j)
        rows(i, j) = all[at(chunk.positions[static_cast<size_t>(i)], b, g, j)];
    return rows;
  }
  void each(std::vector<Chunk>& chunks,
            const std::function<void(Chunk&, int64_t b, int64_t g)>& body) const {
    size_t i = 0;
    for (int64_t b = 0; b < c_.sequences; ++b)
      for (int64_t g = 0; g < c_.groups(); ++g)
        for (size_t q = 0; q < pieces_.size(); ++q) body(chunks[i++], b, g);
  }

  void forward(std::vector<Chunk>& chunks, int z, int64_t b, int64_t g) const {
    const std::string& source = c_.mixture.theta_source;
    double previous = 0;
    for (const auto& positions : pieces_) {
      Chunk chunk;
      chunk.positions = positions;
      chunk.z = get(z == 0 ? in_.k : in_.v, chunk, b, g);
      chunk.zbar.assign(static_cast<size_t>(c_.width()), 0.0);
      for (int64_t i = 0; i < chunk.z.rows; ++i)
        for (int64_t j = 0; j < c_.width(); ++j)
          chunk.zbar[static_cast<size_t>(j)] += chunk.z(i, j) / static_cast<double>(chunk.z.rows);
      const double made = source == "zero" ? 0 : head(z, g, chunk.zbar);
      chunk.t = source == "prev_piece" ? previous : made;
      previous = made;
      const double clip = c_.mixture.theta_clip;
      chunk.theta = c_.mixture.clip == "tanh" ? clip * std::tanh(chunk.t / clip)
                                              : std::min(clip, std::max(-clip, chunk.t));
      chunk.u = basis(z, g, chunk.theta, false);
      chunk.du = basis(z, g, chunk.theta, true);
      chunk.c = product(chunk.z, chunk.u);
      chunks.push_back(std::move(chunk));
    }
  }

  static double inner(const Matrix& a, const Matrix& b) {
    double sum = 0;
    for (size_t i = 0; i < a.x.size(); ++i) sum += a.x[i] * b.x[i];
    return sum;
  }

  void backward(MixtureRun& run, std::vector<Chunk>& chunks, int z,
                const OracleOptions& options) const {
    const std::string side = z == 0 ? "k." : "v.";
    Values& gradient = z == 0 ? run.result.dk : run.result.dv;
    Values &dpsi = run.gradients[side + "theta_proj.weight"],
           &db = run.gradients[side + "theta_proj.bias"];
    dpsi.assign(static_cast<size_t>(c_.groups() * c_.width()), 0.0);
    db.assign(static_cast<size_t>(c_.groups()), 0.0);
    std::vector<Matrix> dz;
    std::vector<double> dt;
    each(chunks, [&](Chunk& chunk, int64_t b, int64_t g) {
      const Matrix dzhat = get(gradient, chunk, b, g), dc = product(dzhat, chunk.u);
      double dtheta = 0;
      if (options.receivers) dtheta += inner(product(dzhat, chunk.du), chunk.c);
      if (options.owner) dtheta += inner(dc, product(chunk.z, chunk.du));
      const double clip = c_.mixture.theta_clip, relative = chunk.theta / clip;
      dt.push_back(dtheta * (c_.mixture.clip == "tanh" ? 1 - relative * relative
                                                       : (std::abs(chunk.t) < clip ? 1 : 0)));
      dz.push_back(product(dc, transposed(chunk.u)));
    });
    const bool shifted = c_.mixture.theta_source == "prev_piece",
               reads = shifted || c_.mixture.theta_source == "chunk_mean";
    size_t i = 0;
    each(chunks, [&](Chunk& chunk, int64_t b, int64_t g) {
      const size_t q = i % pieces_.size();
      double of_head = shifted ? (q + 1 < pieces_.size() ? dt[i + 1] : 0.0) : dt[i];
      db[static_cast<size_t>(g)] += of_head;
      Matrix& d = dz[i++];
      if (reads)
        for (int64_t j = 0; j < c_.width(); ++j) {
          const auto at_j = static_cast<size_t>(g * c_.width() + j);
          dpsi[at_j] += of_head * chunk.zbar[static_cast<size_t>(j)];
          const auto psi = c_.parameters.find(side + "theta_proj.weight");
          if (psi == c_.parameters.end()) continue;
          for (int64_t row = 0; row < d.rows; ++row)
            d(row, j) += psi->second[at_j] * of_head / static_cast<double>(d.rows);
        }
      put(gradient, d, chunk, b, g);
    });
  }

  const MixtureCase& c_;
  const ContextInputs& in_;
  const Named& frames_;
  std::vector<std::vector<int32_t>> pieces_;  // in the order of the sequence
};

// A codec that looks at what passes through another one.
class WatchedCodec : public KeyValueCodec {
 public:
  explicit WatchedCodec(std::unique_ptr<KeyValueCodec> inner) : inner_(std::move(inner)) {}
  Sections payload(const KeyValueShape& s) const override { return inner_->payload(s); }
  Sections gradient(const KeyValueShape& s) const override { return inner_->gradient(s); }
  Sections accumulator(const KeyValueShape& s) const override { return inner_->accumulator(s); }
  bool splits_heads() const override { return inner_->splits_heads(); }
  void before_encode(Context& ctx, Frame& frame, ContextLink& link, const SequenceLayout& layout,
                     const std::vector<OwnPiece>& pieces) override {
    inner_->before_encode(ctx, frame, link, layout, pieces);
  }
  void before_encode_backward(Context& ctx, Frame& frame, ContextLink& link,
                              const SequenceLayout& layout,
                              const std::vector<OwnPiece>& pieces) override {
    inner_->before_encode_backward(ctx, frame, link, layout, pieces);
  }
  bool projects() const override { return inner_->projects(); }
  void encode(Context& ctx, Frame& frame, const Tensors& payload, const KeyValueSource& pre,
              const KeyValuePiece& piece) override {
    inner_->encode(ctx, frame, payload, pre, piece);
  }
  KeyValue decode(Context& ctx, Frame& frame, const Tensors& payload,
                  const KeyValuePiece& piece) override {
    return inner_->decode(ctx, frame, payload, piece);
  }
  void decode_backward(Context& ctx, Frame& frame, const Tensors& accumulator,
                       const KeyValue& gradient, const Tensors& payload, const KeyValuePiece& piece,
                       bool accumulate) override {
    inner_->decode_backward(ctx, frame, accumulator, gradient, payload, piece, accumulate);
  }
  void encode_gradient(Context& ctx, Frame& frame, const Tensors& wire,
                       const Tensors& accumulator) override {
    inner_->encode_gradient(ctx, frame, wire, accumulator);
  }
  void add_gradient(Context& ctx, Frame& frame, const Tensors& accumulator, const Tensors& wire,
                    bool accumulate) override {
    inner_->add_gradient(ctx, frame, accumulator, wire, accumulate);
  }
  void encode_backward(Context& ctx, Frame& frame, const KeyValueSource& dpre,
                       const Tensors& accumulator, const KeyValuePiece& piece) override {
    inner_->encode_backward(ctx, frame, dpre, accumulator, piece);
  }
  Diagnosis diagnose(Context& ctx, const Frame& frame, const KeyValue& pre) override {
    return inner_->diagnose(ctx, frame, pre);
  }
  bool wants_calibration() const override { return inner_->wants_calibration(); }
  void calibrate(bool on) override { inner_->calibrate(on); }
  void begin(Context& ctx, ControlLink& link, Parameter& qkv) override {
    inner_->begin(ctx, link, qkv);
  }
  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) override {
    inner_->end_synchronise(ctx, link, end);
  }

 protected:
  std::unique_ptr<KeyValueCodec> inner_;
};

inline double loss_of(const Values& o, const Values& dout) {
  double sum = 0;
  for (size_t i = 0; i < o.size(); ++i) sum += o[i] * dout[i];
  return sum;
}

inline std::string text_of(const MixtureCase& c) {
  const MixtureOptions& m = c.mixture;
  return text_of(static_cast<const ContextCase&>(c)) + " " + m.scope + " " + m.rotation + " " +
         m.theta_source + " " + m.clip + " " + m.local_block;
}

}  // namespace strait::testing
