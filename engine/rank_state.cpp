// What a rank keeps from one phase or process to the next: its parameters, and the states of its codecs.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/context/unplug.h"
#include "engine/rank.h"
#include "engine/rank_links.h"

namespace strait {
namespace {

std::string mixture_prefix(int layer) {
  return fmt::format("model.layers.{}{}", layer, kMixtureStates);
}

}  // namespace

std::vector<ParameterState> Rank::save() {
  return save_parameters(ops_, parameters_, grid_.copy(rank_), config_.copies_differ());
}

void Rank::begin() {
  recorder_.pause(true);
  if (calibrates()) calibrate();
  BoundaryLink copies(place(), rank_);
  stage_->begin(context_, copies, begun_);
  recorder_.pause(false);
}

// Whether a layer of the model, of whatever stage, is to see activations before it begins: then all stages compute.
bool Rank::calibrates() {
  const ContextOptions& context = config_.context;
  if (context.method != "mos" || context.mixture.basis_source != "activations") return false;
  double wanting = stage_->wants_calibration(begun_) ? 1 : 0;
  if (config_.pipeline == 1) return wanting > 0;
  if (total_squares_.data != nullptr) ops_.upload(total_squares_, &wanting);
  communicator_.all_reduce_sum(total_squares_, rank_ - stage_index_, config_.pipeline, kCalibration,
                               pool_, ops_);
  if (total_squares_.data == nullptr) return true;  // meta: nothing has begun
  ops_.download(&wanting, total_squares_);
  return wanting > 0;
}

// Each copy sees its part of the first samples of this phase.
void Rank::calibrate() {
  Frame& frame = frames_.front();
  frame.training = false;
  frame.step = 0;
  frame.microbatch = 0;
  stage_->calibrate(true, begun_);
  for (int i = 0; i < config_.context.mixture.calibration_batches; ++i)
    forward(frame, Samples::training, 0,
            first_sequence(config_.first_step + i / config_.microbatches) +
                i % config_.microbatches * config_.sequences());
  stage_->calibrate(false, begun_);
}

// Layers for which `snapshot` has a basis that was made as this training would make it.
void Rank::find_begun(const Snapshot& snapshot) {
  begun_.clear();
  for (int layer = layers_.first; layer < layers_.first + layers_.count; ++layer) {
    const std::string prefix = mixture_prefix(layer);
    bool states = false, found = true;
    for (const Buffer& b : parameters_.buffers()) {
      if (!b.saved || !b.name.starts_with(prefix)) continue;
      states = true;
      const ParameterState* state = snapshot.find(b.name);
      found = found && state != nullptr && state->shape == b.shape;
      if (!found || !b.name.ends_with(".family")) continue;
      std::vector<double> own(1), stored(1);
      b.init(own);
      std::memcpy(stored.data(), state->master.data(), sizeof(double));
      found = own == stored;
    }
    if (states && found) begun_.insert(layer);
  }
}

void Rank::load(const Snapshot& snapshot, bool moments) {
  const int copy = grid_.copy(rank_);
  const std::unique_ptr<Method> before = make_method(snapshot.constraint, config_.shape);
  const ParameterSource stored = [&, of_first = snapshot.source()](const std::string& name) {
    // Copies that differ go on as they were.
    const ParameterState* own =
        config_.copies_differ() ? snapshot.find(copy_name(name, copy)) : nullptr;
    return own == nullptr ? of_first(name) : std::optional(*own);
  };
  const ParameterSource plain = converted(stored, *before, *method_);
  const bool same_boundaries = snapshot.boundaries == boundaries_of(config_);
  const auto& buffers = parameters_.buffers();
  // Bases that end here, whatever the method that follows: layers that have one here keep theirs or make it anew.
  const ParameterSource left_behind = [&](const std::string& name) {
    const bool here = std::any_of(buffers.begin(), buffers.end(),
                                  [&](const Buffer& b) { return b.name == name; });
    return here ? std::nullopt : stored(name);
  };
  const ParameterSource source =
      config_.context.fold_on_unplug ? unplugged(plain, left_behind, config_.shape) : plain;
  const auto of_keys_and_values = [](const std::string& name) {
    return name.find(kMixtureStates) != std::string::npos;
  };
  const auto of_boundary = [&](const std::string& name) {
    return !of_keys_and_values(name) &&
           (method_->adds(name) ||
            std::any_of(buffers.begin(), buffers.end(),
                        [&](const Buffer& b) { return name_of_copy(b, copy) == name; }));
  };
  find_begun(snapshot);
  // States of a basis that is made anew begin afresh, and so does what reads it where its size has changed.
  const auto stays_behind = [&](const std::string& name) {
    if (!of_keys_and_values(name)) return of_boundary(name) && !same_boundaries;
    for (const int layer : begun_)
      if (name.starts_with(mixture_prefix(layer))) return false;
    const auto p = std::find_if(parameters_.parameters().begin(), parameters_.parameters().end(),
                                [&](const Parameter& own) { return own.name == name; });
    const ParameterState* state = snapshot.find(name);
    return p == parameters_.parameters().end() || state == nullptr || !(state->shape == p->shape);
  };
  load_parameters(
      ops_, parameters_, copy,
      [&](const std::string& name) { return stays_behind(name) ? std::nullopt : source(name); },
      moments,
      [&](const std::string& name) { return of_keys_and_values(name) || of_boundary(name); });
}

uint64_t Rank::shared_state_hash() {
  uint64_t hash = 0;
  for (const Buffer& b : parameters_.buffers())
    if (b.saved && !b.local) hash = hash_tensor(ops_, b.value, hash_name(b.name, hash));
  return hash;
}

uint64_t Rank::parameters_hash() {
  uint64_t hash = 0;
  for (const Parameter& p : parameters_.parameters())
    hash = hash_tensor(ops_, p.master, hash_name(p.name, hash));
  return hash;
}

}  // namespace strait
