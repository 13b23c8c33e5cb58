// Attention of a sequence on P in-process ranks for tests: natural-order tensors in, natural-order tensors out, the ranks' logs
// beside them; and the same on one rank, straight from the ops.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/context/context_attention.h"
#include "engine/in_process.h"
#include "engine/nn/block.h"
#include "tests/engine/pipeline.h"

namespace strait::testing {

using Values = std::vector<double>;

// Tensors of the whole sequence in natural order, as doubles: q, o, dout (B,n,H,Dh), k, v (B,n,Hkv,Dh).
struct ContextInputs {
  Values q, k, v, dout;            // q after RoPE, k before
  std::vector<int32_t> documents;  // (B,n) or empty
  // Instead of k and v what they are made of: x (B,n,C), C a multiple of Dh, and the stacked projection ((H+2Hkv) Dh, C).
  Values x = {}, qkv = {};
};
struct ContextResult {
  Values o, dq, dk, dv;
  Values dx;                 // where x was given, and then
  std::vector<Values> dqkv;  // of each rank
  std::vector<record::RankLog> logs;
};

struct ContextCase {
  ContextOptions options;
  int shards = 1;
  int heads = 4, kv_heads = 2, head_width = 6;
  int64_t sequences = 2, tokens = 48;
  DType dtype = DType::f64;  // f64: reference backend, else cpu
  bool meta = false, cuda = false;
  int layer = 0;
  std::function<std::unique_ptr<KeyValueCodec>(ParameterList&, const Buffer* rope)>
      codec;                                                       // or none
  std::function<std::unique_ptr<ContextLink>(ContextLink&)> wrap;  // of every rank's link
  std::function<int(int rank)> layer_of;                           // where ranks are to disagree
  // Of every rank, in its thread: when its parameters are there, and when all is done.
  std::function<void(int rank, Context&, ParameterList&, KeyValueCodec&)> before, after;

  ModelShape shape() const {
    ModelShape s{1, 32, heads, kv_heads, head_width, 8, 16, static_cast<int>(tokens), 100, 1e-5};
    return s;
  }
  double scale() const { return 1.0 / std::sqrt(static_cast<double>(head_width)); }
  std::unique_ptr<Backend> backend() const {
    std::string reason;
    if (cuda) return make_cuda_backend(&reason);
    if (meta) return make_meta_backend();
    return dtype == DType::f64 ? make_reference_backend() : make_cpu_backend(1);
  }
};

inline double rounded_to(double x, DType t) {
  if (t == DType::f64) return x;
  const auto f = static_cast<float>(x);
  return static_cast<double>(t == DType::bf16 ? static_cast<float>(bfloat16(f)) : f);
}

// Normal numbers, rounded to `stored`.
inline ContextInputs context_inputs(const ContextCase& c, DType stored, uint64_t seed = 9) {
  const auto random = [&](uint64_t stream, int heads) {
    Values x(static_cast<size_t>(c.sequences * c.tokens * heads * c.head_width));
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = rounded_to(normal_at(Philox{seed}, stream, i), stored);
    return x;
  };
  return {random(1, c.heads), random(2, c.kv_heads), random(3, c.kv_heads), random(4, c.heads), {}};
}

// Owns tensors of one rank.
class TensorStore {
 public:
  explicit TensorStore(Backend& ops) : ops_(ops) {}
  Tensor make(Shape shape, DType dtype) {
    const auto bytes = static_cast<size_t>(shape.elements()) * size_of(dtype);
    memory_.push_back(ops_.allocate(bytes));
    return Tensor(memory_.back()->data(), dtype, shape);
  }
  Tensor integers(Shape shape, const std::vector<int32_t>& values) {
    Tensor t = make(shape, DType::i32);
    if (t.data != nullptr) ops_.upload(t, values.data());
    return t;
  }
  // Tokens `positions` of `all` (B,n,heads,Dh).
  Tensor tokens(const ContextCase& c, const Values& all, int heads,
                const std::vector<int32_t>& positions, DType dtype) {
    Tensor t =
        make({c.sequences, static_cast<int64_t>(positions.size()), heads, c.head_width}, dtype);
    if (t.data == nullptr) return t;
    std::vector<std::byte> bytes(t.bytes());
    const Tensor host(bytes.data(), dtype, t.shape);
    const auto row = static_cast<size_t>(heads * c.head_width);
    int64_t i = 0;
    for (int64_t b = 0; b < c.sequences; ++b)
      for (int32_t p : positions)
        for (size_t d = 0; d < row; ++d, ++i) {
          const double x =
              all[(static_cast<size_t>(b * c.tokens) + static_cast<size_t>(p)) * row + d];
          if (dtype == DType::bf16)
            host.as<bfloat16>()[i] = bfloat16(static_cast<float>(x));
          else
            set(host, i, x);
        }
    ops_.upload(t, bytes.data());
    return t;
  }
  Values values_of(const Tensor& t) {
    std::vector<std::byte> bytes(t.bytes());
    ops_.download(bytes.data(), t);
    return values(Tensor(bytes.data(), t.dtype, t.shape));
  }

 private:
  Backend& ops_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

// Puts a rank's tokens back where they belong.
inline void put_tokens(const ContextCase& c, Values& all, TensorStore& store, const Tensor& x,
                       const std::vector<int32_t>& positions) {
  if (x.data == nullptr) return;
  const Values held = store.values_of(x);
  const auto row = static_cast<size_t>(x.size(2) * x.size(3));
  size_t i = 0;
  for (int64_t b = 0; b < c.sequences; ++b)
    for (int32_t p : positions)
      for (size_t d = 0; d < row; ++d, ++i)
        all[(static_cast<size_t>(b * c.tokens) + static_cast<size_t>(p)) * row + d] = held[i];
}

// What Rank does, as far as attention needs it.
class TestLink final : public ContextLink {
 public:
  TestLink(Communicator& communicator, MessagePool& pool)
      : communicator_(communicator), pool_(pool) {}
  int shard() const override { return communicator_.rank(); }
  int shards() const override { return communicator_.size(); }
  void send(int shard, const Tag& tag, Message message) override {
    communicator_.send(shard, tag, std::move(message));
  }
  Message receive(int shard, const Tag& tag) override { return communicator_.receive(shard, tag); }
  MessagePool& pool() override { return pool_; }

 private:
  Communicator& communicator_;
  MessagePool& pool_;
};

// One rank: its attention, its memory, and `frames` microbatches in flight.
class ContextRank {
 public:
  ContextRank(const ContextCase& c, InProcess& hub, MessagePool& pool, int rank, int frames = 1)
      : case_(c),
        rank_(rank),
        layout_(token_layout(c.options, c.shards, c.tokens)),
        positions_(layout_.positions(rank)),
        ops_(c.backend()),
        recorder_(rank, *ops_),
        communicator_(hub.communicator(rank, recorder_)),
        direct_(*communicator_, pool),
        wrapped_(c.wrap ? c.wrap(direct_) : nullptr),
        parameters_(c.dtype),
        store_(*ops_) {
    recorder_.begin_step();
    const ModelShape shape = c.shape();
    const int layer = c.layer_of ? c.layer_of(rank) : c.layer;
    attention_ = make_context_attention(
        c.options, {shape, c.shards, layer, frames, parameters_},
        c.codec ? c.codec(parameters_, declare_rope_table(parameters_, shape)) : nullptr);
    parameters_.allocate(*ops_);
    scratch_ = region("scratch");
    microbatches_.resize(static_cast<size_t>(frames));
    for (Microbatch& m : microbatches_) m.frame.arena = region("frame");
  }

  // Its tokens of `result`, from those of `in`. `index`: of the frame and the microbatch.
  void forward(const ContextInputs& in, ContextResult& result, int index, bool training) {
    Microbatch& m = microbatches_.at(static_cast<size_t>(index));
    m.frame.index = m.frame.microbatch = index;
    m.frame.sequences = case_.sequences;
    m.frame.context = layout_.shard_tokens();
    m.frame.training = training;
    if (!in.documents.empty()) m.frame.documents = documents(in.documents);
    m.q = mine(in.q, case_.heads);
    m.o = store_.make(m.q.shape, case_.dtype);
    Context ctx{*ops_, scratch_};
    attention_->forward(ctx, m.frame, link(), m.o, m.q, source(in));
    put_tokens(case_, result.o, store_, m.o, positions_);
  }
  void backward(const ContextInputs& in, ContextResult& result, int index) {
    Microbatch& m = microbatches_.at(static_cast<size_t>(index));
    const Tensor dout = mine(in.dout, case_.heads), dq = store_.make(m.q.shape, case_.dtype);
    const KeyValueSource dpre = source(in);  // overwritten
    Context ctx{*ops_, scratch_};
    attention_->backward(ctx, m.frame, link(), dq, dpre, dout);
    put_tokens(case_, result.dq, store_, dq, positions_);
    if (dpre.x.defined()) {
      const int64_t width = case_.head_width;
      put_tokens(case_, result.dx, store_, dpre.x.split_last(dpre.x.size(2) / width, width),
                 positions_);
      result.dqkv.at(static_cast<size_t>(rank_)) = store_.values_of(qkv_.grad);
    } else {
      put_tokens(case_, result.dk, store_, dpre.k, positions_);
      put_tokens(case_, result.dv, store_, dpre.v, positions_);
    }
    EXPECT_EQ(scratch_.mark(), 0u) << "scratch is in use after an attention";
  }
  void begin() {
    Context ctx{*ops_, scratch_};
    if (case_.before) case_.before(rank_, ctx, parameters_, attention_->codec());
  }
  void end() {
    Context ctx{*ops_, scratch_};
    if (case_.after) case_.after(rank_, ctx, parameters_, attention_->codec());
  }
  record::RankLog log() { return recorder_.take(); }

 private:
  struct Microbatch {
    Frame frame;
    Tensor q, o;
  };
  ContextLink& link() { return wrapped_ ? *wrapped_ : static_cast<ContextLink&>(direct_); }
  Arena region(const char* name) {
    constexpr size_t kBytes = size_t{4} << 20;
    memory_.push_back(ops_->allocate(kBytes));
    return Arena(memory_.back()->data(), kBytes, name);
  }
  Tensor mine(const Values& all, int heads) {
    return store_.tokens(case_, all, heads, positions_, case_.dtype);
  }
  KeyValueSource source(const ContextInputs& in) {
    if (in.x.empty()) return {mine(in.k, case_.kv_heads), mine(in.v, case_.kv_heads)};
    const int64_t columns = static_cast<int64_t>(in.x.size()) / (case_.sequences * case_.tokens);
    if (!qkv_.value.defined()) {
      qkv_.shape = {static_cast<int64_t>(in.qkv.size()) / columns, columns};
      const DType s = statistics_of(case_.dtype);
      qkv_.master = store_.make(qkv_.shape, s);
      qkv_.grad = store_.make(qkv_.shape, s);
      qkv_.value = store_.make(qkv_.shape, case_.dtype);
      host_upload(*ops_, qkv_.master, in.qkv);
      ops_->cast(qkv_.value, qkv_.master);
      ops_->fill(qkv_.grad, 0);
    }
    const Tensor x = mine(in.x, static_cast<int>(columns / case_.head_width));
    return {.x = x.view({x.size(0), x.size(1), columns}), .qkv = &qkv_};
  }
  // Natural order to that of the layout.
  Tensor documents(const std::vector<int32_t>& natural) {
    std::vector<int32_t> ordered;
    for (int64_t b = 0; b < case_.sequences; ++b)
      for (int32_t p : layout_.order())
        ordered.push_back(natural[static_cast<size_t>(b * case_.tokens + p)]);
    return store_.integers({case_.sequences, case_.tokens}, ordered);
  }

  const ContextCase& case_;
  int rank_;
  SequenceLayout layout_;
  std::vector<int32_t> positions_;
  std::unique_ptr<Backend> ops_;
  RankRecorder recorder_;
  std::unique_ptr<Communicator> communicator_;
  TestLink direct_;
  std::unique_ptr<ContextLink> wrapped_;
  ParameterList parameters_;
  TensorStore store_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::unique_ptr<ContextAttention> attention_;
  Parameter qkv_;
  Arena scratch_;
  std::vector<Microbatch> microbatches_;
};

// Where ranks put their tokens: NaN until they do.
inline ContextResult context_result(const ContextCase& c, const ContextInputs& in) {
  ContextResult result;
  result.o.assign(in.q.size(), NAN);
  result.dq = result.o;
  result.dk.assign(in.k.size(), NAN);
  result.dv = result.dk;
  result.dx.assign(in.x.size(), NAN);
  result.dqkv.resize(static_cast<size_t>(c.shards));
  result.logs.resize(static_cast<size_t>(c.shards));
  return result;
}

// Forward and backward on c.shards ranks.
inline ContextResult run_context(const ContextCase& c, const ContextInputs& in,
                                 bool backward = true) {
  ContextResult result = context_result(c, in);
  InProcess hub(c.shards, 2);
  MessagePool pool;
  hub.run([&](int index) {
    ContextRank rank(c, hub, pool, index);
    rank.begin();
    rank.forward(in, result, 0, backward);
    if (backward) rank.backward(in, result, 0);
    rank.end();
    result.logs[static_cast<size_t>(index)] = rank.log();
  });
  return result;
}

// The same on one rank, by the ops alone: keys after RoPE rounded to `wire` where that is not T.
inline ContextResult run_single(const ContextCase& c, const ContextInputs& in,
                                std::optional<DType> wire = std::nullopt) {
  const auto ops = c.backend();
  ParameterList parameters(c.dtype);
  const Buffer* rope = declare_rope_table(parameters, c.shape());
  parameters.allocate(*ops);
  TensorStore store(*ops);
  std::vector<int32_t> positions(static_cast<size_t>(c.tokens));
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(i);
  const Tensor where = store.integers({c.tokens}, positions);
  const auto all = [&](const Values& x, int heads) {
    return store.tokens(c, x, heads, positions, c.dtype);
  };
  const Tensor q = all(in.q, c.heads), k = all(in.k, c.kv_heads), v = all(in.v, c.kv_heads),
               dout = all(in.dout, c.heads), o = store.make(q.shape, c.dtype);
  ops->rope(k, rope->value, where, false);
  for (const Tensor& x : {k, v}) {
    for (int64_t i = 0; wire && i < x.elements(); ++i) set(x, i, rounded_to(at(x, i), *wire));
  }
  AttentionMask mask{where, where, {}, {}, c.options.causal};
  if (!in.documents.empty())
    mask.q_document = mask.k_document = store.integers({c.sequences, c.tokens}, in.documents);
  const DType s = statistics_of(c.dtype);
  const Tensor lse = store.make({c.sequences, c.heads, c.tokens}, s),
               delta = store.make(lse.shape, s);
  ops->attention_forward(o, lse, q, k, v, mask, c.scale());
  // Gradients in S, rounded once, as those that come from several ranks are.
  const Tensor dq = store.make(q.shape, s), dk = store.make(k.shape, s),
               dv = store.make(k.shape, s);
  ops->attention_delta(delta, dout, o);
  ops->attention_backward(dq, dk, dv, dout, q, k, v, lse, delta, mask, c.scale(), false);
  ops->rope(dk, rope->value, where, true);
  ContextResult result;
  result.o = values(o);
  const auto in_t = [&](const Tensor& x) {
    const Tensor y = store.make(x.shape, c.dtype);
    ops->cast(y, x);
    return values(y);
  };
  result.dq = in_t(dq);
  result.dk = in_t(dk);
  result.dv = in_t(dv);
  return result;
}

inline double largest_difference(const Values& a, const Values& b) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    largest = std::isnan(a[i]) ? INFINITY : std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

// Bytes that a rank has sent.
inline uint64_t bytes_sent(const record::RankLog& log, record::MessageKind kind) {
  uint64_t bytes = 0;
  for (const record::Entry& entry : log.entries)
    if (const auto* send = std::get_if<record::Send>(&entry.action); send && send->kind == kind)
      bytes += send->payload.count;
  return bytes;
}

inline std::string text_of(const ContextCase& c) {
  std::string text = std::string(name_of(c.options.algorithm)) + " " + name_of(c.options.layout) +
                     " P=" + std::to_string(c.shards) + " H=" + std::to_string(c.heads) + "/" +
                     std::to_string(c.kv_heads) + " " + name_of(c.options.bwd_schedule) + " send " +
                     name_of(c.options.kv_send);
  text += c.options.causal ? " causal" : " full";
  if (c.options.keep_gathered_kv) text += " keep";
  if (c.options.kv_head_group > 0) text += " group " + std::to_string(c.options.kv_head_group);
  if (c.options.ulysses_degree > 0) text += " degree " + std::to_string(c.options.ulysses_degree);
  return text;
}

}  // namespace strait::testing
