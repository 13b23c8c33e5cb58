#include <fmt/format.h>

#include <stdexcept>
#include <thread>

#include "engine/parameter_match.h"
#include "sim/cli/engine_bridge.h"

namespace strait::cli {
namespace {

DType to_dtype(scenario::Precision p) {
  return p == scenario::Precision::bf16   ? DType::bf16
         : p == scenario::Precision::fp16 ? DType::f16
                                          : DType::f32;
}

// Preset sizes first, then what the scenario states, then what follows from both.
strait::ModelShape engine_shape(const scenario::Model& m) {
  strait::ModelShape s;
  if (!m.preset.empty()) s = model_preset(m.preset);
  auto set = [](auto& target, const auto& source) {
    if (source) target = static_cast<std::remove_reference_t<decltype(target)>>(*source);
  };
  set(s.layers, m.layers);
  set(s.width, m.width);
  set(s.heads, m.heads);
  set(s.ffn_width, m.ffn_width);
  set(s.context, m.context);
  set(s.vocabulary, m.vocabulary);
  set(s.rope_theta, m.rope_theta);
  set(s.norm_eps, m.norm_eps);
  const bool heads_changed = m.width.has_value() || m.heads.has_value();
  if (m.kv_heads)
    s.kv_heads = *m.kv_heads;
  else if (s.kv_heads == 0 || m.heads)
    s.kv_heads = s.heads;
  if (m.head_width)
    s.head_width = *m.head_width;
  else if ((s.head_width == 0 || heads_changed) && s.heads > 0) {
    if (s.width % s.heads != 0) {
      throw std::invalid_argument(fmt::format(
          "width ({}) is not divisible by heads ({}); state head_width", s.width, s.heads));
    }
    s.head_width = s.width / s.heads;
  }
  return s;
}

void set_subspace(MethodOptions& method, const scenario::SubspaceOptions& o) {
  using Options = scenario::SubspaceOptions;
  method.variant = o.variant == Options::Variant::reparametrised       ? "reparametrised"
                   : o.variant == Options::Variant::projected_gradient ? "projected_gradient"
                                                                       : "projected_weights";
  method.update_every = o.update_every;
  method.update_step = o.update_step;
  method.max_angle = o.max_angle;
  method.transport = o.transport == Options::Transport::project ? "project" : "keep";
  method.basis_seed = o.basis_seed;
  method.embedding_init = o.embedding_init == Options::EmbeddingInit::projected ? "projected"
                          : o.embedding_init == Options::EmbeddingInit::normal  ? "normal"
                                                                                : "small";
  method.z_init = o.z_init == Options::ZInit::zero ? "zero" : "small";
}

void set_bottleneck(MethodOptions& method, const scenario::ResbmOptions& o) {
  using Options = scenario::ResbmOptions;
  method.form = o.form == Options::Form::mlp      ? "mlp"
                : o.form == Options::Form::linear ? "linear"
                                                  : "iota_v1";
  method.hidden = o.hidden;
  method.activation = o.act == Options::Act::silu   ? Activation::silu
                      : o.act == Options::Act::relu ? Activation::relu
                                                    : Activation::gelu;
  method.skip = o.skip == Options::Skip::both      ? "both"
                : o.skip == Options::Skip::encoder ? "encoder"
                : o.skip == Options::Skip::decoder ? "decoder"
                                                   : "none";
  method.bottleneck_init = o.init == Options::Init::normal002  ? "normal002"
                           : o.init == Options::Init::trunc001 ? "trunc001"
                           : o.init == Options::Init::zero_out ? "zero_out"
                                                               : "orth";
  method.encoder_norm = o.enc_norm;
  method.bottleneck_decay = o.weight_decay;
}

void set_baseline(DirectionOptions& d, const scenario::CastOptions& o) { d.format = o.format; }
void set_baseline(DirectionOptions& d, const scenario::QuantizeOptions& o) {
  d.bits = o.bits;
  d.scale = o.scale;
  d.group = o.group;
  d.rounding = o.rounding;
}
void set_baseline(DirectionOptions& d, const scenario::TopkOptions& o) {
  d.rank = o.keep;
  d.ratio = o.ratio;
  d.error_feedback = o.error_feedback;
}
void set_baseline(DirectionOptions& d, const scenario::ColumnMaskOptions& o) {
  d.rank = o.columns;
  d.ratio = o.ratio;
  d.refresh = o.refresh;
  d.anchors = o.anchors;
  d.basis_seed = o.basis_seed;
}
void set_baseline(DirectionOptions& d, const scenario::LowrankOptions& o) {
  d.rank = o.rank;
  d.ratio = o.ratio;
}
// Does nothing where `options` are of no baseline.
void set_direction(DirectionOptions& d, const auto& options) {
  std::visit(
      [&](const auto& o) {
        if constexpr (requires { set_baseline(d, o); }) set_baseline(d, o);
      },
      options);
}

GroupOptions group_options(const scenario::OptimizerGroup& group) {
  GroupOptions options{{}, group.lr, group.weight_decay};
  if (group.optimizer)
    options.rule =
        *group.optimizer == scenario::UpdateRule::muon ? UpdateRule::muon : UpdateRule::adamw;
  return options;
}

PolarCoefficients polar_coefficients(scenario::Muon::Coefficients coefficients) {
  using C = scenario::Muon::Coefficients;
  switch (coefficients) {
    case C::polar_express:
      return PolarCoefficients::polar_express;
    case C::protocol:
      return PolarCoefficients::protocol;
    case C::newton_schulz:
      return PolarCoefficients::newton_schulz;
    case C::muon:
      break;
  }
  return PolarCoefficients::muon;
}

OptimizerOptions optimizer_options(const scenario::Optimizer& o) {
  using Scale = scenario::Muon::Scale;
  OptimizerOptions options;
  options.rule = o.name == scenario::UpdateRule::muon ? UpdateRule::muon : UpdateRule::adamw;
  options.adamw = {o.betas[0], o.betas[1], o.eps, o.weight_decay};
  options.muon = {o.muon.lr,
                  o.muon.momentum,
                  o.muon.nesterov,
                  o.muon.steps,
                  polar_coefficients(o.muon.coefficients),
                  o.muon.scale == Scale::spectral ? MuonScale::spectral
                  : o.muon.scale == Scale::rms    ? MuonScale::rms
                                                  : MuonScale::none,
                  o.muon.weight_decay.value_or(o.weight_decay)};
  for (const auto& [group, own] : {std::pair{ParameterGroup::matrix, o.groups.matrix},
                                   std::pair{ParameterGroup::embedding, o.groups.embedding},
                                   std::pair{ParameterGroup::head, o.groups.head},
                                   std::pair{ParameterGroup::vector, o.groups.vector},
                                   std::pair{ParameterGroup::bottleneck, o.groups.bottleneck},
                                   std::pair{ParameterGroup::anchor, o.groups.anchor}})
    options.of(group) = group_options(own);
  return options;
}

void set_mapl(MethodOptions& method, const scenario::MaplOptions& o) {
  method.basis_seed = o.basis_seed;
  method.mapl = {o.projector,
                 o.gradient,
                 o.lr_mult,
                 o.ids,
                 {o.beta, o.momentum, o.transport, o.retraction},
                 {o.anchors, o.anchor_rank, o.anchor_init, o.anchor_tables},
                 {}};
  if (!o.vq) return;
  const scenario::VqOptions& v = *o.vq;
  method.mapl.vq = {true,           v.groups.value_or(0),
                    v.codes,        v.rounds,
                    v.share_rounds, v.sync_fraction.value_or(0),
                    v.sync,         v.order == "fixed",
                    v.decay,        v.threshold,
                    v.backward};
}

// The value that a scenario calls `name`.
template <class Enum>
Enum of_name(const std::string& name, std::initializer_list<Enum> values) {
  for (const Enum value : values)
    if (name == name_of(value)) return value;
  throw std::logic_error("the scenario's word \"" + name + "\" has no value in the engine");
}

void set_keys_and_values(ContextOptions& o, const scenario::KvNoneOptions& none) {
  o.fold_on_unplug = none.fold_on_unplug;
}
void set_keys_and_values(ContextOptions& o, const scenario::KvQuantizeOptions& quantize) {
  o.baseline.bits = quantize.bits;
  o.baseline.group = quantize.group;
  o.baseline.gradients = quantize.gradients;
}
void set_keys_and_values(ContextOptions& o, const scenario::KvTopkOptions& topk) {
  o.baseline.keep = topk.keep;
  o.baseline.gradients = topk.gradients;
}
void set_keys_and_values(ContextOptions& o, const scenario::MosOptions& mos) {
  MixtureOptions& m = o.mixture;
  m.scope = mos.scope;
  m.rho_k = mos.rho_k;
  m.rho_v = mos.rho_v;
  m.rank_k = mos.rank_k;
  m.rank_v = mos.rank_v;
  m.rank_multiple = mos.rank_multiple;
  m.rotation = mos.rotation;
  m.generator_norm = mos.generator_norm;
  m.theta_clip = mos.theta_clip;
  m.clip = mos.clip;
  m.theta_source = mos.theta_source;
  m.basis_source = mos.basis_source;
  m.calibration_batches = mos.calibration_batches;
  m.basis_opt = mos.basis_opt;
  m.basis_lr_mult = mos.basis_lr_mult;
  m.project_at_start = mos.project_at_start;
  m.local_block = mos.local_block;
  m.projection = mos.projection;
  m.uncompressed_layers = mos.uncompressed_layers;
  m.uncompressed_list = mos.uncompressed_list;
  m.seed = mos.basis_seed;
}

ContextOptions context_options(const scenario::Scenario& s) {
  const scenario::ContextAttention& a = s.parallel.context_attention;
  using A = ContextAlgorithm;
  ContextOptions o;
  o.algorithm = of_name(a.algorithm, {A::ring, A::allgather, A::ulysses, A::hybrid});
  o.layout =
      of_name(a.layout, {TokenLayout::contiguous, TokenLayout::zigzag, TokenLayout::striped});
  o.bwd_schedule = of_name(a.bwd_schedule, {RingBackward::home, RingBackward::reverse});
  o.kv_send = of_name(a.kv_send, {KeyValueSend::all, KeyValueSend::needed});
  o.keep_gathered_kv = a.keep_gathered_kv;
  o.kv_head_group = a.kv_head_group;
  o.ulysses_degree = a.ulysses_degree;
  const scenario::ContextCompression& compression = s.compression.context;
  o.method = std::string(compression.method());
  std::visit([&](const auto& options) { set_keys_and_values(o, options); }, compression.options);
  const DType wire = to_dtype(compression.wire.value_or(s.devices.precision)),
              gradient_wire = to_dtype(compression.gradient_wire);
  o.mixture.wire = o.baseline.wire = wire;
  o.mixture.gradient_wire = o.baseline.gradient_wire = gradient_wire;
  o.baseline.method = o.method == "topk" ? "topk" : "quantize";
  o.wire = {wire, gradient_wire};
  return o;
}

}  // namespace

scenario::ModelShape resolve_shape(const scenario::Model& model) {
  strait::ModelShape s = engine_shape(model);
  strait::ModelShape checked = s;
  if (checked.vocabulary == 0) checked.vocabulary = 1;  // the tokenizer decides later
  validate(checked);
  return {s.layers,    s.width,   s.heads,      s.kv_heads, s.head_width,
          s.ffn_width, s.context, s.rope_theta, s.norm_eps};
}

TrainingConfig to_training(const scenario::Scenario& s, int vocabulary) {
  TrainingConfig c;
  c.shape = engine_shape(s.model);
  if (!s.model.vocabulary && vocabulary > 0) c.shape.vocabulary = vocabulary;
  c.dtype = to_dtype(s.devices.precision);
  c.seed = s.seed;
  c.pipeline = s.parallel.pipeline;
  c.shards = s.parallel.context;
  c.replicas = s.parallel.data;
  c.context = context_options(s);
  const scenario::Synchronisation& copies = s.parallel.synchronisation;
  c.synchronisation = {
      copies.mode == "parameters" ? Synchronisation::parameters : Synchronisation::gradients,
      copies.every,
      copies.scope == "attention" ? SynchronisedPart::attention : SynchronisedPart::all};
  c.document_mask = s.data.document_mask;
  c.layers_per_stage = s.parallel.layers_per_stage;
  c.schedule = s.parallel.schedule == scenario::PipelineSchedule::gpipe ? "gpipe" : "1f1b";
  c.batch = s.training.batch;
  c.microbatches = s.training.microbatches;
  c.steps = s.training.steps;
  const scenario::Optimizer& o = s.training.optimizer;
  c.learning_rate.kind =
      o.schedule == scenario::LearningRateSchedule::cosine   ? LearningRateSchedule::Kind::cosine
      : o.schedule == scenario::LearningRateSchedule::linear ? LearningRateSchedule::Kind::linear
                                                             : LearningRateSchedule::Kind::constant;
  c.learning_rate.peak = o.lr;
  c.learning_rate.warmup_steps = o.warmup_steps;
  c.learning_rate.total_steps = s.training.steps;
  c.learning_rate.final_fraction = o.final_lr_fraction;
  c.optimizer = optimizer_options(o);
  c.clip_norm = o.clip_norm;
  c.clip_scope = o.clip_scope == scenario::ClipScope::stage ? ClipScope::stage : ClipScope::global;
  c.evaluate_every = s.training.evaluate_every;
  c.evaluate_batches = s.training.evaluate_batches;
  c.diagnose_every = s.devices.backend == scenario::Backend::meta ? 0 : s.output.diagnose_every;

  const scenario::PipelineCompression& p = s.compression.pipeline;
  c.method.method = std::string(p.method());
  c.method.wire = to_dtype(p.wire);
  c.method.rank = p.rank();
  c.method.ratio = p.ratio();
  set_direction(c.method, p.options);
  if (p.backward) {
    DirectionOptions& gradients = c.method.backward.emplace();
    gradients.method = std::string(p.backward->method());
    gradients.wire = to_dtype(p.backward->wire);
    set_direction(gradients, p.backward->options);
  }
  if (const auto* subspace = std::get_if<scenario::SubspaceOptions>(&p.options)) {
    set_subspace(c.method, *subspace);
    c.full_rank_layers = subspace->full_rank_layers;
  }
  if (const auto* frozen = std::get_if<scenario::FrozenOptions>(&p.options)) {
    c.method.basis_seed = frozen->basis_seed;
    c.method.anchors =
        frozen->anchors == scenario::FrozenOptions::Anchors::none ? "none" : "static";
  }
  if (const auto* bottleneck = std::get_if<scenario::ResbmOptions>(&p.options))
    set_bottleneck(c.method, *bottleneck);
  if (const auto* mapl = std::get_if<scenario::MaplOptions>(&p.options)) set_mapl(c.method, *mapl);
  validate(c);
  if (s.compression.match == scenario::Match::parameters)
    c.shape.ffn_width = matched_ffn_width(c, s.compression.match_multiple);
  return c;
}

scenario::Scenario uncompressed(scenario::Scenario s) {
  s.compression = {};
  s.compression.pipeline.wire = s.devices.precision;
  s.training.phases.clear();
  return s;
}

bool compresses(const scenario::Scenario& s) {
  const scenario::PipelineCompression& p = s.compression.pipeline;
  return p.method() != "none" || p.backward || s.compression.context.method() != "none";
}

void write_matched_width(scenario::Scenario& s, const TrainingConfig& config) {
  if (s.compression.match == scenario::Match::parameters)
    s.compression.ffn_width = config.shape.ffn_width;
}

BackendKind to_backend(scenario::Backend backend) {
  switch (backend) {
    case scenario::Backend::cpu:
      return BackendKind::cpu;
    case scenario::Backend::meta:
      return BackendKind::meta;
    case scenario::Backend::cuda:
      make_backend(BackendKind::cuda, 1);
      return BackendKind::cuda;
    case scenario::Backend::automatic:
      break;
  }
  std::string reason;
  return make_cuda_backend(&reason) ? BackendKind::cuda : BackendKind::cpu;
}

const char* name_of(BackendKind kind) {
  switch (kind) {
    case BackendKind::cpu:
      return "cpu";
    case BackendKind::cuda:
      return "cuda";
    case BackendKind::meta:
      return "meta";
    case BackendKind::reference:
      return "reference";
  }
  return "?";
}

int host_threads(const scenario::Scenario& s) {
  if (s.devices.host_threads > 0) return s.devices.host_threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace strait::cli
