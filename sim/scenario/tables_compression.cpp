// Tables of "compression": one alternative per method, with the method's own options. A new codec
// adds its options struct to scenario.h and its alternative here; parsing, "--set", the schema and
// the reference follow.
#include "sim/scenario/method_tables.h"

namespace strait::scenario {
namespace {

Alternative<PipelineCompression> subspace_method() {
  using Embedding = SubspaceOptions::EmbeddingInit;
  using Z = SubspaceOptions::ZInit;
  using Variant = SubspaceOptions::Variant;
  using Transport = SubspaceOptions::Transport;
  auto result = method_table<SubspaceOptions>(
      "subspace",
      "Method `subspace` (Subspace Networks): what blocks add to the residual stream lies in a "
      "subspace, so that each token crosses a boundary as `rank` numbers, and its id on the way "
      "forward. The last stage is full rank, if `full_rank_layers` does not say otherwise.");
  result.table
      .field("ratio", option(&SubspaceOptions::ratio), number({1, 1e6}),
             "Wanted wire ratio over both directions, ids counted; the rank that comes closest is "
             "taken.",
             {.absent = "what rank gives"})
      .field("rank", option(&SubspaceOptions::rank), integer(1, 1 << 20),
             "Dimensions of the subspace; at most the model's width.", {.absent = "from ratio"})
      .field("variant", option(&SubspaceOptions::variant),
             one_of<Variant>({{"reparametrised", Variant::reparametrised},
                              {"projected_gradient", Variant::projected_gradient},
                              {"projected_weights", Variant::projected_weights}}),
             "What is trained of a matrix W that is held to the subspace. `reparametrised`: its "
             "coordinates. `projected_gradient`: W, whose gradient is projected, with one second "
             "moment a row in AdamW. `projected_weights`: W, projected after every step.")
      .field("full_rank_layers", option(&SubspaceOptions::full_rank_layers), integer(0, 10'000),
             "Layers at the end that are not held to the subspace; at most those of the last "
             "stage, because what the others write crosses a boundary.",
             {.absent = "those of the last stage"})
      .field("embedding_init", option(&SubspaceOptions::embedding_init),
             one_of<Embedding>({{"projected", Embedding::projected},
                                {"normal", Embedding::normal},
                                {"small", Embedding::small}}),
             "Trainable part E of the embedding at the start. `projected`: T_fixed U. `normal`: "
             "N(0, 1). `small`: "
             "truncated normal, 0.02.")
      .field("z_init", option(&SubspaceOptions::z_init),
             one_of<Z>({{"zero", Z::zero}, {"small", Z::small}}),
             "Output projections Z at the start. `small`: truncated normal, 0.02 / sqrt(2 (layer + "
             "1)).")
      .field("basis_seed", option(&SubspaceOptions::basis_seed),
             integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
             "Seed of the basis U and of the frozen token table T_fixed.")
      .field("update_every", option(&SubspaceOptions::update_every),
             integer<int64_t>(0, 1'000'000'000),
             "Steps after which the basis moves towards the gradients that the last boundary has "
             "lost since the last time; 0: never.")
      .field("update_step", option(&SubspaceOptions::update_step),
             number({.low = 0, .high = 1, .low_open = true}),
             "How far it moves; 1 is one step of orthogonal iteration.")
      .field("max_angle", option(&SubspaceOptions::max_angle),
             number({.low = 0, .high = 1.5, .low_open = true}),
             "At most by how many radians in any direction.")
      .field("transport", option(&SubspaceOptions::transport),
             one_of<Transport>({{"project", Transport::project}, {"keep", Transport::keep}}),
             "What is held to the basis when it moves: `project` keeps the matrices as near as the "
             "new subspace allows, `keep` keeps their coordinates.")
      .exactly_one({"ratio", "rank"});
  return result;
}

Alternative<PipelineCompression> resbm_method() {
  using O = ResbmOptions;
  auto result = method_of<PipelineCompression, O>(
      "resbm",
      "Method `resbm` (Residual Bottleneck Models): every boundary has a trained encoder and a "
      "trained decoder, each around an identity on the first `rank` coordinates; each token "
      "crosses as `rank` numbers both ways.");
  add_wire(result,
           {{"fp32", Precision::fp32}, {"bf16", Precision::bf16}, {"fp16", Precision::fp16}},
           " `fp16`: gradients are multiplied by a power of two before, so that they do not "
           "vanish.");
  result.table
      .field("ratio", option(&O::ratio), number({1, 1e6}),
             "Wanted wire ratio over both directions; the rank that comes closest is taken.",
             {.absent = "what rank gives"})
      .field("rank", option(&O::rank), integer(1, 1 << 20),
             "Width c of the bottleneck; at most the model's.", {.absent = "from ratio"})
      .field(
          "form", option(&O::form),
          one_of<O::Form>(
              {{"mlp", O::Form::mlp}, {"linear", O::Form::linear}, {"iota_v1", O::Form::iota_v1}}),
          "What encoder and decoder compute beside the identity: two matrices with an "
          "activation between them, or one matrix. `iota_v1`, the predecessor: the encoder "
          "reads, through a SiLU, what the last FFN before a boundary would have added, the "
          "decoder writes, through a ReLU, what the first attention behind it reads.")
      .field("hidden", option(&O::hidden), integer(1, 1 << 20), "Hidden width of the mlp.",
             {.absent = "max(4 rank, 64)"})
      .field(
          "act", option(&O::act),
          one_of<O::Act>({{"silu", O::Act::silu}, {"relu", O::Act::relu}, {"gelu", O::Act::gelu}}),
          "Activation of the mlp.")
      .field("skip", option(&O::skip),
             one_of<O::Skip>({{"both", O::Skip::both},
                              {"encoder", O::Skip::encoder},
                              {"decoder", O::Skip::decoder},
                              {"none", O::Skip::none}}),
             "Which of encoder and decoder have the identity beside them.")
      .field("enc_norm", option(&O::enc_norm), name_of({"none", "rms"}),
             "Whether the encoder's learned part reads the activation or its RMSNorm (not of "
             "iota_v1).")
      .field("init", option(&O::init),
             one_of<O::Init>({{"normal002", O::Init::normal002},
                              {"trunc001", O::Init::trunc001},
                              {"zero_out", O::Init::zero_out},
                              {"orth", O::Init::orth}}),
             "Matrices at the start. `normal002`: N(0, 0.02). `trunc001`: truncated normal, 0.01. "
             "`zero_out` (not of iota_v1): the last of each is 0. `orth` (form linear, skip both, "
             "no norm): the "
             "boundary is "
             "an orthogonal projector.")
      .field("weight_decay", option(&O::weight_decay), boolean(),
             "Whether the optimizer's weight decay applies to encoders and decoders.")
      .exactly_one({"ratio", "rank"});
  return result;
}

Alternative<PipelineCompression> frozen_method() {
  using O = FrozenOptions;
  auto result = method_table<O>(
      "frozen",
      "Method `frozen`: at each boundary an orthogonal projection onto a random subspace that "
      "never changes; the model itself is not constrained. The baseline of the learned methods.");
  result.table
      .field("ratio", option(&O::ratio), number({1, 1e6}),
             "Wanted wire ratio over both directions, ids counted; the rank that comes closest is "
             "taken.",
             {.absent = "what rank gives"})
      .field("rank", option(&O::rank), integer(1, 1 << 20),
             "Dimensions of the subspaces; at most the model's width.", {.absent = "from ratio"})
      .field("anchors", option(&O::anchors),
             one_of<O::Anchors>({{"none", O::Anchors::none}, {"static", O::Anchors::fixed}}),
             "`static`: a frozen random token table is taken off before and put back after, and "
             "token ids travel forward. This is method `subspace` at the boundaries alone, with a "
             "basis for each and without a constraint on the model.")
      .field("basis_seed", option(&O::basis_seed),
             integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
             "Seed of the bases and of the token table.")
      .exactly_one({"ratio", "rank"});
  return result;
}

}  // namespace

std::string_view PipelineCompression::method() const {
  constexpr std::string_view names[] = {"none",        "subspace", "resbm",    "frozen",
                                        "mapl",        "cast",     "quantize", "topk",
                                        "column_mask", "lowrank"};  // as the variant
  static_assert(std::size(names) == std::variant_size_v<decltype(options)>);
  return names[options.index()];
}

std::optional<int> PipelineCompression::rank() const {
  return std::visit(
      [](const auto& o) -> std::optional<int> {
        if constexpr (requires { o.rank; }) return o.rank;
        return std::nullopt;
      },
      options);
}

std::optional<double> PipelineCompression::ratio() const {
  return std::visit(
      [](const auto& o) -> std::optional<double> {
        if constexpr (requires { o.ratio; }) return o.ratio;
        return std::nullopt;
      },
      options);
}

Object<Compression> compression_table() {
  Object<Compression> table("compression", "How messages between ranks are made smaller.");
  std::vector<Alternative<PipelineCompression>> methods =
      baseline_methods();  // none, the default, first
  methods.insert(methods.begin() + 1,
                 {subspace_method(), resbm_method(), frozen_method(), mapl_method()});
  table
      .field("pipeline", &Compression::pipeline,
             tagged("method", "The codec at the pipeline's boundaries.", methods),
             "The codec at the pipeline's boundaries; each method has its own options.")
      .field("context", &Compression::context,
             tagged("method", "What the shards of a sequence send each other.", context_methods()),
             "Keys and values that travel between the shards of a sequence, and their gradients.",
             {.absent = "method `none`"})
      .present_if([](const Compression& c) {
        const auto* none = std::get_if<KvNoneOptions>(&c.context.options);
        return none == nullptr || !none->fold_on_unplug || c.context.wire ||
               c.context.gradient_wire != Precision::fp32;
      })
      .field("match", &Compression::match,
             one_of<Match>({{"none", Match::none}, {"parameters", Match::parameters}}),
             "`parameters`: the FFN gets the width at which the model has as nearly as possible as "
             "many trainable parameters as the uncompressed model with `model.ffn_width`.",
             {.absent = "\"none\""})
      .present_if([](const Compression& c) { return c.match != Match::none; })
      .field("match_multiple", &Compression::match_multiple, integer(1, 1 << 16),
             "With `match`: the FFN width is a multiple of this.", {.absent = "1"})
      .present_if([](const Compression& c) { return c.match != Match::none; })
      .field("ffn_width", &Compression::ffn_width, integer(1, 1 << 24),
             "The width that `match` found: written into resolved scenarios, found again and not "
             "read.",
             {.absent = "found by match"});
  return table;
}

}  // namespace strait::scenario
