#include "engine/rank.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "engine/rank_links.h"

namespace strait {
namespace {

using record::Category;
using record::MessageKind;
using record::Phase;
using Segment = RankRecorder::Segment;

// Purposes of control messages of its own; more: rank_links.cpp, rank_state.cpp.
// Where this phase begins in the stream of its samples: after as many as the tokens of the phases before would make.
int64_t sequences_before(const TrainingConfig& config) {
  const auto context = static_cast<uint64_t>(config.shape.context);
  return static_cast<int64_t>((config.tokens_before + context - 1) / context);
}

SequenceLayout layout_of(const TrainingConfig& config) {
  return token_layout(config.exchanges() ? config.context : ContextOptions{}, config.shards,
                      config.padded_context());
}

ModelShape padded_shape(const TrainingConfig& config) {
  ModelShape shape = config.shape;
  shape.context = config.padded_context();
  return shape;
}

}  // namespace

RankPlace Rank::place() { return {config_, grid_, rank_, recorder_, communicator_, pool_, ops_}; }

Rank::Rank(const TrainingConfig& config, int rank, Backend& backend, RankRecorder& recorder,
           Communicator& communicator, MessagePool& pool, const BatchSource* data,
           const RankPlan* plan)
    : config_(config),
      grid_(config.grid()),
      rank_(rank),
      stage_index_(grid_.stage(rank)),
      replica_(grid_.replica(rank)),
      shape_(padded_shape(config)),
      token_positions_(layout_of(config).positions(grid_.shard(rank))),
      token_order_(layout_of(config).order()),
      own_tokens_(std::count_if(token_positions_.begin(), token_positions_.end(),
                                [&](int32_t p) { return p < config.shape.context; })),
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
  layers_ = ranges.at(static_cast<size_t>(stage_index_));
  const MethodContext c{shape_, config.seed, parameters_, pool, config.pipeline - 1};
  shard_link_ = std::make_unique<ShardLink>(place());
  stage_ = std::make_unique<Stage>(
      StageOptions{shape_, layers_, first(), last(), constrained_layers(config),
                   frames_needed(schedule_, stage_index_), config.head_chunk_rows, config.dtype,
                   config.shards, config.context, shard_link_.get()},
      *method_, c);
  if (!first()) before_ = method_->make_codec(c, stage_index_ - 1, BoundaryEnd::receiver);
  if (!last()) after_ = method_->make_codec(c, stage_index_, BoundaryEnd::sender);
  takes_ids_ =
      first() || (before_ && before_->traits().local_ids) || (after_ && after_->traits().local_ids);
  STRAIT_CHECK(plan != nullptr || std::strcmp(backend.name(), "meta") == 0,
               "a rank that computes needs a memory plan");
  STRAIT_CHECK(data != nullptr || std::strcmp(backend.name(), "meta") == 0,
               "a rank that computes needs data");
  STRAIT_CHECK(!config.document_mask || data == nullptr || data->document_begin(),
               "a document mask needs to know where documents begin");
  optimizer_.emplace(config.optimizer, parameters_);
  allocate(plan);
}

// Few values that live from step to step: placed in `region`, or nowhere, which counts.
void Rank::place_state(Arena& region) {
  positions_ = region.take({config_.shard_context()}, DType::i32);
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
    f.copy = grid_.copy(rank_);
    f.sequences = config_.sequences();
    f.context = config_.shard_context();
    f.positions = positions_;
  }
  if (positions_.data != nullptr) ops_.upload(positions_, token_positions_.data());
}

RankPlan Rank::plan() const {
  RankPlan p;
  p.layers = layers_;
  p.frames = static_cast<int>(frames_.size());
  p.parameters = parameters_.trainable();
  p.persistent_bytes = parameters_.bytes();
  for (const Frame& f : frames_) p.frame_bytes = std::max(p.frame_bytes, f.arena.high_water());
  p.scratch_bytes = scratch_.high_water();
  p.message_bytes = recorder_.messages()->high_water();
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
                      boundary, rank_, mine, other, theirs));
    }
  };
  if (before_) exchange(rank_ - 1, *before_, stage_index_ - 1);
  if (after_) exchange(rank_ + 1, *after_, stage_index_);
  recorder_.pause(false);
}

void Rank::begin_synchronise() {
  BoundaryLink next(place(), rank_ + 1), previous(place(), rank_ - 1);
  if (after_) after_->begin_synchronise(context_, next);
  if (before_) before_->begin_synchronise(context_, previous);
}

void Rank::end_synchronise(int64_t step) {
  BoundaryLink next(place(), rank_ + 1), previous(place(), rank_ - 1);
  const StepEnd end{
      step, config_.optimizer.learning_rate(ParameterGroup::matrix, config_.learning_rate, step)};
  if (after_) after_->end_synchronise(context_, next, end);
  if (before_) before_->end_synchronise(context_, previous, end);
  BoundaryLink copies(place(), rank_);  // keys and values have no other end
  stage_->end_synchronise(context_, copies, end);
}

// Targets are shifted before a sequence is sharded: the target of a shard's last token may be another shard's. Documents are needed of
// whole sequences (Frame::documents). Padding is token 0, which no token before it sees, without a target.
void Rank::load_batch(Frame& frame, Samples samples, int64_t first_sequence) {
  frame.arena.rewind(0);
  frame.ids = frame.targets = frame.documents = Tensor{};
  if (takes_ids_) frame.ids = frame.arena.take({frame.rows()}, DType::i32);
  if (last()) frame.targets = frame.arena.take({frame.rows()}, DType::i32);
  if (config_.document_mask)
    frame.documents = frame.arena.take({frame.sequences, shape_.context}, DType::i32);
  const bool reads_ids = takes_ids_ || config_.document_mask;
  if (data_ == nullptr || (!reads_ids && !last())) return;
  std::vector<int32_t> ids, targets, documents;
  std::vector<int32_t> sequence(static_cast<size_t>(shape_.context), 0),
      sequence_targets(sequence.size(), -1);
  for (int64_t b = 0; b < frame.sequences; ++b) {
    int32_t* i = reads_ids ? sequence.data() : nullptr;
    int32_t* y = last() ? sequence_targets.data() : nullptr;
    samples == Samples::training ? data_->training(first_sequence + b, i, y)
                                 : data_->validation(first_sequence + b, i, y);
    for (const int32_t position : token_positions_) {
      ids.push_back(sequence[static_cast<size_t>(position)]);
      targets.push_back(sequence_targets[static_cast<size_t>(position)]);
    }
    if (!config_.document_mask) continue;
    const auto whole = static_cast<size_t>(config_.shape.context);
    const auto begins = [&](size_t t) {
      return t < whole ? sequence[t] == *data_->document_begin() : t == whole;
    };
    std::vector<int32_t> of_position(sequence.size());
    int32_t document = 0;
    for (size_t t = 0; t < sequence.size(); ++t) of_position[t] = document += begins(t) ? 1 : 0;
    for (const int32_t position : token_order_)
      documents.push_back(of_position[static_cast<size_t>(position)]);
  }
  if (takes_ids_) ops_.upload(frame.ids, ids.data());
  if (last()) ops_.upload(frame.targets, targets.data());
  if (config_.document_mask) ops_.upload(frame.documents, documents.data());
}

Shape Rank::boundary_shape(const Frame& frame) const {
  return {method_->boundary_parts() * frame.rows(), config_.shape.width};
}

int64_t Rank::first_sequence(int64_t step) const {
  return sequences_before_ + (step - config_.first_step) * config_.batch +
         replica_ * (config_.batch / config_.replicas);
}

void Rank::forward(Frame& frame, Samples samples, int microbatch, int64_t first_sequence) {
  load_batch(frame, samples, first_sequence);
  Tensor x;
  if (!first()) {
    const Message m = communicator_.receive(rank_ - 1, {MessageKind::forward, microbatch, 0});
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
    // What asks for messages on the way cannot be noted.
    const bool repeats = frame.training && !config_.exchanges();
    if (repeats) repeated.prepare(context_, frame, work);
    Segment segment(recorder_, Category::compute, Phase::forward, microbatch);
    x = repeats ? repeated.run(context_, frame, work) : work();
  }
  if (frame.training && microbatch == 0) diagnose_keys_and_values(frame);
  if (last()) return;
  if (frame.training && microbatch == 0) diagnose(*after_, stage_index_, frame, x, false);
  Message m;
  {
    Segment segment(recorder_, Category::codec, Phase::encode, microbatch);
    m = after_->encode(context_, frame, x);
  }
  communicator_.send(rank_ + 1, {MessageKind::forward, microbatch, 0}, std::move(m));
}

void Rank::backward(Frame& frame, int microbatch) {
  ArenaScope scope(scratch_);
  Tensor dy;
  if (!last()) {
    const Message m = communicator_.receive(rank_ + 1, {MessageKind::backward, microbatch, 0});
    dy = scratch_.take(boundary_shape(frame), config_.dtype);
    Segment segment(recorder_, Category::codec, Phase::decode_grad, microbatch);
    after_->decode_grad(context_, frame, dy, m);
  }
  Tensor dx;
  {
    const auto work = [&] { return stage_->backward(context_, frame, dy); };
    RepeatedWork& repeated = backwards_[frame.index];
    const bool repeats = !config_.exchanges();
    if (repeats) repeated.prepare(context_, frame, work);
    Segment segment(recorder_, Category::compute, Phase::backward, microbatch);
    dx = repeats ? repeated.run(context_, frame, work) : work();
  }
  if (first()) return;
  if (microbatch == 0) diagnose(*before_, stage_index_ - 1, frame, dx, true);
  Message m;
  {
    Segment segment(recorder_, Category::codec, Phase::encode_grad, microbatch);
    m = before_->encode_grad(context_, frame, dx);
  }
  communicator_.send(rank_ - 1, {MessageKind::backward, microbatch, 0}, std::move(m));
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

void Rank::diagnose_keys_and_values(const Frame& frame) {
  if (diagnosing_ == 0 || !grid_.first_copy(rank_)) return;
  recorder_.pause(true);
  for (const auto& [name, value] : stage_->diagnose(context_, frame))
    diagnostics_.push_back({diagnosing_, stage_index_, name, value});
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
    communicator_.all_reduce_sum(total_squares_, rank_ - stage_index_, config_.pipeline, kClipNorm,
                                 pool_, ops_);
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

RankStep Rank::train(int64_t step, bool ends_phase) {
  recorder_.begin_step();
  diagnosing_ = config_.diagnose_every > 0 && step % config_.diagnose_every == 0 ? step : 0;
  diagnostics_.clear();
  std::vector<int> slot_of(static_cast<size_t>(config_.microbatches), -1);
  std::vector<int> free;
  for (int i = static_cast<int>(frames_.size()) - 1; i >= 0; --i) free.push_back(i);
  for (const ScheduleAction& action : schedule_.ranks.at(static_cast<size_t>(stage_index_))) {
    int& slot = slot_of.at(static_cast<size_t>(action.microbatch));
    if (action.computation == Computation::forward) {
      slot = free.back();
      free.pop_back();
      Frame& frame = frames_[static_cast<size_t>(slot)];
      frame.training = true;
      frame.step = step;
      frame.microbatch = action.microbatch;
      // Of a mean over the tokens that one step is taken for: all, or this copy's, without padding.
      frame.loss_scale =
          config_.copies_differ()
              ? 1.0 / (static_cast<double>(config_.batch / config_.replicas) * own_tokens_)
              : 1.0 / (static_cast<double>(config_.batch) * config_.shape.context);
      forward(frame, Samples::training, action.microbatch,
              first_sequence(step) + action.microbatch * config_.sequences());
    } else {
      backward(frames_[static_cast<size_t>(slot)], action.microbatch);
      free.push_back(slot);
    }
  }
  sum_gradients(place(), parameters_.flat_grad());
  begin_synchronise();
  reduce_gradients();
  update(step);
  average_parameters(place(), parameters_, step, ends_phase);
  end_synchronise(step);
  // Only now, with everything asked for, does the host wait for a device.
  RankStep result;
  result.loss_sum = sum_of_losses(config_.microbatches);
  if (grid_.first_copy(rank_)) {
    result.grad_sum_squares = std::numeric_limits<double>::quiet_NaN();
    if (sum_squares_.data != nullptr) ops_.download(&result.grad_sum_squares, sum_squares_);
  }
  if (grid_.first_copy(rank_)) result.diagnostics = std::move(diagnostics_);
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
    forward(frame, Samples::validation, i,
            (int64_t{i} * config_.replicas + replica_) * config_.sequences());
  }
  recorder_.pause(false);
  return sum_of_losses(config_.evaluate_batches);
}

}  // namespace strait
