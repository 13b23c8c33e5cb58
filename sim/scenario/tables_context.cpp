// Tables of "compression.context": what the shards of a sequence send each other, one alternative a method.
#include <limits>

#include "sim/scenario/method_tables.h"

namespace strait::scenario {
namespace {

void add_gradient_wire(Alternative<ContextCompression>& method) {
  method.table.field("gradient_wire", &ContextCompression::gradient_wire,
                     one_of<Precision>({{"fp32", Precision::fp32}, {"bf16", Precision::bf16}}),
                     "Number format of the gradients that are sent; they are summed in fp32.");
}

template <class Options>
void add_gradients(Alternative<ContextCompression>& method, std::string Options::*member) {
  method.table.field("gradients", option(member), one_word({"none", "same"}),
                     "Gradients of keys and values: as they are, or coded the same way.");
}

void add_subspaces(Alternative<ContextCompression>& mos) {
  using O = MosOptions;
  mos.table
      .field("rho_k", option(&O::rho_k), number({0, 1, false, true}),
             "Share of the dimensions of the keys that is given up.")
      .field("rho_v", option(&O::rho_v), number({0, 1, false, true}),
             "Share of the dimensions of the values that is given up.")
      .field("rank_k", option(&O::rank_k), integer(1, 1 << 20), "Dimensions of the keys' subspace.",
             {.absent = "from rho_k"})
      .field("rank_v", option(&O::rank_v), integer(1, 1 << 20),
             "Dimensions of the values' subspace.", {.absent = "from rho_v"})
      .field("rank_multiple", option(&O::rank_multiple), integer(1, 1 << 16),
             "The ranks are multiples of this.")
      .field("scope", option(&O::scope), one_word({"layer", "per_head"}),
             "One subspace for all key heads of a layer, or one for each.")
      .field("basis_source", option(&O::basis_source),
             one_word({"weights", "activations", "random"}),
             "Where the frozen basis comes from when training with the method begins: principal "
             "directions of the projections' weights, or of the keys and values of the first "
             "microbatches, or at random.")
      .field("calibration_batches", option(&O::calibration_batches), integer(1, 1024),
             "With `activations`: microbatches of every rank that are looked at.")
      .field(
          "basis_opt", option(&O::basis_opt), one_word({"frozen", "stiefel"}),
          "`stiefel`: the basis itself is trained on the Stiefel manifold (with rotation `none`).")
      .field("basis_lr_mult", option(&O::basis_lr_mult), number({0, 1e6, true, false}),
             "`stiefel`: its learning rate over that of the hidden matrices.")
      .field("basis_seed", option(&O::basis_seed),
             integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
             "Seed of the generators of rotations, and of random bases and angles.")
      .field("project_at_start", option(&O::project_at_start), boolean(),
             "Whether the projections' weights are projected onto the basis at the beginning.")
      .field("uncompressed_layers", option(&O::uncompressed_layers),
             one_word({"last", "none", "list"}), "Layers whose keys and values travel as they are.")
      .field("uncompressed_list", option(&O::uncompressed_list), list_of(integer(0, 10'000)),
             "With `list`: these.")
      .field(
          "local_block", option(&O::local_block), one_word({"projected", "exact"}),
          "What a rank computes with of its own tokens: what the others see, or its own keys and "
          "values as they are.")
      .field("projection", option(&O::projection), one_word({"direct", "absorbed"}),
             "Coordinates as (X W) U, or as X (W U), which never forms keys and values of full "
             "width: the same but for rounding. Not with `local_block: exact`.");
}

void add_rotations(Alternative<ContextCompression>& mos) {
  using O = MosOptions;
  mos.table
      .field("rotation", option(&O::rotation),
             one_word({"taylor2", "exp", "cayley", "plane", "none", "random"}),
             "How the basis turns with the angle of a piece. `taylor2`: the exponential to second "
             "order. `plane`: in one plane. `none`: not. `random`: by random angles.")
      .field("generator_norm", option(&O::generator_norm), one_word({"frobenius", "spectral"}),
             "Norm in which the generator of the rotations is 1.")
      .field(
          "theta_source", option(&O::theta_source),
          one_word({"prev_piece", "chunk_mean", "constant", "zero", "random"}),
          "What gives a piece its angle: the mean of the piece before it, which is causal; of its "
          "own tokens (the paper: keys and values then know a number of later tokens of their "
          "piece); one trained number a layer; nothing; chance.")
      .field("theta_clip", option(&O::theta_clip), number({0, 3.2, true, false}),
             "Largest angle, radians.")
      .field("clip", option(&O::clip), one_word({"hard", "tanh"}), "How angles are kept below it.");
}

}  // namespace

std::string_view ContextCompression::method() const {
  constexpr std::string_view names[] = {"none", "mos", "quantize", "topk"};  // as the variant
  static_assert(std::size(names) == std::variant_size_v<decltype(options)>);
  return names[options.index()];
}

std::vector<Alternative<ContextCompression>> context_methods() {
  auto none = method_of<ContextCompression, KvNoneOptions>(
      "none", "Method `none`: keys and values as they are, after RoPE, and their gradients.");
  none.table.field(
      "fold_on_unplug", option(&KvNoneOptions::fold_on_unplug), boolean(),
      "Where training goes on from one with `mos`: whether the weights are folded onto "
      "its bases, so that the model computes what it did with angles of 0.");
  auto mos = method_of<ContextCompression, MosOptions>(
      "mos",
      "Method `mos` (mixtures of subspaces): keys and values travel before RoPE as coordinates in "
      "subspaces that turn with one angle a piece, and everybody computes with what they stand "
      "for.");
  auto quantize = method_of<ContextCompression, KvQuantizeOptions>(
      "quantize",
      "Method `quantize` (baseline): keys, before RoPE, and values as whole numbers with scales.");
  quantize.table
      .field("bits", option(&KvQuantizeOptions::bits), eight_or_four(), "Bits of a number.")
      .field("group", option(&KvQuantizeOptions::group), even_group(),
             "Neighbouring numbers that share a scale (bf16).");
  add_gradients(quantize, &KvQuantizeOptions::gradients);
  auto topk = method_of<ContextCompression, KvTopkOptions>(
      "topk",
      "Method `topk` (baseline): of each token's keys, before RoPE, and values the largest, with "
      "their places.");
  topk.table.field("keep", option(&KvTopkOptions::keep), number({0, 1, true, false}),
                   "Share of the numbers that is sent.");
  add_gradients(topk, &KvTopkOptions::gradients);
  for (auto* method : {&none, &mos, &topk}) add_wire(*method);
  for (auto* method : {&none, &mos, &quantize, &topk}) add_gradient_wire(*method);
  add_subspaces(mos);
  add_rotations(mos);
  return {none, mos, quantize, topk};
}

}  // namespace strait::scenario
