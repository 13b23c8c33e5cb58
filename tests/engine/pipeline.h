// A pipeline in one thread for tests: stages and codecs in a row, with hooks at every boundary. What Rank does with messages
// and threads, this does with function calls, so that a test can look at, replace or leave out what crosses a boundary.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/codec/method.h"
#include "engine/nn/stage.h"
#include "engine/trainer.h"
#include "engine/training.h"

namespace strait::testing {

// Sizes small enough for the reference backend: 6 layers, width 32, GQA 4:2, odd FFN. "mapl+vq" is mapl with vector quantisation, "resbm+iota"
// resbm of form iota_v1, "column_mask+anchors" column_mask with static anchors.
inline TrainingConfig tiny(int pipeline, const std::string& method, DType dtype) {
  TrainingConfig c;
  c.shape = {6, 32, 4, 2, 8, 44, 61, 9, 10000, 1e-5};
  c.method.method = method;
  if (method == "mapl+vq") {
    c.method.method = "mapl";
    c.method.mapl.vq = {.on = true, .groups = 2, .codes = 6, .rounds = 2};
  } else if (method == "resbm+iota") {
    c.method.method = "resbm";
    c.method.form = "iota_v1";
  } else if (method == "column_mask+anchors") {
    c.method.method = "column_mask";
    c.method.anchors = "static";
  }
  if (method != "none" && method != "cast" && method != "quantize") c.method.rank = 4;
  c.method.wire = dtype;
  c.dtype = dtype;
  c.seed = 11;
  c.pipeline = pipeline;
  c.batch = 4;
  c.microbatches = 2;
  c.steps = 1;
  c.learning_rate = {LearningRateSchedule::Kind::constant, 1e-2, 0, 1, 1};
  c.clip_norm = 0;
  c.head_chunk_rows = 7;
  return c;
}

// Several steps of it, with all that belongs to a run.
inline TrainingConfig tiny_run(int pipeline, const std::string& method, DType dtype, int64_t steps,
                               int64_t warmup_steps) {
  TrainingConfig c = tiny(pipeline, method, dtype);
  c.steps = steps;
  c.evaluate_every = 2;
  c.evaluate_batches = 2;
  c.clip_norm = 1.0;
  c.learning_rate = {LearningRateSchedule::Kind::cosine, 1e-2, warmup_steps, steps, 0.1};
  return c;
}

// Tokens from a hash: sequence `index` is the same for everybody; targets are the next tokens.
class HashedTokens final : public BatchSource {
 public:
  explicit HashedTokens(const ModelShape& shape) : shape_(shape) {}
  void training(int64_t index, int32_t* ids, int32_t* targets) const override {
    fill(index, ids, targets);
  }
  void validation(int64_t index, int32_t* ids, int32_t* targets) const override {
    fill(index + 1'000'000, ids, targets);
  }

 private:
  void fill(int64_t index, int32_t* ids, int32_t* targets) const {
    auto token = [&](int64_t t) {
      return static_cast<int32_t>(
          Philox{5}.word(static_cast<uint64_t>(index), static_cast<uint64_t>(t)) %
          static_cast<uint64_t>(shape_.vocabulary));
    };
    for (int64_t t = 0; t < shape_.context; ++t) {
      if (ids != nullptr) ids[t] = token(t);
      if (targets != nullptr) targets[t] = token(t + 1);
    }
  }
  ModelShape shape_;
};

// Element i of a host tensor as double.
inline double at(const Tensor& t, int64_t i) {
  switch (t.dtype) {
    case DType::f64:
      return t.as<double>()[i];
    case DType::f32:
      return static_cast<double>(t.as<float>()[i]);
    case DType::bf16:
      return static_cast<double>(static_cast<float>(t.as<bfloat16>()[i]));
    default:
      throw std::logic_error("at: a float tensor");
  }
}
inline void set(const Tensor& t, int64_t i, double value) {
  switch (t.dtype) {
    case DType::f64:
      t.as<double>()[i] = value;
      break;
    case DType::f32:
      t.as<float>()[i] = static_cast<float>(value);
      break;
    default:
      throw std::logic_error("set: f32 or f64");
  }
}
inline std::vector<double> values(const Tensor& t) {
  std::vector<double> v(static_cast<size_t>(t.elements()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = at(t, static_cast<int64_t>(i));
  return v;
}
// ||a - b|| / ||b||
inline double nrmse(const std::vector<double>& a, const std::vector<double>& b) {
  double num = 0, den = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    num += (a.at(i) - b[i]) * (a.at(i) - b[i]);
    den += b[i] * b[i];
  }
  return std::sqrt(num / den);
}

class Pipeline {
 public:
  struct Hooks {
    bool codec = true;  // false: tensors cross as they are
    // After a stage's forward, before encode: (boundary, x, ids). May change x.
    std::function<void(int, Tensor, Tensor)> sent;
    // On the receiver before encode_grad: (boundary, g). May change g.
    std::function<void(int, Tensor)> gradient;
    std::function<void(int, const Message&, const Message*)>
        messages;  // (boundary, forward, null) or (boundary, backward)
  };

  // `data`: null for HashedTokens.
  Pipeline(TrainingConfig config, BackendKind kind, const Method* method = nullptr,
           const BatchSource* data = nullptr)
      : config_(std::move(config)),
        ops_(make_backend(kind, 1)),
        own_(make_method(config_)),
        method_(method != nullptr ? method : own_.get()),
        hashed_(config_.shape),
        data_(data != nullptr ? data : &hashed_) {
    const auto ranges =
        split_layers(config_.shape.layers, config_.pipeline, config_.layers_per_stage);
    const int constrained = constrained_layers(config_);
    for (int s = 0; s < config_.pipeline; ++s) {
      parameters_.push_back(std::make_unique<ParameterList>(config_.dtype));
      const MethodContext c{config_.shape, config_.seed, *parameters_.back(), pool_,
                            config_.pipeline - 1};
      stages_.push_back(
          std::make_unique<Stage>(StageOptions{config_.shape, ranges[static_cast<size_t>(s)],
                                               s == 0, s == config_.pipeline - 1, constrained, 1,
                                               config_.head_chunk_rows, config_.dtype},
                                  *method_, c));
      before_.push_back(s > 0 ? method_->make_codec(c, s - 1, BoundaryEnd::receiver) : nullptr);
      after_.push_back(s + 1 < config_.pipeline ? method_->make_codec(c, s, BoundaryEnd::sender)
                                                : nullptr);
      optimizers_.emplace_back(config_.optimizer, *parameters_.back());
      parameters_.back()->allocate(*ops_);
      memory_.push_back(ops_->allocate(kRegion));
      frames_.emplace_back();
      frames_.back().arena = Arena(memory_.back()->data(), kRegion, "frame");
    }
    memory_.push_back(ops_->allocate(kRegion));
    scratch_ = Arena(memory_.back()->data(), kRegion, "scratch");
    memory_.push_back(ops_->allocate(static_cast<size_t>(config_.shape.context) * 4 + 8));
    positions_ = Tensor(memory_.back()->data(), DType::i32, {config_.shape.context});
    for (int t = 0; t < config_.shape.context; ++t) positions_.as<int32_t>()[t] = t;
    memory_.push_back(ops_->allocate(8));
    loss_ = Tensor(memory_.back()->data(), DType::f64, {1});
  }

  // Mean loss of sequences [first, first + count) in microbatches of `per_microbatch`; gradients are summed into the
  // parameters (zeroed first); without `backward` they stay as they are.
  double step(int64_t first, int64_t count, int64_t per_microbatch, const Hooks& hooks,
              bool backward = true) {
    for (auto& p : parameters_) {
      if (backward) ops_->fill(p->flat_grad(), 0);
    }
    double sum = 0;
    for (int64_t m = 0; m < count; m += per_microbatch)
      sum += microbatch(first + m, per_microbatch, count, hooks, backward);
    return sum / (static_cast<double>(count) * config_.shape.context);
  }

  Parameter& find(const std::string& name) {
    for (auto& list : parameters_) {
      for (Parameter& p : list->parameters()) {
        if (p.name == name) return p;
      }
    }
    throw std::out_of_range(name);
  }
  std::vector<Parameter*> all() {
    std::vector<Parameter*> result;
    for (auto& list : parameters_) {
      for (Parameter& p : list->parameters()) result.push_back(&p);
    }
    return result;
  }
  // One step of the optimizer on every stage; `lr`: AdamW's.
  void update(double lr, int64_t step) {
    before_update();
    move(lr, step);
    after_update(step);
  }
  // The optimizer alone.
  void move(double lr, int64_t step) {
    Context ctx{*ops_, scratch_};
    auto memory = ops_->allocate(8);
    Tensor one(memory->data(), statistics_of(config_.dtype), {1});
    ops_->fill(one, 1);
    for (size_t s = 0; s < parameters_.size(); ++s)
      optimizers_[s].step(ctx, *parameters_[s], {LearningRateSchedule::Kind::constant, lr, 0, 1, 1},
                          step, one);
  }
  // What the optimizer is to see of the gradients of the last step(), and where it is to leave the parameters.
  void before_update() {
    Context ctx{*ops_, scratch_};
    for (auto& stage : stages_) stage->before_update(ctx);
  }
  void after_update(int64_t step) {
    Context ctx{*ops_, scratch_};
    for (auto& stage : stages_) stage->after_update(ctx, step);
  }

  // The last layer's output of the last microbatch, and its logits (N, V).
  Tensor output() const { return output_; }
  std::vector<double> logits() {
    ArenaScope scope(scratch_);
    Context ctx = context();
    Tensor y = scratch_.take({output_.size(0), config_.shape.vocabulary}, config_.dtype);
    stages_.back()->logits(ctx, frames_.back(), y, output_);
    return testing::values(y);
  }

  Backend& ops() { return *ops_; }
  Codec& codec_after(int stage) { return *after_.at(static_cast<size_t>(stage)); }
  Codec& codec_before(int stage) { return *before_.at(static_cast<size_t>(stage)); }
  ParameterList& list(int stage) { return *parameters_.at(static_cast<size_t>(stage)); }
  Frame& frame(int stage) { return frames_.at(static_cast<size_t>(stage)); }
  Context context() { return {*ops_, scratch_}; }
  const TrainingConfig& config() const { return config_; }

 private:
  static constexpr size_t kRegion = size_t{16} << 20;

  double microbatch(int64_t first, int64_t sequences, int64_t total, const Hooks& hooks,
                    bool backward) {
    Context ctx{*ops_, scratch_};
    const int64_t t = config_.shape.context, n = sequences * t;
    Tensor x;
    for (int s = 0; s < config_.pipeline; ++s) {
      Frame& f = frames_[static_cast<size_t>(s)];
      f.arena.rewind(0);
      f.index = 0;
      f.sequences = sequences;
      f.context = t;
      f.positions = positions_;
      f.loss_scale = 1.0 / static_cast<double>(total * t);
      f.training = backward;
      f.step = backward ? 1 : 0;
      f.microbatch = static_cast<int>(first / sequences);
      f.targets = f.arena.take({n}, DType::i32);
      Tensor ids = f.arena.take({n}, DType::i32);
      for (int64_t b = 0; b < sequences; ++b)
        data_->training(first + b, ids.as<int32_t>() + b * t, f.targets.as<int32_t>() + b * t);
      f.ids = s == 0 || !hooks.codec ? ids : Tensor{};
      if (s > 0) x = cross_forward(ctx, s, x, hooks);
      x = stages_[static_cast<size_t>(s)]->forward(ctx, f, x, loss_);
    }
    output_ = x;
    double loss = 0;
    ops_->download(&loss, loss_);
    if (backward) run_backward(ctx, hooks);
    return loss;
  }

  Tensor cross_forward(Context& ctx, int s, Tensor x, const Hooks& hooks) {
    Frame &from = frames_[static_cast<size_t>(s - 1)], &to = frames_[static_cast<size_t>(s)];
    if (hooks.sent) hooks.sent(s - 1, x, from.ids);
    Tensor y = to.arena.take(x.shape, x.dtype);
    if (!hooks.codec) {
      ops_->cast(y, x);
      return y;
    }
    const Message m = after_[static_cast<size_t>(s - 1)]->encode(ctx, from, x);
    if (hooks.messages) hooks.messages(s - 1, m, nullptr);
    before_[static_cast<size_t>(s)]->decode(ctx, to, y, m);
    return y;
  }

  void run_backward(Context& ctx, const Hooks& hooks) {
    ArenaScope scope(scratch_);
    Tensor g;
    for (int s = config_.pipeline - 1; s >= 0; --s) {
      Tensor dx =
          stages_[static_cast<size_t>(s)]->backward(ctx, frames_[static_cast<size_t>(s)], g);
      if (s == 0) break;
      if (hooks.gradient) hooks.gradient(s - 1, dx);
      g = dx;
      if (!hooks.codec) continue;
      const Message m =
          before_[static_cast<size_t>(s)]->encode_grad(ctx, frames_[static_cast<size_t>(s)], dx);
      if (hooks.messages) hooks.messages(s - 1, m, &m);
      g = scratch_.take(dx.shape, config_.dtype);
      after_[static_cast<size_t>(s - 1)]->decode_grad(ctx, frames_[static_cast<size_t>(s - 1)], g,
                                                      m);
    }
  }

  TrainingConfig config_;
  std::unique_ptr<Backend> ops_;
  std::unique_ptr<Method> own_;
  const Method* method_;
  HashedTokens hashed_;
  const BatchSource* data_;
  MessagePool pool_;
  std::vector<std::unique_ptr<ParameterList>> parameters_;
  std::vector<Optimizer> optimizers_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<std::unique_ptr<Codec>> before_, after_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  std::vector<Frame> frames_;
  Arena scratch_;
  Tensor positions_, loss_, output_;
};

}  // namespace strait::testing
