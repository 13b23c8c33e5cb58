// What a learned method for keys and values must beat: codecs of arbitrary rows, a row being all key heads of a token (w = Hkv Dh of the piece).
// Keys travel before RoPE, so that all methods see the same numbers; everybody, the owner too, computes with what is decoded. What is decoded stands
// for what was encoded, and its gradient is taken for the gradient (straight-through).
//
//   quantize   N (ceil(w bits / 8) + 2 groups)     codes of 8 or 4 bits with a bf16 scale a group of neighbours (op quantize_rows)
//   topk       N k (e + i)                          the k = max(1, round(keep w)) largest entries; i = 1 (w <= 256) or 2 bytes of index
//
// bytes of the keys, or the values, of N tokens; e those of the wire's type. Gradients, of keys after RoPE, go the same way where
// `gradients` is "same": an all-gather rounds each once, a ring once a hop. A frozen random projection is a mixture of subspaces with
// rotation none and basis_source random (mixture_options.h); a cast is PlainKeyValueOptions.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/context/key_value_codec.h"

namespace strait {

struct KeyValueBaselineOptions {
  std::string method = "quantize";     // "quantize", "topk"
  int bits = 8;                        // quantize: 8, 4
  int64_t group = 128;                 // quantize: neighbours that share a scale, even
  double keep = 0.1;                   // topk: share of the entries, (0, 1]
  std::optional<DType> wire;           // topk: of values: T, or bf16
  std::string gradients = "none";      // "none" (as gradient_wire), "same"
  std::optional<DType> gradient_wire;  // S, or bf16
};

// `rope` as declare_rope_table() gives it. Throws std::invalid_argument: which option, its value, and what is allowed.
std::unique_ptr<KeyValueCodec> make_key_value_baseline(const KeyValueBaselineOptions& options,
                                                       DType t, const Buffer* rope);

}  // namespace strait
