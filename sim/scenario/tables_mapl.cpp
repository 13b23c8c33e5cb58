// The table of method `mapl` (specs/mapl.md, section 8).
#include <limits>

#include "sim/scenario/method_tables.h"

namespace strait::scenario {
namespace {

Object<VqOptions> vq_table() {
  using O = VqOptions;
  Object<O> table(
      "compression.pipeline.vq",
      "Latents as indices into codebooks that follow them (residual vector quantisation).");
  table
      .field("groups", &O::groups, integer(1, 1 << 20),
             "Groups into which a latent is divided; divides `rank`.", {.absent = "rank / 4"})
      .field("codes", &O::codes, integer(2, 65536), "Codes of a group.")
      .field("rounds", &O::rounds, integer(1, 64), "Rounds, each on what the one before has left.")
      .field("share_rounds", &O::share_rounds, boolean(), "Whether all rounds use one codebook.")
      .field("sync_fraction", &O::sync_fraction, number({0, 1, true, false}),
             "Share of the codes that every message brings up to date.", {.absent = "one code"})
      .field(
          "sync", &O::sync, one_word({"mirror", "stale"}),
          "`mirror`: the sender encodes with what it has sent. `stale`: with what it has learned, "
          "which the receiver's codes lag behind.")
      .field("order", &O::order, one_word({"redrawn", "fixed"}),
             "Whether every sweep over the codes has a new random order.")
      .field("decay", &O::decay, number({0, 1, false, true}), "Of the codes' running means.")
      .field("threshold", &O::threshold, number({0, 1, true, false}),
             "Running count of a code, tokens of a message counted as they come, below which it "
             "begins anew as a latent of the batch.")
      .field("backward", &O::backward, one_word({"none", "rvq"}),
             "Gradients: as they are, or with codebooks of their own.");
  return table;
}

}  // namespace

Alternative<PipelineCompression> mapl_method() {
  using O = MaplOptions;
  auto result = method_table<O>("mapl",
                                "Method `mapl` (Manifold Aware Projection Learning): at each "
                                "boundary a projection onto `rank` "
                                "dimensions that is learned on the Stiefel manifold, between token "
                                "anchors of the stages; the "
                                "model itself is not constrained.");
  result.table
      .field(
          "ratio", option(&O::ratio), number({1, 1e6}),
          "Wanted wire ratio over both directions, ids and synchronisation counted; the rank that "
          "comes closest is taken. Not with `vq`.",
          {.absent = "what rank gives"})
      .field("rank", option(&O::rank), integer(1, 1 << 20),
             "Dimensions of the projection; at most the model's width.", {.absent = "from ratio"})
      .field("projector", option(&O::projector),
             one_word({"spel", "frozen", "sgd_qr", "free_muon"}),
             "`spel`: steepest descent in the spectral norm on the manifold. `frozen`: stays as it "
             "is. `sgd_qr`: down the gradient and back by QR. `free_muon`: the direction of `spel` "
             "without a manifold.")
      .field(
          "gradient", option(&O::gradient), one_word({"full", "sender_only", "mirror"}),
          "Of the projector. `full`: the receiver sends its half, the sender the moved projector. "
          "`sender_only`: without the receiver's half. `mirror`: both ends send their halves and "
          "move.")
      .field("lr_mult", option(&O::lr_mult), number({0, 1000}),
             "Learning rate of the projector over that of the hidden matrices.")
      .field("beta", option(&O::beta), number({0, 1, false, true}), "Momentum of the projector.")
      .field(
          "momentum", option(&O::momentum),
          one_word({"tangent_accumulate", "euclid_then_project", "euclid_plain"}),
          "What accumulates: the gradient's tangent part; the gradient, projected when used; the "
          "gradient.")
      .field("transport", option(&O::transport), boolean(),
             "Whether the momentum is projected onto the tangent space at the new point.")
      .field("retraction", option(&O::retraction), one_word({"ns_quintic", "polar_express", "qr"}),
             "Way back onto the manifold: two steps of the Taylor quintic, eight of Polar Express, "
             "or Cholesky QR.")
      .field(
          "anchors", option(&O::anchors), one_word({"factorised", "none", "static", "full"}),
          "Token tables that a stage takes off before and puts back after: trained in a subspace, "
          "none, frozen and random, or trained whole.")
      .field("anchor_rank", option(&O::anchor_rank), integer(1, 1 << 20),
             "Columns of a factorised table.", {.absent = "rank"})
      .field("anchor_init", option(&O::anchor_init),
             one_word({"normal002", "zero", "token_embedding"}),
             "Tables at the start: N(0, 0.02), zeros, or the model's initial embedding.")
      .field("anchor_tables", option(&O::anchor_tables),
             one_word({"per_stage", "per_boundary_side"}),
             "Whether the two sides of a stage share a table.")
      .field("ids", option(&O::ids), one_word({"with_activation", "local"}),
             "Whether token ids travel with the activations or every stage reads the data.")
      .field("basis_seed", option(&O::basis_seed),
             integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
             "Seed of the initial projectors and of what is frozen of the anchors.")
      .field("vq", option(&O::vq), vq_table().kind(), "Vector quantisation of the latents.",
             {.absent = "none"})
      .exactly_one({"ratio", "rank"});
  return result;
}

}  // namespace strait::scenario
