// A scenario as plain data: everything one run needs, with every default in place (design, section
// 5.2). Filled from JSON by parse_scenario(); ranges, defaults and texts of the fields live in
// tables_*.cpp. Knows no tensor and no engine type: names, enums, numbers and optionals only.
#pragma once

#include <algorithm>
#include <array>
#include <climits>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sim/device/device.h"
#include "sim/network/config.h"
#include "sim/scenario/problem.h"

namespace strait::scenario {

using Json = nlohmann::ordered_json;

// A preset's name, explicit sizes, or a preset with some sizes replaced. What is unset is the
// preset's, or derived by the engine (kv_heads = heads, head_width = width / heads ...): the
// scenario does not know the shapes behind the names.
struct Model {
  std::string preset;  // one of model_preset_names(), "" if none
  std::optional<int> layers, width, heads, kv_heads, head_width, ffn_width;
  std::optional<int> context;  // tokens per sequence
  std::optional<double> rope_theta, norm_eps;
  std::optional<int> vocabulary;  // unset: the tokenizer decides
};

// byte: one token a byte. sentencepiece: the model file `path`, or, where `path` is empty, a model
// of `vocabulary` pieces and type `trained`, trained on the corpus. bpe: the SentencePiece model
// file `path`, of type BPE.
struct Tokenizer {
  enum class Kind { byte, sentencepiece, bpe };
  enum class Trained { bpe, unigram };
  Kind kind = Kind::byte;
  std::string path;
  int vocabulary = 0;
  Trained trained = Trained::bpe;
};

// text: UTF-8 files. llmc, nanogpt: token shards as these projects write them.
enum class DataFormat { automatic, text, llmc, nanogpt };

struct Data {
  // A name of corpus_names() alone, or paths. Empty only on the meta backend.
  std::vector<std::string> corpus;
  Tokenizer tokenizer;
  double validation_fraction = 0.05;
  DataFormat format = DataFormat::automatic;
  bool document_mask = false;
};

enum class LearningRateSchedule { cosine, linear, constant };
enum class ClipScope { global, stage };

enum class UpdateRule { adamw, muon };

struct Muon {
  enum class Coefficients { muon, polar_express, protocol, newton_schulz };
  enum class Scale { spectral, rms, none };
  double lr = 0.02;  // the peak
  double momentum = 0.95;
  bool nesterov = true;
  int steps = 5;
  Coefficients coefficients = Coefficients::muon;
  Scale scale = Scale::spectral;
  std::optional<double> weight_decay;  // absent: the optimizer's
  bool operator==(const Muon&) const = default;
};

// What a group of parameters has instead of what the optimizer gives it.
struct OptimizerGroup {
  std::optional<UpdateRule> optimizer;
  std::optional<double> lr, weight_decay;
  bool operator==(const OptimizerGroup&) const = default;
};

struct OptimizerGroups {
  OptimizerGroup matrix, embedding, head, vector, bottleneck, anchor;
  bool operator==(const OptimizerGroups&) const = default;
};

struct Optimizer {
  UpdateRule name = UpdateRule::adamw;
  Muon muon;
  OptimizerGroups groups;
  double lr = 1e-3;  // the peak
  std::array<double, 2> betas = {0.9, 0.95};
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  // 0: off
  ClipScope clip_scope = ClipScope::global;
  LearningRateSchedule schedule = LearningRateSchedule::cosine;
  int64_t warmup_steps = 0;
  double final_lr_fraction = 0.1;  // of lr, at the last step; cosine and linear
};

// From step `at` on, the training goes by other values: paths of phase_paths() and what they are from then on.
struct Phase {
  int64_t at = 0;  // 2 or more
  Json set;        // an object: dotted path, value
};

struct Training {
  int64_t steps = 0;     // required, >= 1
  int batch = 8;         // sequences per optimizer step
  int microbatches = 4;  // divides batch
  Optimizer optimizer;
  int64_t evaluate_every = 0;  // steps; 0: never
  int evaluate_batches = 8;
  std::vector<double> targets;   // losses whose virtual time is reported
  int64_t checkpoint_every = 0;  // steps; 0: only where a run is interrupted
  int keep_checkpoints = 2;      // the newest; 0: all
  std::string init_from;         // a checkpoint or a run directory, "" for initial parameters
  std::vector<Phase> phases;     // in the order of their steps
};

enum class PipelineSchedule { gpipe, one_f_one_b };

// How attention works on the shards of a sequence; the words of ContextOptions (engine/context/context_attention.h).
struct ContextAttention {
  std::string algorithm = "ring", layout = "zigzag", bwd_schedule = "home", kv_send = "all";
  bool keep_gathered_kv = false;
  int kv_head_group = 0;   // 0: all
  int ulysses_degree = 0;  // 0: none
};

// How ranks that hold the same parameters stay together; the words of CopySynchronisation (engine/training.h).
struct Synchronisation {
  std::string mode = "gradients", scope = "all";
  int64_t every = 200;  // steps; mode parameters
};

struct Parallel {
  int pipeline = 1;
  int context = 1;  // shards of a sequence
  int data = 1;     // replicas
  ContextAttention context_attention;
  Synchronisation synchronisation;
  PipelineSchedule schedule = PipelineSchedule::one_f_one_b;
  std::vector<int> layers_per_stage;  // empty: as even as possible

  // At most INT_MAX, also of a grid that is refused.
  int ranks() const {
    const int64_t ranks = int64_t{pipeline} * std::min<int64_t>(int64_t{context} * data, INT_MAX);
    return static_cast<int>(std::min<int64_t>(ranks, INT_MAX));
  }
};

enum class Precision { fp32, bf16, fp16 };  // fp16: on the wire of resbm alone

struct NoneOptions {};

// Subspace Networks, variant C. Exactly one of `ratio` and `rank` is set.
struct SubspaceOptions {
  enum class EmbeddingInit { projected, normal, small };
  enum class ZInit { zero, small };
  std::optional<double> ratio;  // the wire ratio that the rank is to come closest to
  std::optional<int> rank;
  enum class Variant { reparametrised, projected_gradient, projected_weights };
  enum class Transport { project, keep };
  Variant variant = Variant::reparametrised;
  EmbeddingInit embedding_init = EmbeddingInit::projected;
  ZInit z_init = ZInit::small;
  uint64_t basis_seed = 1337;           // of U and T_fixed
  std::optional<int> full_rank_layers;  // unset: those of the last stage
  int64_t update_every = 0;             // steps between two moves of U; 0: never
  double update_step = 0.1;             // (0, 1]
  double max_angle = 0.05;              // radians
  Transport transport = Transport::project;
};

// A frozen random projection at each boundary. Exactly one of `ratio` and `rank` is set.
struct FrozenOptions {
  enum class Anchors { none, fixed };
  std::optional<double> ratio;
  std::optional<int> rank;
  Anchors anchors = Anchors::none;
  uint64_t basis_seed = 1337;
};

// Residual Bottleneck Models. Exactly one of `ratio` and `rank` is set.
struct ResbmOptions {
  enum class Form { mlp, linear, iota_v1 };
  enum class Act { silu, relu, gelu };
  enum class Skip { both, encoder, decoder, none };
  enum class Init { normal002, trunc001, zero_out, orth };
  std::optional<double> ratio;
  std::optional<int> rank;  // width c of the bottleneck
  Form form = Form::mlp;
  std::optional<int> hidden;  // m of the mlp; unset: max(4 c, 64)
  Act act = Act::silu;
  Skip skip = Skip::both;
  std::string enc_norm = "none";  // or "rms"
  Init init = Init::normal002;
  bool weight_decay = true;  // of encoders and decoders
};

// The baselines: codecs of any tensor. Words are those of tables_baselines.cpp; of `ratio` and a size exactly one is set.
struct CastOptions {
  std::string format = "bf16";
};
struct QuantizeOptions {
  int bits = 8;
  std::string scale = "token";
  int group = 128;  // unused where scale is "token"
  std::string rounding = "nearest";
};
struct TopkOptions {
  std::optional<double> ratio;
  std::optional<int> keep;  // entries a token
  std::string error_feedback = "none";
};
struct ColumnMaskOptions {
  std::optional<double> ratio;
  std::optional<int> columns;
  int64_t refresh = 0;  // steps; 0: every message
  std::string anchors = "none";
  uint64_t basis_seed = 1337;  // of the token table
};
struct LowrankOptions {
  std::optional<double> ratio;
  std::optional<int> rank;
};

// Gradients, where they are not coded like the activations.
struct BackwardCompression {
  Precision wire = Precision::fp32;  // default: that of the activations
  std::variant<NoneOptions, CastOptions, QuantizeOptions, TopkOptions, ColumnMaskOptions,
               LowrankOptions>
      options;

  std::string_view method() const;
};

// Residual vector quantisation of mapl's latents.
struct VqOptions {
  std::optional<int> groups;
  int codes = 256, rounds = 1;
  bool share_rounds = false;
  std::optional<double> sync_fraction;
  std::string sync = "mirror", order = "redrawn";
  double decay = 0.99, threshold = 0.01;
  std::string backward = "none";
};

// Manifold Aware Projection Learning; the words are those of tables_mapl.cpp. Exactly one of `ratio` and `rank` is set.
struct MaplOptions {
  std::optional<double> ratio;
  std::optional<int> rank;
  std::string projector = "spel", gradient = "full";
  double lr_mult = 0.1, beta = 0.95;
  std::string momentum = "tangent_accumulate";
  bool transport = false;
  std::string retraction = "ns_quintic";
  std::string anchors = "factorised";
  std::optional<int> anchor_rank;
  std::string anchor_init = "normal002", anchor_tables = "per_stage", ids = "with_activation";
  uint64_t basis_seed = 1337;
  std::optional<VqOptions> vq;
};

// What crosses the pipeline boundaries. A method is one alternative of `options`, with one table
// in tables_compression.cpp.
struct PipelineCompression {
  Precision wire = Precision::fp32;  // default: devices.precision
  std::variant<NoneOptions, SubspaceOptions, ResbmOptions, FrozenOptions, MaplOptions, CastOptions,
               QuantizeOptions, TopkOptions, ColumnMaskOptions, LowrankOptions>
      options;
  std::optional<BackwardCompression> backward;  // methods none and the baselines only

  std::string_view method() const;  // "none", "subspace", ...
  // As the scenario states them, where the method has them.
  std::optional<int> rank() const;
  std::optional<double> ratio() const;
};

// Mixtures of subspaces; the words of MixtureOptions (engine/context/mixture_options.h).
struct MosOptions {
  std::string scope = "layer";
  double rho_k = 0.98, rho_v = 0.95;
  std::optional<int> rank_k, rank_v;
  int rank_multiple = 1;
  std::string rotation = "taylor2", generator_norm = "frobenius";
  double theta_clip = 0.5;
  std::string clip = "hard", theta_source = "prev_piece";
  std::string basis_source = "weights", basis_opt = "frozen";
  double basis_lr_mult = 1;
  bool project_at_start = false;
  int calibration_batches = 1;
  std::string local_block = "projected", projection = "direct", uncompressed_layers = "last";
  std::vector<int> uncompressed_list;
  uint64_t basis_seed = 1337;
};

// Baselines of keys and values (engine/context/key_value_baselines.h).
struct KvQuantizeOptions {
  int bits = 8;
  int group = 128;
  std::string gradients = "none";
};
struct KvTopkOptions {
  double keep = 0.1;
  std::string gradients = "none";
};
struct KvNoneOptions {
  bool fold_on_unplug = true;
};

// What the shards of a sequence send each other.
struct ContextCompression {
  std::optional<Precision> wire;              // unset: devices.precision
  Precision gradient_wire = Precision::fp32;  // of gradients of keys and values
  std::variant<KvNoneOptions, MosOptions, KvQuantizeOptions, KvTopkOptions> options;

  std::string_view method() const;
};

// none: the model has the FFN width that it states. parameters: the width at which it has as many trainable parameters as
// the uncompressed model of that width.
enum class Match { none, parameters };

// A size that may be at most the model's width, as the scenario states it: its key and where it stands.
struct CodecSize {
  std::string pointer, key;
  int value = 0;
};
std::vector<CodecSize> codec_sizes(const PipelineCompression& pipeline);

struct Compression {
  PipelineCompression pipeline;
  ContextCompression context;
  Match match = Match::none;
  int match_multiple = 1;        // of which the width is a multiple
  std::optional<int> ffn_width;  // what `match` found, in a resolved scenario; never read
};

enum class Backend { automatic, cpu, cuda, meta };

// A card of sim/device/cards.cpp by its name, or a machine that `strait calibrate` measured.
struct DeviceModel {
  std::string name = "A10G";  // unused where `calibrated`
  std::optional<sim::Card> calibrated;
  bool operator==(const DeviceModel&) const = default;
};

// Where the seconds of a compute come from: this machine's clock, or a model of a machine.
struct Timing {
  bool measured = false;
  DeviceModel device;                // unused when measured
  std::optional<double> efficiency;  // share of the card's peak, (0, 1]; unset: the card's own
  // What a step takes where links take no time; the card's times are scaled to it.
  std::optional<Nanoseconds> link_free_step;
};

// One rank that differs from the others.
struct RankDevice {
  int rank = 0;
  std::optional<DeviceModel> device;  // unset: the one of Timing
  double slowdown = 1.0;              // 2: every compute takes twice as long
};

struct Devices {
  Backend backend = Backend::automatic;
  Precision precision = Precision::fp32;
  Timing timing;
  std::vector<RankDevice> ranks;
  int host_threads = 0;  // 0: as many as the machine has
};

enum class MessageLog { none, first_steps, all };

struct Output {
  MessageLog messages = MessageLog::first_steps;
  std::array<int64_t, 2> timeline_steps = {1, 2};  // first and last in timeline.json, from 1
  int64_t diagnose_every = 0;                      // steps; 0: never
  std::vector<std::string> compare_networks;       // network presets of the closing table
};

struct Scenario {
  Scenario();  // out of line: inlined, it makes GCC 12 warn of members that it takes for uninitialised
  std::string name;
  uint64_t seed = 0;
  Model model;
  Data data;
  Training training;
  Parallel parallel;
  Compression compression;
  sim::NetworkConfig network;
  Devices devices;
  Output output;
};

// Either a scenario and no problem, or every problem that was found, ordered by line.
struct Result {
  std::optional<Scenario> scenario;
  std::vector<Problem> problems;

  bool ok() const { return scenario.has_value(); }
  std::string text() const;  // the problems, one a line
};

// Reads a scenario: JSON (RFC 8259, UTF-8) with // and /* */ comments. `file` names the text in
// problems and, without its directory and extension, is the default of "name". `overrides` are
// assignments as apply_overrides() takes them. Never throws on any input; nesting beyond 32 levels
// and texts beyond 1 MiB are problems.
Result parse_scenario(std::string_view text, const std::string& file,
                      std::span<const std::string> overrides = {});

// The same from a file; one that cannot be read is a problem.
Result load_scenario(const std::string& path, std::span<const std::string> overrides = {});

// Applies "path.to.key=value" assignments to a scenario document in order. A value is JSON where it
// parses as JSON and text otherwise; null removes the key. List elements are addressed by index
// ("devices.ranks.0.slowdown=2"). Some assignments replace more than their key, so that what is
// asked for is what is run: network.preset drops the document's network.links and
// network.transport; model.preset drops its explicit sizes (all of "model" but context and
// vocabulary); a compression method drops the options that the new method does not have; rank and
// ratio replace each other. Presets and methods are applied first, whatever their place in the
// list. Returns the problems; the document is changed only where there are none.
std::vector<Problem> apply_overrides(Json& document, std::span<const std::string> assignments);

// The resolved scenario: every default written out, quantities in canonical text. Parses back to
// the same scenario.
Json to_json(const Scenario& scenario);

// JSON Schema (draft 2020-12) of a scenario file, and the field reference (docs/scenario.md), both
// from the tables.
Json schema();
std::string reference_markdown();

// SHA-256 (hex) of the canonical JSON of everything that determines the record: all fields but
// those that the reference marks as replayable. Take it after resolve_model(), and after "auto"
// backends have been replaced by what runs.
std::string record_hash(const Scenario& scenario);

// "packet", "fluid", "ideal".
const char* model_name(sim::NetworkModel model);
const std::vector<std::string>& model_preset_names();
const std::vector<std::string>& corpus_names();

// What the engine makes of a Model: all sizes known.
struct ModelShape {
  int layers = 0, width = 0, heads = 0, kv_heads = 0, head_width = 0, ffn_width = 0, context = 0;
  double rope_theta = 0, norm_eps = 0;
};

// Throws std::invalid_argument, whose text becomes a problem of /model, for sizes that make no
// model.
using ModelResolver = std::function<ModelShape(const Model&)>;

// The scenario as it is from the first `count` phases on, without "phases": what each sets stays set until another phase sets it
// anew. Problems point into "/training/phases".
Result phase_scenario(const Scenario& scenario, size_t count);
// What a phase may set: these paths and what lies below them.
const std::vector<std::string>& phase_paths();

// Asks the engine for the shape, writes every size of it into scenario.model, and checks what
// depends on it (layers against stages, rank against width). `vocabulary` stays as it is. On
// problems the scenario is unchanged.
std::vector<Problem> resolve_model(Scenario& scenario, const ModelResolver& resolver,
                                   const std::string& file = "");

}  // namespace strait::scenario
