// Tables of "model", "data", "training" and "parallel".
#include "sim/scenario/method_tables.h"

namespace strait::scenario {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr int64_t most_steps = 1'000'000'000;
constexpr size_t most_phases = 100;  // each is checked with all before it
constexpr int most_ranks = 4096;

// "byte", {"sentencepiece": path or {"vocabulary": n}}, {"bpe": path}.
Kind<Tokenizer> tokenizer_kind() {
  const auto itself = [](auto& tokenizer) -> auto& { return tokenizer; };
  const auto becomes = [](Tokenizer::Kind kind) {
    return [kind](Tokenizer& tokenizer) { tokenizer.kind = kind; };
  };
  const auto is = [](Tokenizer::Kind kind) {
    return [kind](const Tokenizer& tokenizer) { return tokenizer.kind == kind; };
  };
  Object<Tokenizer> trained("data.tokenizer.sentencepiece",
                            "A SentencePiece model trained on the corpus.");
  trained
      .field("vocabulary", &Tokenizer::vocabulary, integer(320, 1'000'000), "Pieces of the model.",
             {.required = true})
      .field("type", &Tokenizer::trained,
             one_of<Tokenizer::Trained>(
                 {{"bpe", Tokenizer::Trained::bpe}, {"unigram", Tokenizer::Trained::unigram}}),
             "What kind of model is trained.");
  const auto from_file =
      through<Tokenizer>(&Tokenizer::path, text("the path of a SentencePiece model"),
                         becomes(Tokenizer::Kind::sentencepiece));
  const auto sentencepiece = plain_or_object<Tokenizer>(
      from_file, trained.kind(),
      [](const Tokenizer& tokenizer) { return !tokenizer.path.empty(); });
  Object<Tokenizer> named("data.tokenizer", "A subword tokenizer.");
  named
      .field(
          "sentencepiece", itself, sentencepiece,
          "A SentencePiece model: the path of its file, or the size of one to train on the corpus.",
          {.absent = "not used"})
      .then(becomes(Tokenizer::Kind::sentencepiece))
      .present_if(is(Tokenizer::Kind::sentencepiece))
      .field("bpe", itself,
             through<Tokenizer>(&Tokenizer::path, text("the path of a BPE model file"),
                                becomes(Tokenizer::Kind::bpe)),
             "A SentencePiece model of type BPE: the path of its file.", {.absent = "not used"})
      .present_if(is(Tokenizer::Kind::bpe))
      .exactly_one({"sentencepiece", "bpe"});
  return plain_or_object<Tokenizer>(word<Tokenizer>("byte", becomes(Tokenizer::Kind::byte)),
                                    named.kind(), is(Tokenizer::Kind::byte));
}

const std::vector<Choice<UpdateRule>> update_rules = {{"adamw", UpdateRule::adamw},
                                                      {"muon", UpdateRule::muon}};

Object<Muon> muon_table() {
  using C = Muon::Coefficients;
  using S = Muon::Scale;
  Object<Muon> table("training.optimizer.muon",
                     "Muon: momentum, made orthogonal by a few iterations of a quintic "
                     "(docs/optimizers.md).");
  table
      .field("lr", &Muon::lr, number({0, 1000, true, false}),
             "The peak learning rate; same schedule.")
      .field("momentum", &Muon::momentum, number({0, 1, false, true}), "Decay of the momentum.")
      .field("nesterov", &Muon::nesterov, boolean(), "Whether the step looks one gradient ahead.")
      .field("steps", &Muon::steps, integer(1, 100), "Iterations of the quintic.")
      .field("coefficients", &Muon::coefficients,
             one_of<C>({{"muon", C::muon},
                        {"polar_express", C::polar_express},
                        {"protocol", C::protocol},
                        {"newton_schulz", C::newton_schulz}}),
             "The quintic. `muon`: (3.4445, -4.775, 2.0315). `polar_express`: the best of each "
             "iteration. `protocol`: (2, -1.5, 0.5). `newton_schulz`: (1.875, -1.25, 0.375).")
      .field("scale", &Muon::scale,
             one_of<S>({{"spectral", S::spectral}, {"rms", S::rms}, {"none", S::none}}),
             "Factor of a step of a matrix with `out` rows and `in` columns. `spectral`: "
             "sqrt(max(1, out / in)). `rms`: 0.2 sqrt(max(out, in)). `none`: 1.")
      .field("weight_decay", &Muon::weight_decay, number({0, 1000}),
             "Decoupled decay, multiplied by the learning rate.",
             {.absent = "the optimizer's weight_decay"});
  return table;
}

Kind<OptimizerGroup> group_kind(const std::string& name, bool of_matrices) {
  Object<OptimizerGroup> table("training.optimizer.groups." + name,
                               "What holds for this group instead.");
  table
      .field("optimizer", &OptimizerGroup::optimizer,
             one_of<UpdateRule>(of_matrices ? update_rules
                                            : std::vector<Choice<UpdateRule>>{update_rules[0]}),
             "The update rule.",
             {.absent = "the optimizer's rule in matrix and bottleneck, adamw in the others"})
      .field("lr", &OptimizerGroup::lr, number({0, 1000, true, false}),
             "The peak learning rate; same schedule.", {.absent = "that of the update rule"})
      .field("weight_decay", &OptimizerGroup::weight_decay, number({0, 1000}),
             "Decoupled decay of the whole group.",
             {.absent = "that of the update rule, 0 for vectors"});
  return table.kind();
}

Object<OptimizerGroups> groups_table() {
  Object<OptimizerGroups> table("training.optimizer.groups",
                                "Groups of parameters with settings of their own.");
  const auto group = [&](const char* name, OptimizerGroup OptimizerGroups::*member,
                         bool of_matrices, const char* help) {
    table.field(name, member, group_kind(name, of_matrices), help)
        .present_if([member](const OptimizerGroups& groups) {
          return !(groups.*member == OptimizerGroup{});
        });
  };
  group("matrix", &OptimizerGroups::matrix, true, "Matrices of attention and FFN.");
  group("embedding", &OptimizerGroups::embedding, true,
        "The token table, or what is trained of it.");
  group("head", &OptimizerGroups::head, true, "The output matrix.");
  group("vector", &OptimizerGroups::vector, false, "Gains of the norms.");
  group("bottleneck", &OptimizerGroups::bottleneck, true,
        "Encoders and decoders at the boundaries (`resbm`).");
  group("anchor", &OptimizerGroups::anchor, true, "Token tables at the boundaries.");
  return table;
}

bool uses_muon(const Optimizer& o) {
  const OptimizerGroups& g = o.groups;
  bool uses = o.name == UpdateRule::muon;
  for (const OptimizerGroup* group : {&g.matrix, &g.embedding, &g.head, &g.bottleneck, &g.anchor})
    uses = uses || group->optimizer == UpdateRule::muon;
  return uses;
}

Object<Optimizer> optimizer_table() {
  const auto beta = number({0, 1, false, true});
  Object<Optimizer> table("training.optimizer",
                          "The update rules and the learning rate over the run.");
  table
      .field("name", &Optimizer::name, one_of<UpdateRule>(update_rules),
             "The update rule. `muon`: Muon for hidden matrices and bottlenecks, AdamW for all "
             "else.")
      .field("muon", &Optimizer::muon, muon_table().kind(), "Options of Muon.")
      .present_if([](const Optimizer& o) { return uses_muon(o) || !(o.muon == Muon{}); })
      .field("groups", &Optimizer::groups, groups_table().kind(),
             "Groups of parameters with settings of their own.")
      .present_if([](const Optimizer& o) { return !(o.groups == OptimizerGroups{}); })
      .field("lr", &Optimizer::lr, number({0, 1000, true, false}),
             "AdamW's peak learning rate, after warm-up.")
      .field("betas", &Optimizer::betas, pair_of(beta), "Decay of the first and second moment.")
      .field("eps", &Optimizer::eps, number({0, 1, true, false}),
             "Added to the root of the second moment.")
      .field("weight_decay", &Optimizer::weight_decay, number({0, 1000}),
             "Decoupled decay, multiplied by the learning rate.")
      .field("clip_norm", &Optimizer::clip_norm, number({0, infinity}),
             "Largest gradient norm; larger gradients are scaled down to it. 0: off.")
      .field("clip_scope", &Optimizer::clip_scope,
             one_of<ClipScope>({{"global", ClipScope::global}, {"stage", ClipScope::stage}}),
             "`global`: the norm of all stages, which costs a scalar all-reduce of real messages. "
             "`stage`: each stage clips by its own norm.")
      .field("schedule", &Optimizer::schedule,
             one_of<LearningRateSchedule>({{"cosine", LearningRateSchedule::cosine},
                                           {"linear", LearningRateSchedule::linear},
                                           {"constant", LearningRateSchedule::constant}}),
             "How the learning rate falls after warm-up.")
      .field("warmup_steps", &Optimizer::warmup_steps, integer<int64_t>(0, most_steps),
             "Steps over which the learning rate rises linearly; at most `training.steps`.")
      .field("final_lr_fraction", &Optimizer::final_lr_fraction, number({0, 1}),
             "Share of `lr` that is left at the last step (`cosine` and `linear`).");
  return table;
}

}  // namespace

const std::vector<std::string>& model_preset_names() {
  static const std::vector<std::string> names = {
      "llama-1m",   "llama-7m", "llama-20m", "llama-150m", "llama-500m",
      "llama-800m", "llama-1b", "llama-2b",  "llama-3b",   "llama-8b"};
  return names;
}

const std::vector<std::string>& corpus_names() {
  static const std::vector<std::string> names = {"austen", "prose", "english", "code"};
  return names;
}

Object<Model> model_table() {
  const Note presets{.absent = "the preset's"};
  Object<Model> table("model",
                      "A LLaMA-style decoder: a preset, or at least `layers`, `width` and `heads`. "
                      "Sizes given beside a "
                      "preset replace the preset's.");
  table
      .field("preset", &Model::preset, name_of(model_preset_names()),
             "A named shape (docs/models.md).", {.absent = "none"})
      .present_if([](const Model& model) { return !model.preset.empty(); })
      .field("layers", &Model::layers, integer(1, 10'000), "Decoder blocks.", presets)
      .field("width", &Model::width, integer(1, 1 << 20), "Width of the residual stream.", presets)
      .field("heads", &Model::heads, integer(1, 1 << 16), "Query heads.", presets)
      .field("kv_heads", &Model::kv_heads, integer(1, 1 << 16),
             "Key and value heads; divides `heads`.", {.absent = "the preset's, else heads"})
      .field("head_width", &Model::head_width, integer(2, 1 << 16), "Width of one head; even.",
             {.absent = "the preset's, else width / heads"})
      .field("ffn_width", &Model::ffn_width, integer(1, 1 << 22), "Hidden width of the SwiGLU.",
             {.absent = "the preset's, else the engine's rule"})
      .field("context", &Model::context, integer(1, 1 << 24), "Tokens of a training sequence.",
             presets)
      .field("rope_theta", &Model::rope_theta, number({1, 1e12, true, false}),
             "Base of the rotary embedding.", presets)
      .field("norm_eps", &Model::norm_eps, number({0, 1, true, false}),
             "Added to the mean square in RMSNorm.", presets)
      .field("vocabulary", &Model::vocabulary, integer(2, 1 << 24),
             "Rows of the embedding and the head.", {.absent = "the tokenizer's"})
      .conditions(
          {{"anyOf", {{{"required", {"preset"}}}, {{"required", {"layers", "width", "heads"}}}}}});
  return table;
}

Object<Data> data_table() {
  Object<Data> table(
      "data", "What is read, and how it becomes tokens. May be left out on the `meta` backend.");
  table
      .field("corpus", &Data::corpus, one_or_list(text("a corpus name or a path")),
             fmt::format("A named corpus ({}), fetched on first use; or the path of a file or "
                         "folder, or a list of paths.",
                         fmt::join(corpus_names(), ", ")),
             {.required = true})
      .present_if([](const Data& data) { return !data.corpus.empty(); })
      .field("tokenizer", &Data::tokenizer, tokenizer_kind(),
             "How text becomes tokens; not used for token shards.")
      .field("validation_fraction", &Data::validation_fraction, number({0, 1, false, true}),
             "Share of the corpus that is held out for evaluation.")
      .field("format", &Data::format,
             one_of<DataFormat>({{"auto", DataFormat::automatic},
                                 {"text", DataFormat::text},
                                 {"llmc", DataFormat::llmc},
                                 {"nanogpt", DataFormat::nanogpt}}),
             "What the files hold: text, or token shards of llm.c or nanoGPT. `auto`: by name and "
             "header.")
      .field("document_mask", &Data::document_mask, boolean(),
             "Tokens of different documents that lie in one sample do not meet in attention.")
      .present_if([](const Data& data) { return data.document_mask; });
  return table;
}

namespace {

// {"path.to.key": value, ...} with the paths of phase_paths(); the values are checked where they are applied.
Kind<Json> phase_values() {
  const auto& paths = phase_paths();
  KindInfo info;
  info.form = fmt::format("an object of values for {} and what lies below them", word_list(paths));
  std::string pattern;  // of the paths, whose dots stand for themselves
  for (const std::string& path : paths) {
    pattern += pattern.empty() ? "^(" : "|";
    for (const char c : path) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  }
  info.schema = {{"type", "object"},
                 {"minProperties", 1},
                 {"propertyNames", {{"pattern", pattern + ")(\\.|$)"}}}};
  return {info,
          [form = info.form, &paths](const Json& json, Json& value, Reader& reader) {
            if (!json.is_object() || json.empty()) return reader.wrong_type(json, form);
            bool good = true;
            for (const auto& [key, unused] : json.items()) {
              const bool known =
                  std::any_of(paths.begin(), paths.end(), [&key = key](const auto& path) {
                    return key == path || key.starts_with(path + ".");
                  });
              if (known) continue;
              const Reader::Scope scope(reader, key);
              reader.report("the path " + in_quotes(key),
                            word_list(paths) + ", or a path below them", nearest_name(key, paths));
              good = false;
            }
            value = json;
            return good;
          },
          [](const Json& value, WriteScope) { return value; }};
}

Object<Phase> phase_table() {
  Object<Phase> table("training.phases[]", "A change on the way.");
  table
      .field("at", &Phase::at, integer<int64_t>(2, most_steps), "The first step that it holds for.",
             {.required = true})
      .field("set", &Phase::set, phase_values(), "What changes, as `--set` would write it.",
             {.required = true});
  return table;
}

}  // namespace

Object<Training> training_table() {
  Object<Training> table("training", "How long, in which portions, with which update rule.");
  table
      .field("steps", &Training::steps, integer<int64_t>(1, most_steps), "Optimizer steps.",
             {.required = true})
      .field("batch", &Training::batch, integer(1, 1 << 24),
             "Sequences of one optimizer step, over all replicas.")
      .field("microbatches", &Training::microbatches, integer(1, 1 << 20),
             "Portions in which a batch passes the pipeline; divides `batch`.")
      .field("optimizer", &Training::optimizer, optimizer_table().kind(), "The update rule.")
      .field("evaluate_every", &Training::evaluate_every, integer<int64_t>(0, most_steps),
             "Steps between evaluations on held-out text, which cost no virtual time; also before "
             "the first and after the last step. 0: never. The `meta` backend evaluates nothing.")
      .field("evaluate_batches", &Training::evaluate_batches, integer(1, 1 << 20),
             "Batches of one evaluation, each of `batch / microbatches` sequences.")
      .field("targets", &Training::targets, list_of(number({0, infinity, true, false})),
             "Losses for which the summary says when, in virtual time, they were reached.",
             {.replayable = true})
      .field("checkpoint_every", &Training::checkpoint_every, integer<int64_t>(0, most_steps),
             "Steps between checkpoints, from which `run --resume` goes on; also after the last "
             "step. 0: only where a run is interrupted.",
             {.replayable = true})
      .field("keep_checkpoints", &Training::keep_checkpoints, integer(0, 1'000'000),
             "How many of the newest checkpoints stay. 0: all.", {.replayable = true})
      .field("init_from", &Training::init_from, text("a path"),
             "A checkpoint, or a run directory whose newest counts: its parameters are where the "
             "training starts, by name, converted if it had another method; the optimizer starts "
             "afresh.",
             {.absent = "initial parameters from `seed`"})
      .present_if([](const Training& training) { return !training.init_from.empty(); })
      .field("phases", &Training::phases, list_of(phase_table().kind(), 0, most_phases),
             "Changes on the way. A phase's values stay until another phase changes them; "
             "parameters and moments go over by name, converted where the method changes.")
      .present_if([](const Training& training) { return !training.phases.empty(); });
  return table;
}

namespace {

Object<ContextAttention> context_attention_table() {
  using C = ContextAttention;
  Object<C> table("parallel.context_attention",
                  "How attention works where `parallel.context` is more than 1 (docs/context.md).");
  table
      .field("algorithm", &C::algorithm, one_word({"ring", "allgather", "ulysses", "hybrid"}),
             "`ring`: keys and values go from rank to rank. `allgather`: from every rank to all "
             "others at once. `ulysses`: ranks exchange heads for tokens. `hybrid`: `ulysses` in "
             "groups of neighbouring ranks, a ring over the groups.")
      .field("layout", &C::layout, one_word({"contiguous", "zigzag", "striped"}),
             "Which tokens a rank has. `contiguous`: one run. `zigzag`: an early and a late one, "
             "which is the same work for all. `striped`: every n-th.")
      .field(
          "bwd_schedule", &C::bwd_schedule, one_word({"home", "reverse"}),
          "Of a ring: gradients start at home, or blocks go back the way they came, which is one "
          "hop less.")
      .field("kv_send", &C::kv_send, one_word({"all", "needed"}),
             "`needed`: what no query of the receiver may see is not sent.")
      .field("keep_gathered_kv", &C::keep_gathered_kv, boolean(),
             "`allgather`: what came is kept for the backward instead of sent again.")
      .field("kv_head_group", &C::kv_head_group, integer(0, 1 << 20),
             "`allgather`: so many key heads at a time; 0: all.")
      .field("ulysses_degree", &C::ulysses_degree, integer(0, most_ranks),
             "`hybrid`: ranks that exchange heads; divides parallel.context.");
  return table;
}

Object<Synchronisation> synchronisation_table() {
  using S = Synchronisation;
  Object<S> table("parallel.synchronisation",
                  "How ranks that hold the same parameters, shards and replicas, stay together.");
  table
      .field(
          "mode", &S::mode, one_word({"gradients", "parameters"}),
          "`gradients`: they are summed before every step. `parameters`: each takes steps of its "
          "own, and parameters are averaged now and then.")
      .field("every", &S::every, integer<int64_t>(1, 1'000'000'000),
             "Mode `parameters`: steps between two averages.")
      .field("scope", &S::scope, one_word({"all", "attention"}),
             "Mode `parameters`: what is averaged, everything or the matrices of attention.");
  return table;
}

}  // namespace

Object<Parallel> parallel_table() {
  Object<Parallel> table("parallel", "How the model is spread over ranks.");
  table
      .field("pipeline", &Parallel::pipeline, integer(1, most_ranks),
             "Pipeline stages; at most the model's layers.")
      .field("context", &Parallel::context, integer(1, most_ranks),
             "Shards of a sequence (context parallelism): each rank has its share of the tokens, "
             "and keys and values travel.")
      .field("data", &Parallel::data, integer(1, most_ranks),
             "Replicas (data parallelism): each has its share of the batch; gradients are summed "
             "over all ranks that hold "
             "the same parameters, in a ring.")
      .field("context_attention", &Parallel::context_attention, context_attention_table().kind(),
             "How attention works on shards.", {.absent = "its defaults"})
      .present_if([](const Parallel& p) { return p.context > 1; })
      .field("synchronisation", &Parallel::synchronisation, synchronisation_table().kind(),
             "How ranks that hold the same parameters stay together.",
             {.absent = "gradients are summed"})
      .present_if([](const Parallel& p) { return p.synchronisation.mode != "gradients"; })
      .field("schedule", &Parallel::schedule,
             one_of<PipelineSchedule>(
                 {{"gpipe", PipelineSchedule::gpipe}, {"1f1b", PipelineSchedule::one_f_one_b}}),
             "Order of the microbatches' forward and backward passes on a stage.")
      .field("layers_per_stage", &Parallel::layers_per_stage, list_of(integer(1, 10'000)),
             "Layers of each stage, first to last. Empty: as even as possible.");
  return table;
}

}  // namespace strait::scenario
