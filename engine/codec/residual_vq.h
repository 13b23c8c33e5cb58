// Residual vector quantisation of latents with codebooks that follow them, and their streaming synchronisation (specs/mapl.md, sections 2.3
// and 2.4). A latent of r numbers is G groups of r/G; each of R rounds replaces every group of what is left by the nearest of K codes.
//
//   on the wire   G R indices of ceil(log2 K) bits a token, packed; and with every message a few codes, `sync_codes` a group and round
//   codes         running means of what they stood for (`decay`); one that falls out of use begins anew as a latent of the batch
//
// The two ends agree because the sender, too, encodes with the codes that it has sent (C_wire), never with those that it has learned
// since (`sync` "mirror"). "stale" encodes with the learned ones and lets the receiver's lag behind.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/codec/method.h"

namespace strait {

// One end of a direction that is quantised. Both keep C_wire (R',K,r) S; the sender also the running counts and sums.
class ResidualVq {
 public:
  // `name` ends in the name of the end; what stands before it is that of both. c.seed draws permutations and donors; the first message
  // of batch.first_step brings whole codebooks, sampled from its latents.
  ResidualVq(const MethodContext& c, const BatchShape& batch, const ResidualVqOptions& options,
             const std::string& name, int64_t rank, DType wire, bool sender);

  // What a message of `rows` latents carries: codes in the wire type, and packed indices in u8. `first`: the very first message.
  Message::Section code_section(bool first) const;
  Message::Section index_section(int64_t rows) const;
  bool is_first(const Frame& frame) const;

  // Sender: q (N,r) S = z quantised, z (N,r) S; fills both sections. Learns and moves C_wire where frame.training.
  void encode(Context& ctx, const Frame& frame, Tensor q, Tensor z, Tensor codes, Tensor packed);
  // Receiver: q (N,r) S from the sections alone.
  void decode(Context& ctx, const Frame& frame, Tensor q, Tensor codes, Tensor packed);

  uint64_t hash(Backend& ops, uint64_t seed) const;
  // sections' bytes: (packed indices, codes of every message but the first).
  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const;
  // code_use: share of codes whose running count is above the threshold's tenfold; code_perplexity: exp of the entropy of their use,
  // over K; both averaged over groups, first round. On the sender.
  Diagnosis diagnose(Backend& ops) const;
  // The ids of the codes that the message at `position` (messages since the first) brings.
  std::vector<int32_t> synchronised(int64_t position) const;
  Tensor wire_codebook(int round) const;

 private:
  int books() const { return o_.share_rounds ? 1 : o_.rounds; }
  int64_t position(const Frame& frame) const;
  Tensor upload(Context& ctx, const std::vector<int32_t>& ids) const;
  void begin(Context& ctx, int book, Tensor residual, Tensor codes);
  void learn(Context& ctx, const Frame& frame, int book, Tensor residual, Tensor index);
  void install(Context& ctx, const Frame& frame, Tensor codes);
  Tensor slab(const Buffer* b, int book) const;
  Tensor live(Context& ctx, int book, const std::vector<int32_t>& ids);

  ResidualVqOptions o_;
  int64_t r_, sync_codes_, microbatches_, first_step_;
  uint64_t seed_;
  int bits_;
  DType wire_;
  Buffer *codes_ = nullptr, *counts_ = nullptr, *sums_ = nullptr;
};

}  // namespace strait
