#include "engine/training.h"

#include <fmt/format.h>

#include <algorithm>

#include <stdexcept>
#include <string_view>
#include <utility>

namespace strait {

namespace {

// A copy that steps by the mean loss of its own tokens has some.
void validate_copies(const TrainingConfig& c) {
  const SequenceLayout layout =
      token_layout(c.shards > 1 ? c.context : ContextOptions{}, c.shards, c.padded_context());
  for (int shard = 0; shard < c.shards; ++shard) {
    const std::vector<int32_t> positions = layout.positions(shard);
    if (*std::min_element(positions.begin(), positions.end()) >= c.shape.context)
      throw std::invalid_argument(
          fmt::format("/parallel/synchronisation/mode is \"parameters\", but shard {} of {} tokens "
                      "has nothing but "
                      "padding; allowed: mode gradients, or fewer shards",
                      shard, c.shape.context));
  }
}

// Where a scenario states what it is about.
void validate_context(const TrainingConfig& c) {
  try {
    validate(c.context, c.shape, c.shards, c.dtype);
  } catch (const std::invalid_argument& e) {
    std::string text = e.what();
    for (const auto& [option, pointer] :
         {std::pair{"kv_wire_dtype", "wire"}, std::pair{"dkv_wire_dtype", "gradient_wire"}})
      if (text.starts_with(option))
        throw std::invalid_argument("/compression/context/" +
                                    text.replace(0, std::string_view(option).size(), pointer));
    for (const std::string prefix : {"mixture of subspaces, ", "keys and values, "})
      if (text.starts_with(prefix))
        throw std::invalid_argument("/compression/context/" + text.substr(prefix.size()));
    for (const char* option : {"method:", "basis_source:"})
      if (text.starts_with(option)) throw std::invalid_argument("/compression/context/" + text);
    throw std::invalid_argument("/parallel/context_attention/" + text);
  }
}

}  // namespace

void validate(const TrainingConfig& c) {
  validate(c.shape);
  auto at_least = [](const char* name, int64_t value, int64_t least) {
    if (value < least)
      throw std::invalid_argument(
          fmt::format("{} is {}; it must be at least {}", name, value, least));
  };
  at_least("pipeline", c.pipeline, 1);
  at_least("shards", c.shards, 1);
  at_least("replicas", c.replicas, 1);
  at_least("synchronisation.every", c.synchronisation.every, 1);
  at_least("batch", c.batch, 1);
  at_least("microbatches", c.microbatches, 1);
  at_least("steps", c.steps, 1);
  at_least("evaluate_every", c.evaluate_every, 0);
  at_least("diagnose_every", c.diagnose_every, 0);
  at_least("evaluate_batches", c.evaluate_batches, 1);
  at_least("head_chunk_rows", c.head_chunk_rows, 1);
  if (c.batch % (c.replicas * c.microbatches) != 0)
    throw std::invalid_argument(
        fmt::format("batch is {}; it must be divisible by replicas x microbatches ({} x {})",
                    c.batch, c.replicas, c.microbatches));
  if (c.exchanges()) validate_context(c);
  if (c.copies_differ()) validate_copies(c);
  if (c.clip_norm < 0)
    throw std::invalid_argument(
        fmt::format("clip_norm is {}; it must be 0 (off) or positive", c.clip_norm));
  validate(c.optimizer);
  const LayerRange last = split_layers(c.shape.layers, c.pipeline, c.layers_per_stage).back();
  if (c.full_rank_layers && (*c.full_rank_layers < 0 || *c.full_rank_layers > last.count))
    throw std::invalid_argument(fmt::format(
        "/compression/pipeline/full_rank_layers is {}; allowed: 0 to {}, the layers of the last "
        "stage, because what the others write crosses a boundary",
        *c.full_rank_layers, last.count));
  if (c.method.method == "subspace" && c.method.variant != "reparametrised" &&
      (c.optimizer.rule_of(ParameterGroup::matrix) == UpdateRule::muon ||
       c.optimizer.rule_of(ParameterGroup::embedding) == UpdateRule::muon))
    throw std::invalid_argument(
        fmt::format("/compression/pipeline/variant is \"{}\", with muon for matrices or embedding: "
                    "its iterations lift what rounding leaves outside the "
                    "subspace (specs/subspace_models.md 4.3); allowed: reparametrised",
                    c.method.variant));
  make_schedule(c.schedule, c.pipeline, c.microbatches);
  make_method(c);
}

std::unique_ptr<Method> make_method(const TrainingConfig& c) {
  MethodOptions options = c.method;
  options.batch = {c.sequences() * c.shard_context(), c.microbatches, c.first_step};
  return make_method(options, c.shape, c.dtype);
}

int constrained_layers(const TrainingConfig& c) {
  if (c.full_rank_layers) return c.shape.layers - *c.full_rank_layers;
  return split_layers(c.shape.layers, c.pipeline, c.layers_per_stage).back().first;
}

std::string method_text(const TrainingConfig& c) {
  const auto rank = make_method(c)->rank();
  std::string text = c.method.method;
  if (text == "mapl" && c.method.mapl.vq.on) text += " vq";
  if (rank) {
    text += text == "topk"          ? fmt::format(", {} entries a token", *rank)
            : text == "column_mask" ? fmt::format(", {} columns", *rank)
                                    : fmt::format(" rank {}", *rank);
  }
  if (c.method.backward) text += fmt::format(", gradients {}", c.method.backward->method);
  return text;
}

std::string context_text(const TrainingConfig& c) {
  const ContextOptions& o = c.context;
  if (o.method == "mos") {
    const MixtureSizes sizes = mixture_sizes(o.mixture, c.shape);
    return fmt::format("mos ranks {}/{}", sizes.rank_k, sizes.rank_v);
  }
  if (o.method == "quantize") return fmt::format("quantize int{}", o.baseline.bits);
  if (o.method == "topk") return fmt::format("topk keep {}", o.baseline.keep);
  return o.wire.wire.value_or(c.dtype) == c.dtype ? o.method : std::string(name_of(*o.wire.wire));
}

std::string compression_text(const TrainingConfig& c) {
  const std::string pipeline = method_text(c);
  if (context_text(c) == "none") return pipeline;
  const std::string context = (c.context.method == "mos" ? "" : "context ") + context_text(c);
  return pipeline == "none" ? context : pipeline + " + " + context;
}

ModelConstraint constraint_of(const TrainingConfig& c) { return make_method(c)->constraint(); }

std::string boundaries_of(const TrainingConfig& c) {
  std::string text = make_method(c)->boundaries();
  if (text.empty()) return text;
  text += "; behind layers";
  for (const LayerRange& range : split_layers(c.shape.layers, c.pipeline, c.layers_per_stage))
    text += fmt::format(" {}", range.first + range.count - 1);
  return text;
}

}  // namespace strait
