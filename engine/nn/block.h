// One decoder layer, LLaMA form (Touvron et al. 2023), names as in Hugging Face with q,k,v and gate,up stacked:
//   x1 = x  + Wo attention(rope(Wqkv norm1(x)))
//   y  = x1 + Wd (silu(g) * u),   [g | u] = Wgu norm2(x1)
// Kept per microbatch and token: 3C (norm1, x1, norm2) + (H+2Hkv)Dh + H Dh + 3F elements, three statistics; 2 Hkv Dh fewer where the
// attention's codec projects().
#pragma once

#include <memory>
#include <vector>

#include "engine/context/context_attention.h"
#include "engine/nn/module.h"

namespace strait {

// What a block is given.
struct BlockParts {
  std::unique_ptr<Projection> attention_output;  // in = H Dh; writes into the residual stream
  std::unique_ptr<Projection> ffn_down;          // in = F; likewise
  // Where the tokens of a sequence lie on several ranks: the attention over them, and the way to the others. Else null.
  std::unique_ptr<ContextAttention> attention;
  ContextLink* link = nullptr;
  // What it reads and writes. in 2: x is [stream; r] (2N, C), N rows each: attention reads r, what it writes is added to the stream.
  // out 2: y is [x1; Wd s] (2N, C), not added (specs/resbm.md 2.4).
  int in = 1, out = 1;
};

class Block final : public Module {
 public:
  // `layer` is the global index. `frames`: microbatches in flight at most.
  Block(const ModelShape& shape, int layer, uint64_t seed, int frames, ParameterList& parameters,
        BlockParts parts);

  void forward(Context& ctx, Frame& frame, Tensor y, Tensor x) override;
  void backward_input(Context& ctx, Frame& frame, Tensor dx, Tensor dy) override;
  void backward_weight(Context& ctx, Frame& frame) override;
  void before_update(Context& ctx);
  void after_update(Context& ctx, int64_t step);
  // As those of the attention's codec (KeyValueCodec), where there is one; calibrate() where it wants it.
  bool wants_calibration() const;
  void calibrate(bool on);
  void begin(Context& ctx, ControlLink& link);
  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end);
  // KeyValueCodec::diagnose, between forward and backward of the frame; nothing where attention has no such codec.
  Diagnosis diagnose(Context& ctx, const Frame& frame);

 private:
  // What one microbatch keeps from its forward, and, between the two halves of the backward, of its gradients.
  struct Saved {
    // qkv: of queries alone where the codec projects(), and dqkv likewise.
    Tensor x, h1, rstd1, qkv, o, lse, x1, h2, rstd2, gate_up, s;
    Tensor d_down, dgate_up, d_out, dqkv;
  };
  // (B,T,heads,Dh) views of packed (N, (H+2Hkv)Dh) rows.
  Tensor heads_of(const Tensor& qkv, const Frame& frame, int first, int count) const;
  // Keys and values of packed rows, or what they are made of: x (N, C), and likewise of their gradients.
  KeyValueSource key_values(const Tensor& qkv, const Tensor& x, const Frame& frame);
  void attention_forward(Context& ctx, Frame& frame, Saved& s);
  // dx (N, C): what comes through keys and values where the codec projects(); else it is left alone.
  void attention_backward(Context& ctx, Frame& frame, Saved& s, Tensor dx, Tensor dout);

  ModelShape shape_;
  Parameter *norm1_, *norm2_, *qkv_, *gate_up_;
  Buffer* rope_;
  std::unique_ptr<Projection> out_, down_;
  std::unique_ptr<ContextAttention> attention_;
  ContextLink* link_;
  int inputs_, outputs_;  // BlockParts::in, out
  std::vector<Saved> saved_;
};

// The table that Backend::rope reads: (T, Dh) S, cos then sin; shared by the layers of a rank.
Buffer* declare_rope_table(ParameterList& parameters, const ModelShape& shape);

}  // namespace strait
