#include "engine/rank.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace strait {
namespace {

using record::Category;
using record::MessageKind;
using record::Phase;
using Segment = RankRecorder::Segment;

constexpr int32_t kClipNorm = 1, kHandshake = 2,
                  kCodec = 16;  // purposes of control messages; those of codecs count from here

// Where this phase begins in the stream of its samples: after as many as the tokens of the phases before would make.
int64_t sequences_before(const TrainingConfig& config) {
  const auto context = static_cast<uint64_t>(config.shape.context);
  return static_cast<int64_t>((config.tokens_before + context - 1) / context);
}

}  // namespace

Rank::Rank(const TrainingConfig& config, int stage, Backend& backend, RankRecorder& recorder,
           Communicator& communicator, MessagePool& pool, const BatchSource* data,
           const RankPlan* plan)
    : config_(config),
      stage_index_(stage),
      ops_(backend),
      recorder_(recorder),
      communicator_(communicator),
      pool_(pool),
      data_(data),
      method_(make_method(config)),
      parameters_(config.dtype),
      schedule_(make_schedule(config.schedule, config.pipeline, config.microbatches)),
      sequences_before_(sequences_before(config)),
      context_{backend, scratch_} {
  const std::vector<LayerRange> ranges =
      split_layers(config.shape.layers, config.pipeline, config.layers_per_stage);
  layers_ = ranges.at(static_cast<size_t>(stage));
  const MethodContext c{config.shape, config.seed, parameters_, pool, config.pipeline - 1};
  stage_ = std::make_unique<Stage>(
      StageOptions{config.shape, layers_, first(), last(), constrained_layers(config),
                   frames_needed(schedule_, stage), config.head_chunk_rows, config.dtype},
      *method_, c);
  if (!first()) before_ = method_->make_codec(c, stage - 1, BoundaryEnd::receiver);
  if (!last()) after_ = method_->make_codec(c, stage, BoundaryEnd::sender);
  takes_ids_ =
      first() || (before_ && before_->traits().local_ids) || (after_ && after_->traits().local_ids);
  STRAIT_CHECK(plan != nullptr || std::strcmp(backend.name(), "meta") == 0,
               "a rank that computes needs a memory plan");
  STRAIT_CHECK(data != nullptr || std::strcmp(backend.name(), "meta") == 0,
               "a rank that computes needs data");
  optimizer_.emplace(config.optimizer, parameters_);
  allocate(plan);
}

// Few values that live from step to step: placed in `region`, or nowhere, which counts.
void Rank::place_state(Arena& region) {
  positions_ = region.take({config_.shape.context}, DType::i32);
  losses_ = region.take({std::max(config_.microbatches, config_.evaluate_batches)}, DType::f64);
  grad_scale_ = region.take({1}, statistics_of(config_.dtype));
  sum_squares_ = region.take({1}, DType::f64);
  total_squares_ = region.take({1}, DType::f64);
}

void Rank::allocate(const RankPlan* plan) {
  parameters_.allocate(ops_);
  const auto region = [&](size_t bytes, const char* name) {
    memory_.push_back(ops_.allocate(bytes));
    return Arena(memory_.back()->data(), bytes, name);
  };
  frames_.resize(static_cast<size_t>(frames_needed(schedule_, stage_index_)));
  Arena counting;
  place_state(counting);
  if (plan != nullptr) {
    Arena state = region(counting.high_water(), "state");
    if (memory_.back()->data() != nullptr) place_state(state);
    scratch_ = region(plan->scratch_bytes, "scratch");
    scratch_.set_poison(ops_.host_memory());
    memory_.push_back(ops_.allocate(plan->frame_bytes * frames_.size()));
  }
  for (size_t i = 0; i < frames_.size(); ++i) {
    Frame& f = frames_[i];
    f.index = static_cast<int>(i);
    if (plan != nullptr) {
      auto* begin = static_cast<std::byte*>(memory_.back()->data());
      f.arena = Arena(begin == nullptr ? nullptr : begin + i * plan->frame_bytes, plan->frame_bytes,
                      "frame");
      f.arena.set_poison(ops_.host_memory());
    }
    f.sequences = sequences();
    f.context = config_.shape.context;
    f.positions = positions_;
  }
  if (positions_.data != nullptr) {
    std::vector<int32_t> host(static_cast<size_t>(config_.shape.context));
    for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<int32_t>(i);
    ops_.upload(positions_, host.data());
  }
}

RankPlan Rank::plan() const {
  RankPlan p;
  p.layers = layers_;
  p.frames = static_cast<int>(frames_.size());
  p.parameters = parameters_.trainable();
  p.persistent_bytes = parameters_.bytes();
  for (const Frame& f : frames_) p.frame_bytes = std::max(p.frame_bytes, f.arena.high_water());
  p.scratch_bytes = scratch_.high_water();
  return p;
}

void Rank::handshake() {
  recorder_.pause(true);
  auto exchange = [&](int other, const Codec& codec, int boundary) {
    const uint64_t mine = codec.handshake(ops_);
    Message out(pool_, ops_, {{DType::f64, {1}}});
    if (out.section(0).data != nullptr) ops_.upload(out.section(0), &mine);
    communicator_.send(other, {MessageKind::sync, -1, kHandshake}, std::move(out));
    const Message in = communicator_.receive(other, {MessageKind::sync, -1, kHandshake});
    uint64_t theirs = mine;
    if (in.section(0).data != nullptr) ops_.download(&theirs, in.section(0));
    if (theirs != mine) {
      throw std::runtime_error(
          fmt::format("boundary {}: the two ends do not share the same codec state (rank {}: "
                      "{:016x}, rank {}: {:016x})",
                      boundary, stage_index_, mine, other, theirs));
    }
  };
  if (before_) exchange(stage_index_ - 1, *before_, stage_index_ - 1);
  if (after_) exchange(stage_index_ + 1, *after_, stage_index_);
  recorder_.pause(false);
}

// The control traffic of one boundary with the rank `other`.
class Rank::BoundaryLink final : public ControlLink {
 public:
  BoundaryLink(Rank& rank, int other) : rank_(rank), other_(other) {}
  void send(int32_t purpose, Message message) override {
    rank_.communicator_.send(other_, tag(purpose), std::move(message));
  }
  Message receive(int32_t purpose) override {
    return rank_.communicator_.receive(other_, tag(purpose));
  }
  void compute(const std::function<void()>& work) override {
    Segment segment(rank_.recorder_, Category::codec, Phase::synchronise, -1);
    work();
  }

 private:
  static Tag tag(int32_t purpose) { return {MessageKind::sync, -1, kCodec + purpose}; }

  Rank& rank_;
  int other_;
};

void Rank::begin_synchronise() {
  BoundaryLink next(*this, stage_index_ + 1), previous(*this, stage_index_ - 1);
  if (after_) after_->begin_synchronise(context_, next);
  if (before_) before_->begin_synchronise(context_, previous);
}

void Rank::end_synchronise(int64_t step) {
  BoundaryLink next(*this, stage_index_ + 1), previous(*this, stage_index_ - 1);
  const StepEnd end{
      step, config_.optimizer.learning_rate(ParameterGroup::matrix, config_.learning_rate, step)};
  if (after_) after_->end_synchronise(context_, next, end);
  if (before_) before_->end_synchronise(context_, previous, end);
}

void Rank::load_batch(Frame& frame, int64_t first_sequence) {
  frame.arena.rewind(0);
  frame.ids = frame.targets = Tensor{};
  const int64_t t = frame.context;
  if (takes_ids_) frame.ids = frame.arena.take({frame.rows()}, DType::i32);
  if (last()) frame.targets = frame.arena.take({frame.rows()}, DType::i32);
  if (data_ == nullptr || (!takes_ids_ && !last())) return;
  std::vector<int32_t> ids(static_cast<size_t>(frame.rows())), targets(ids.size());
  for (int64_t b = 0; b < frame.sequences; ++b) {
    int32_t* i = takes_ids_ ? ids.data() + b * t : nullptr;
    int32_t* y = last() ? targets.data() + b * t : nullptr;
    frame.training ? data_->training(first_sequence + b, i, y)
                   : data_->validation(first_sequence + b, i, y);
  }
  if (takes_ids_) ops_.upload(frame.ids, ids.data());
  if (last()) ops_.upload(frame.targets, targets.data());
}

Shape Rank::boundary_shape(const Frame& frame) const {
  return {method_->boundary_parts() * frame.rows(), config_.shape.width};
}

void Rank::forward(Frame& frame, int microbatch, int64_t first_sequence) {
  load_batch(frame, first_sequence);
  Tensor x;
  if (!first()) {
    const Message m =
        communicator_.receive(stage_index_ - 1, {MessageKind::forward, microbatch, 0});
    x = frame.arena.take(boundary_shape(frame), config_.dtype);
    Segment segment(recorder_, Category::codec, Phase::decode, microbatch);
    before_->decode(context_, frame, x, m);
  }
  {
    const auto work = [&, in = x] {
      return stage_->forward(context_, frame, in, losses_.slice(0, microbatch, 1));
    };
    // Only where the loss is does a forward differ between microbatches.
    RepeatedWork& repeated = forwards_[{last() ? microbatch : 0, frame.index}];
    if (frame.training) repeated.prepare(context_, frame, work);
    Segment segment(recorder_, Category::compute, Phase::forward, microbatch);
    x = frame.training ? repeated.run(context_, frame, work) : work();
  }
  if (last()) return;
  if (frame.training && microbatch == 0) diagnose(*after_, stage_index_, frame, x, false);
  Message m;
  {
    Segment segment(recorder_, Category::codec, Phase::encode, microbatch);
    m = after_->encode(context_, frame, x);
  }
  communicator_.send(stage_index_ + 1, {MessageKind::forward, microbatch, 0}, std::move(m));
}

void Rank::backward(Frame& frame, int microbatch) {
  ArenaScope scope(scratch_);
  Tensor dy;
  if (!last()) {
    const Message m =
        communicator_.receive(stage_index_ + 1, {MessageKind::backward, microbatch, 0});
    dy = scratch_.take(boundary_shape(frame), config_.dtype);
    Segment segment(recorder_, Category::codec, Phase::decode_grad, microbatch);
    after_->decode_grad(context_, frame, dy, m);
  }
  Tensor dx;
  {
    const auto work = [&] { return stage_->backward(context_, frame, dy); };
    RepeatedWork& repeated = backwards_[frame.index];
    repeated.prepare(context_, frame, work);
    Segment segment(recorder_, Category::compute, Phase::backward, microbatch);
    dx = repeated.run(context_, frame, work);
  }
  if (first()) return;
  if (microbatch == 0) diagnose(*before_, stage_index_ - 1, frame, dx, true);
  Message m;
  {
    Segment segment(recorder_, Category::codec, Phase::encode_grad, microbatch);
    m = before_->encode_grad(context_, frame, dx);
  }
  communicator_.send(stage_index_ - 1, {MessageKind::backward, microbatch, 0}, std::move(m));
}

void Rank::diagnose(Codec& codec, int boundary, Frame& frame, Tensor x, bool gradient) {
  if (diagnosing_ == 0) return;
  recorder_.pause(true);
  for (const auto& [name, value] :
       gradient ? codec.diagnose_grad(context_, frame, x) : codec.diagnose(context_, frame, x)) {
    diagnostics_.push_back({diagnosing_, boundary, name, value});
  }
  recorder_.pause(false);
}

void Rank::reduce_gradients() {
  Segment segment(recorder_, Category::compute, Phase::reduce, -1);
  stage_->before_update(context_);
  ops_.sum_squares(sum_squares_, parameters_.flat_grad());
}

void Rank::update(int64_t step) {
  const bool clips = config_.clip_norm > 0,
             global = clips && config_.clip_scope == ClipScope::global && config_.pipeline > 1;
  if (global) {
    {
      Segment segment(recorder_, Category::compute, Phase::reduce, -1);
      ops_.add_statistics(total_squares_, sum_squares_, {});
    }
    communicator_.all_reduce_sum(total_squares_, 0, config_.pipeline, kClipNorm, pool_, ops_);
  }
  Segment segment(recorder_, Category::compute, Phase::update, -1);
  if (clips)
    ops_.clip_factor(grad_scale_, global ? total_squares_ : sum_squares_, config_.clip_norm);
  else
    ops_.fill(grad_scale_, 1.0);
  optimizer_->step(context_, parameters_, config_.learning_rate, step, grad_scale_);
  stage_->after_update(context_, step);
}

double Rank::sum_of_losses(int count) {
  if (!last()) return 0;
  std::vector<double> host(static_cast<size_t>(count), std::numeric_limits<double>::quiet_NaN());
  if (losses_.data != nullptr) ops_.download(host.data(), losses_.slice(0, 0, count));
  double sum = 0;
  for (double l : host) sum += l;
  return sum;
}

RankStep Rank::train(int64_t step) {
  recorder_.begin_step();
  diagnosing_ = config_.diagnose_every > 0 && step % config_.diagnose_every == 0 ? step : 0;
  diagnostics_.clear();
  std::vector<int> slot_of(static_cast<size_t>(config_.microbatches), -1);
  std::vector<int> free;
  for (int i = static_cast<int>(frames_.size()) - 1; i >= 0; --i) free.push_back(i);
  const int64_t first_sequence = sequences_before_ + (step - config_.first_step) * config_.batch;
  for (const ScheduleAction& action : schedule_.ranks.at(static_cast<size_t>(stage_index_))) {
    int& slot = slot_of.at(static_cast<size_t>(action.microbatch));
    if (action.computation == Computation::forward) {
      slot = free.back();
      free.pop_back();
      Frame& frame = frames_[static_cast<size_t>(slot)];
      frame.training = true;
      frame.step = step;
      frame.microbatch = action.microbatch;
      frame.loss_scale = 1.0 / (static_cast<double>(config_.batch) * config_.shape.context);
      forward(frame, action.microbatch, first_sequence + action.microbatch * sequences());
    } else {
      backward(frames_[static_cast<size_t>(slot)], action.microbatch);
      free.push_back(slot);
    }
  }
  begin_synchronise();
  reduce_gradients();
  update(step);
  end_synchronise(step);
  // Only now, with everything asked for, does the host wait for a device.
  RankStep result;
  result.loss_sum = sum_of_losses(config_.microbatches);
  result.grad_sum_squares = std::numeric_limits<double>::quiet_NaN();
  if (sum_squares_.data != nullptr) ops_.download(&result.grad_sum_squares, sum_squares_);
  result.diagnostics = std::move(diagnostics_);
  result.log = recorder_.take();
  return result;
}

double Rank::evaluate() {
  recorder_.pause(true);
  Frame& frame = frames_.front();
  frame.training = false;
  frame.step = 0;
  for (int i = 0; i < config_.evaluate_batches; ++i) {
    frame.microbatch = i;
    forward(frame, i, i * sequences());
  }
  recorder_.pause(false);
  return sum_of_losses(config_.evaluate_batches) /
         (static_cast<double>(config_.evaluate_batches) * static_cast<double>(frame.rows()));
}

std::vector<ParameterState> Rank::save() { return save_parameters(ops_, parameters_); }

void Rank::load(const Snapshot& snapshot, bool moments) {
  const std::unique_ptr<Method> before = make_method(snapshot.constraint, config_.shape);
  const ParameterSource source = converted(snapshot.source(), *before, *method_);
  const bool same_boundaries = snapshot.boundaries == boundaries_of(config_);
  const auto adds = [this](const std::string& name) {
    const auto& buffers = parameters_.buffers();
    return method_->adds(name) || std::any_of(buffers.begin(), buffers.end(),
                                              [&](const Buffer& b) { return b.name == name; });
  };
  load_parameters(
      ops_, parameters_,
      [&](const std::string& name) {
        return adds(name) && !same_boundaries ? std::nullopt : source(name);
      },
      moments, adds);
}

uint64_t Rank::parameters_hash() {
  uint64_t hash = 0;
  for (const Parameter& p : parameters_.parameters())
    hash = hash_tensor(ops_, p.master, hash_name(p.name, hash));
  return hash;
}

}  // namespace strait
