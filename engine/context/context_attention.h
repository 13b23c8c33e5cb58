// Attention of a sequence whose tokens lie on several ranks (specs/context_parallelism.md 4 to 8): one object a layer and rank
// stands where a block's attention stood. Everything else in a block is token-local.
//
//   ring        keys and values travel from rank to rank, P-1 hops; their gradients travel after them, home
//   allgather   every rank sends its keys and values to all others, and gradients to their owners
//   ulysses     ranks exchange heads for tokens, attend to the whole sequence with H/P heads, and exchange back
//   hybrid      heads for tokens within groups of `ulysses_degree` ranks, a ring over the groups
//
// All are exact: they differ from one rank in the order of sums (section 12). No rank holds more than its own tokens and the blocks in
// flight; allgather all payloads where it keeps them. Bytes, and what is kept: docs/context.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/context/context_link.h"
#include "engine/context/key_value_baselines.h"
#include "engine/context/key_value_codec.h"
#include "engine/context/layout.h"
#include "engine/context/mixture_options.h"
#include "engine/nn/module.h"

namespace strait {

enum class ContextAlgorithm : uint8_t { ring, allgather, ulysses, hybrid };
// Of a ring: gradients start at their owner and come home after P hops, or blocks go back the way they came, P-1 hops (section 4).
enum class RingBackward : uint8_t { home, reverse };
// All pieces to everybody, or to each rank those that its queries may see (section 5).
enum class KeyValueSend : uint8_t { all, needed };
const char* name_of(ContextAlgorithm algorithm);
const char* name_of(RingBackward schedule);
const char* name_of(KeyValueSend send);

struct ContextOptions {
  ContextAlgorithm algorithm = ContextAlgorithm::ring;
  TokenLayout layout = TokenLayout::zigzag;
  RingBackward bwd_schedule = RingBackward::home;  // ring, hybrid
  KeyValueSend kv_send = KeyValueSend::all;        // not ulysses; not with bwd_schedule reverse
  PlainKeyValueOptions wire;  // kv_wire_dtype, dkv_wire_dtype; of method none, not ulysses
  bool keep_gathered_kv =
      false;               // allgather: payloads are kept for the backward instead of sent again
  int kv_head_group = 0;   // allgather: key heads at a time; divides them; 0: all
  int ulysses_degree = 0;  // hybrid: ranks that exchange heads; divides the ranks
  bool causal = true;
  // What keys and values become on the way: "none", "mos" (mixtures of subspaces), "quantize", "topk" (baselines).
  std::string method = "none";
  MixtureOptions mixture;
  KeyValueBaselineOptions baseline;
  // Of layers that have no basis here, but had one in the state to start from: weights are folded onto it (unplug.h).
  bool fold_on_unplug = true;
};

// Throws std::invalid_argument: which option, its value, and what is allowed. `shape.context` is the whole sequence; `t` the compute
// type.
void validate(const ContextOptions& options, const ModelShape& shape, int shards, DType t);
// Which tokens each rank holds: what the data is cut by. Throws as above.
SequenceLayout token_layout(const ContextOptions& options, int shards, int64_t tokens);
// What sequences of `tokens` are filled up to for it. The options are valid for `shards`.
int64_t padded_context(const ContextOptions& options, int shards, int64_t tokens);

class ContextAttention {
 public:
  virtual ~ContextAttention() = default;
  // o, q (B,n_i,H,Dh), q after RoPE; T, strided in all but the last two; pre: keys and values, or what codec() makes them of
  // (KeyValueSource). Of a frame that trains, o, q and pre.x stay where they are until its backward; pre.k and pre.v need not. Computes
  // at frame.index, sends with frame.microbatch.
  virtual void forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o, Tensor q,
                       const KeyValueSource& pre) = 0;
  // dq, dpre T are overwritten: the gradients of q (after RoPE) and of pre. dout T.
  virtual void backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                        const KeyValueSource& dpre, Tensor dout) = 0;
  // What turns keys and values into what travels: for its state and the end of a step.
  virtual KeyValueCodec& codec() = 0;
};

// What a rank needs to make the attention of one layer.
struct ContextPlace {
  const ModelShape& shape;  // context: of the whole sequence
  int shards = 1;
  int layer = 0;   // global: part of the tags
  int frames = 1;  // microbatches in flight at most
  ParameterList& parameters;
};
// `codec`: null for that of options.method. Declares constants: the RoPE table, the positions of all tokens. Throws
// as validate() does.
std::unique_ptr<ContextAttention> make_context_attention(const ContextOptions& options,
                                                         const ContextPlace& place,
                                                         std::unique_ptr<KeyValueCodec> codec);

}  // namespace strait
