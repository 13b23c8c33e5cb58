// The options of context parallelism: what they may be, and the attention that they ask for.
#include "engine/context/context_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "engine/context/all_gather.h"
#include "engine/context/head_exchange.h"
#include "engine/context/mixture_of_subspaces.h"
#include "engine/context/ring.h"
#include "engine/nn/block.h"

namespace strait {

const char* name_of(ContextAlgorithm algorithm) {
  switch (algorithm) {
    case ContextAlgorithm::ring:
      return "ring";
    case ContextAlgorithm::allgather:
      return "allgather";
    case ContextAlgorithm::ulysses:
      return "ulysses";
    case ContextAlgorithm::hybrid:
      return "hybrid";
  }
  return "?";
}
const char* name_of(RingBackward schedule) {
  return schedule == RingBackward::home ? "home" : "reverse";
}
const char* name_of(KeyValueSend send) { return send == KeyValueSend::all ? "all" : "needed"; }

namespace {

[[noreturn]] void refuse(const std::string& option, const std::string& value,
                         const std::string& allowed) {
  throw std::invalid_argument(fmt::format("{}: {} is not possible; {}", option, value, allowed));
}

// Ranks that exchange heads: 1 where none do.
int exchange_degree(const ContextOptions& options, int shards) {
  switch (options.algorithm) {
    case ContextAlgorithm::ulysses:
      return shards;
    case ContextAlgorithm::hybrid:
      return options.ulysses_degree;
    default:
      return 1;
  }
}

void validate_heads(const ContextOptions& options, const ModelShape& shape, int shards) {
  const bool hybrid = options.algorithm == ContextAlgorithm::hybrid;
  if (!hybrid && options.ulysses_degree != 0)
    refuse("ulysses_degree", std::to_string(options.ulysses_degree),
           fmt::format("it belongs to algorithm hybrid, not {}", name_of(options.algorithm)));
  if (hybrid && (options.ulysses_degree < 1 || shards % options.ulysses_degree != 0))
    refuse("ulysses_degree", std::to_string(options.ulysses_degree),
           fmt::format("allowed is a divisor of the {} shards", shards));
  const int degree = exchange_degree(options, shards);
  const std::string what =
      hybrid ? "ulysses_degree"
             : fmt::format("algorithm {} with shards", name_of(options.algorithm));
  if (shape.heads % degree != 0)
    refuse(what, std::to_string(degree),
           fmt::format("allowed is a divisor of the {} heads", shape.heads));
  if (shape.kv_heads % degree != 0 && degree % shape.kv_heads != 0)
    refuse(what, std::to_string(degree),
           fmt::format("allowed is a divisor or a multiple of the {} key heads", shape.kv_heads));
}

std::unique_ptr<KeyValueCodec> make_codec(const ContextOptions& options, const ContextPlace& place,
                                          const Buffer* rope) {
  if (options.method == "mos" && compresses(options.mixture, place.layer, place.shape.layers))
    return make_mixture_of_subspaces(
        options.mixture, {place.shape, options.layout, place.shards, place.layer, place.frames,
                          place.parameters, rope});
  const DType t = place.parameters.dtype();
  if (options.method == "quantize" || options.method == "topk")
    return make_key_value_baseline(options.baseline, t, rope);
  return make_plain_key_values(options.wire, t, rope);
}

// Methods of keys and values, and what they go with.
void validate_method(const ContextOptions& options, const ModelShape& shape, int shards, DType t) {
  if (options.method != "none" && options.method != "mos" && options.method != "quantize" &&
      options.method != "topk")
    refuse("method", options.method, "allowed are none, mos, quantize and topk");
  if (options.method == "none") return;
  if (options.method == "mos") validate(options.mixture, shape, options.layout, shards, t);
  if (exchange_degree(options, shards) > 1)
    refuse("algorithm", name_of(options.algorithm),
           fmt::format("method {} goes with ring and allgather: heads that are exchanged are not "
                       "coded",
                       options.method));
  if (options.method == "mos" && options.kv_head_group > 0)
    refuse("kv_head_group", std::to_string(options.kv_head_group),
           "method mos codes all key heads at once: 0");
}

}  // namespace

void validate(const ContextOptions& options, const ModelShape& shape, int shards, DType t) {
  const bool gather = options.algorithm == ContextAlgorithm::allgather,
             ulysses = options.algorithm == ContextAlgorithm::ulysses, ring = !gather && !ulysses;
  const std::string name = name_of(options.algorithm);
  validate_heads(options, shape, shards);
  if (!ring && options.bwd_schedule != RingBackward::home)
    refuse("bwd_schedule", name_of(options.bwd_schedule),
           "only algorithms ring and hybrid have schedules, not " + name);
  if (options.kv_send == KeyValueSend::needed) {
    if (ulysses)
      refuse("kv_send", "needed", "algorithm ulysses sends heads, all of them: kv_send is all");
    if (options.bwd_schedule == RingBackward::reverse)
      refuse("kv_send", "needed",
             "bwd_schedule reverse begins with the last block of the forward: kv_send is all, or "
             "bwd_schedule home");
  }
  if (!gather && options.keep_gathered_kv)
    refuse("keep_gathered_kv", "true", "only algorithm allgather gathers them, not " + name);
  if (options.kv_head_group != 0) {
    if (!gather)
      refuse("kv_head_group", std::to_string(options.kv_head_group),
             "only algorithm allgather has groups of heads, not " + name);
    if (options.kv_head_group < 0 || shape.kv_heads % options.kv_head_group != 0)
      refuse("kv_head_group", std::to_string(options.kv_head_group),
             fmt::format("allowed is a divisor of the {} key heads", shape.kv_heads));
  }
  if (ulysses && options.wire.wire.value_or(t) != t)
    refuse("kv_wire_dtype", name_of(*options.wire.wire),
           fmt::format("algorithm ulysses sends heads in the type of the run, {}", name_of(t)));
  if (ulysses && options.wire.gradient_wire.value_or(statistics_of(t)) != statistics_of(t))
    refuse("dkv_wire_dtype", name_of(*options.wire.gradient_wire),
           fmt::format("algorithm ulysses sends gradients in the type of the run, {}", name_of(t)));
  make_plain_key_values(options.wire, t, nullptr);
  validate_method(options, shape, shards, t);
}

namespace {

int ranks_per_shard(const ContextOptions& options) {
  return options.algorithm == ContextAlgorithm::hybrid ? options.ulysses_degree : 1;
}

}  // namespace

SequenceLayout token_layout(const ContextOptions& options, int shards, int64_t tokens) {
  return {options.layout, shards, tokens, ranks_per_shard(options)};
}

int64_t padded_context(const ContextOptions& options, int shards, int64_t tokens) {
  return padded_tokens(options.layout, shards, tokens, ranks_per_shard(options));
}

std::unique_ptr<ContextAttention> make_context_attention(const ContextOptions& options,
                                                         const ContextPlace& place,
                                                         std::unique_ptr<KeyValueCodec> codec) {
  const ModelShape& shape = place.shape;
  const DType t = place.parameters.dtype();
  validate(options, shape, place.shards, t);
  const int degree = exchange_degree(options, place.shards), groups = place.shards / degree;
  const Buffer* rope = declare_rope_table(place.parameters, shape);
  if (codec == nullptr) codec = make_codec(options, place, rope);
  if ((degree > 1 || options.kv_head_group > 0) && !codec->splits_heads())
    refuse("algorithm", name_of(options.algorithm),
           "the method's payload is made of all key heads at once: ring, or allgather without "
           "kv_head_group");
  const auto order = token_layout(options, place.shards, shape.context).order();
  const Buffer* positions = place.parameters.declare_constant(
      "context.positions", {shape.context}, DType::i32,
      [order](std::vector<double>& v) { v.assign(order.begin(), order.end()); });
  // Inside an exchange of heads a group is one shard. One group alone has all tokens, in whatever order: positions decide.
  PieceSetting setting{SequenceLayout(options.layout, groups, shape.context), options.causal,
                       1.0 / std::sqrt(static_cast<double>(shape.head_width)), t, positions};
  if (options.algorithm == ContextAlgorithm::allgather)
    return std::make_unique<AllGatherAttention>(options, std::move(setting), place.layer,
                                                place.frames, shape.kv_heads, std::move(codec));
  auto ring =
      std::make_unique<RingAttention>(options, std::move(setting), place.layer, place.frames,
                                      std::max(shape.kv_heads / degree, 1), std::move(codec));
  if (degree == 1) return ring;
  return std::make_unique<HeadExchangeAttention>(degree, place.layer, std::move(ring));
}

}  // namespace strait
