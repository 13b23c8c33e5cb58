// What the scenario says of method `mapl` (specs/mapl.md, section 8), resolved. Plain data; checked by make_mapl().
#pragma once

#include <optional>
#include <string>

#include "engine/manifold/spel.h"

namespace strait {

// Token anchors (engine/codec/anchors.h).
struct AnchorOptions {
  std::string kind = "factorised";  // "factorised", "none", "static", "full"
  std::optional<int> rank;          // r_a; default: the projection's
  std::string init =
      "normal002";  // of E: "normal002" N(0, 0.02^2), "zero", "token_embedding" (from the model's initial token table)
  std::string tables =
      "per_stage";  // "per_stage": both sides of a stage share E; "per_boundary_side"
};

// Residual vector quantisation (engine/codec/residual_vq.h).
struct ResidualVqOptions {
  bool on = false;
  int groups = 0;               // G, divides r; 0: groups of 4
  int codes = 256;              // K, 2 to 65536
  int rounds = 1;               // R
  bool share_rounds = false;    // all rounds use one codebook
  double sync_fraction = 0;     // share of the codes that each message carries; 0: one code
  std::string sync = "mirror";  // "mirror", "stale"
  bool fixed_order = false;     // the same permutation in every sweep over the codes, not a new one
  double decay = 0.99;          // of the running means
  double threshold = 0.01;      // of a code's running count, below which it begins anew
  std::string backward =
      "none";  // of the gradients: "none", "rvq" (as the latents, with codebooks of their own)
};

struct MaplOptions {
  // "spel", "frozen", "sgd_qr" (down the gradient, back by QR), "free_muon" (the polar direction without a manifold)
  std::string projector = "spel";
  std::string gradient = "full";  // of the projector: "full", "sender_only", "mirror" (both move)
  double lr_mult = 0.1;           // its learning rate over that of the hidden matrices
  std::string ids = "with_activation";  // "with_activation", "local" (every stage reads the data)
  SpelOptions spel;
  AnchorOptions anchors;
  ResidualVqOptions vq;
};

}  // namespace strait
