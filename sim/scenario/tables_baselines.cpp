// Tables of the baselines: codecs of any tensor, for both directions of a boundary ("compression.pipeline") or for gradients alone
// ("compression.pipeline.backward").
#include "sim/scenario/method_tables.h"

namespace strait::scenario {
namespace {

template <class Owner, class Options>
void add_size(Alternative<Owner>& a, const std::string& key, std::optional<int> Options::*member,
              const std::string& help) {
  a.table
      .field("ratio", option(&Options::ratio), number({1, 1e6}),
             "Wanted wire ratio, everything that is sent counted, over the directions that the "
             "method codes; the " +
                 key + " that comes closest is taken.",
             {.absent = "what " + key + " gives"})
      .field(key, option(member), integer(1, 1 << 20), help, {.absent = "from ratio"})
      .exactly_one({"ratio", key});
}

template <class Owner>
std::vector<Alternative<Owner>> methods_of() {
  auto none = method_of<Owner, NoneOptions>(
      "none", "Method `none`: activations and gradients as they are.");
  add_wire(none);

  auto cast = method_of<Owner, CastOptions>(
      "cast", "Method `cast` (baseline): every number in another format.");
  cast.table.field("format", option(&CastOptions::format), name_of({"bf16", "fp16", "fp8_e4m3"}),
                   "Number format of what is sent. `fp16`: gradients are multiplied by a power of "
                   "two before, so that they do not vanish. `fp8_e4m3`: with a scale a token.");

  auto quantize = method_of<Owner, QuantizeOptions>(
      "quantize", "Method `quantize` (baseline): whole numbers with scales.");
  quantize.table.field("bits", option(&QuantizeOptions::bits), eight_or_four(), "Bits of a number.")
      .field("scale", option(&QuantizeOptions::scale), name_of({"token", "group"}),
             "What shares a scale (bf16): a token, or `group` neighbouring numbers of one.")
      .field("group", option(&QuantizeOptions::group), even_group(),
             "Numbers that share a scale where scale is `group`.")
      .field("rounding", option(&QuantizeOptions::rounding), name_of({"nearest", "stochastic"}),
             "`stochastic`: up or down at random, so that the mean is right.");

  auto topk = method_of<Owner, TopkOptions>(
      "topk", "Method `topk` (baseline): the largest entries of each token, with their columns.");
  add_wire(topk);
  add_size(topk, "keep", &TopkOptions::keep, "Entries a token; at most the model's width.");
  topk.table.field(
      "error_feedback", option(&TopkOptions::error_feedback), name_of({"none", "per_microbatch"}),
      "`per_microbatch`: what a microbatch lost is added to the same microbatch of the "
      "next step. Costs memory of a step's activations a boundary.");

  auto mask = method_of<Owner, ColumnMaskOptions>(
      "column_mask",
      "Method `column_mask` (baseline): the columns of largest energy; gradients in the columns of "
      "their activations, where both are coded so.");
  add_wire(mask);
  add_size(mask, "columns", &ColumnMaskOptions::columns,
           "Columns that are sent; at most the model's width.");
  mask.table.field("refresh", option(&ColumnMaskOptions::refresh),
                   integer<int64_t>(0, 1'000'000'000),
                   "Steps from one choice of the columns to the next; 0: every message.");
  if constexpr (std::is_same_v<Owner, PipelineCompression>)
    mask.table
        .field("anchors", option(&ColumnMaskOptions::anchors), name_of({"none", "static"}),
               "`static`: a frozen random token table is taken off before and put back after, and "
               "token ids travel forward.")
        .field("basis_seed", option(&ColumnMaskOptions::basis_seed),
               integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
               "Seed of the token table.");

  auto lowrank = method_of<Owner, LowrankOptions>(
      "lowrank",
      "Method `lowrank` (baseline): each message as a product of two factors, found by a step of "
      "subspace iteration from the message before.");
  add_wire(lowrank);
  add_size(lowrank, "rank", &LowrankOptions::rank,
           "Rank of the product; at most the model's width.");
  return {none, cast, quantize, topk, mask, lowrank};
}

}  // namespace

Kind<int> eight_or_four() {
  Kind<int> kind = integer(4, 8, "8 or 4");
  kind.info.schema = {{"enum", {8, 4}}};
  kind.read = [read = kind.read](const Json& json, int& value, Reader& reader) {
    int bits = 0;
    if (!read(json, bits, reader)) return false;
    if (bits != 4 && bits != 8) return reader.wrong_type(json, "8 or 4");
    value = bits;
    return true;
  };
  return kind;
}

Kind<int> even_group() {
  Kind<int> kind = integer(2, 1 << 20, "an even number from 2 to 1048576");
  kind.info.schema["multipleOf"] = 2;
  kind.read = [read = kind.read, form = kind.info.form](const Json& json, int& value,
                                                        Reader& reader) {
    int group = 0;
    if (!read(json, group, reader)) return false;
    if (group % 2 != 0) return reader.wrong_type(json, form);
    value = group;
    return true;
  };
  return kind;
}

std::string_view BackwardCompression::method() const {
  constexpr std::string_view names[] = {"none", "cast",        "quantize",
                                        "topk", "column_mask", "lowrank"};  // as the variant
  static_assert(std::size(names) == std::variant_size_v<decltype(options)>);
  return names[options.index()];
}

std::vector<CodecSize> codec_sizes(const PipelineCompression& pipeline) {
  std::vector<CodecSize> sizes;
  const auto add = [&](const std::string& place, const auto& options) {
    const auto one = [&](const char* key, const std::optional<int>& value) {
      if (value) sizes.push_back({place + "/" + key, key, *value});
    };
    std::visit(
        [&](const auto& o) {
          if constexpr (requires { o.rank; }) one("rank", o.rank);
          if constexpr (requires { o.keep; }) one("keep", o.keep);
          if constexpr (requires { o.columns; }) one("columns", o.columns);
        },
        options);
  };
  add("/compression/pipeline", pipeline.options);
  if (pipeline.backward) add("/compression/pipeline/backward", pipeline.backward->options);
  return sizes;
}

std::vector<Alternative<PipelineCompression>> baseline_methods() {
  auto methods = methods_of<PipelineCompression>();
  const auto backward =
      tagged("method", "The codec of the gradients.", methods_of<BackwardCompression>());
  for (auto& method : methods)
    method.table.field("backward", &PipelineCompression::backward, backward,
                       "The codec of the gradients; `ratio` then counts one direction.",
                       {.absent = "as the activations"});
  return methods;
}

}  // namespace strait::scenario
