// Rules that tie fields of a scenario together. A rule is skipped where one of the values it reads
// has a problem of its own; rules on sizes that only the engine knows are checked by
// resolve_model().
#include <cstdlib>
#include <numeric>
#include <set>
#include <stdexcept>

#include "sim/network/path.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {
namespace {

Path to_path(const std::string& pointer) {
  Path path;
  for (size_t i = 0; i < pointer.size();) {
    const size_t next = std::min(pointer.find('/', i + 1), pointer.size());
    path.push_back(pointer.substr(i + 1, next - i - 1));
    i = next;
  }
  return path;
}

class Rules {
 public:
  explicit Rules(Reader& reader) : reader_(reader) {}

  bool sound(const std::string& pointer) const { return !reader_.troubled(pointer); }

  // `pointer` is where the problem is shown; `others` are further values that the rule reads.
  void require(bool holds, const std::string& pointer, const std::vector<std::string>& others,
               std::string found, std::string allowed, std::string nearest = "") {
    if (holds || !sound(pointer)) return;
    for (const std::string& other : others)
      if (!sound(other)) return;
    reader_.report_at(to_path(pointer), std::move(found), std::move(allowed), std::move(nearest));
  }

 private:
  Reader& reader_;
};

void check_model(const Model& model, Rules& rules) {
  if (model.preset.empty()) {
    std::vector<std::string> missing;
    if (!model.layers) missing.push_back("layers");
    if (!model.width) missing.push_back("width");
    if (!model.heads) missing.push_back("heads");
    rules.require(missing.empty(), "/model", {},
                  fmt::format("neither \"preset\" nor {}", word_list(missing)),
                  "a preset, or at least layers, width and heads");
  }
  const int heads = model.heads.value_or(0);
  if (heads > 0 && model.kv_heads)
    rules.require(heads % *model.kv_heads == 0, "/model/kv_heads", {"/model/heads"},
                  fmt::format("{} for {} heads", *model.kv_heads, heads), "a divisor of heads");
  if (heads > 0 && model.width && !model.head_width && model.preset.empty())
    rules.require(*model.width % heads == 0, "/model/heads", {"/model/width", "/model/head_width"},
                  fmt::format("{} heads for width {}", heads, *model.width),
                  "a divisor of width, or a head_width");
  if (model.head_width)
    rules.require(*model.head_width % 2 == 0, "/model/head_width", {},
                  fmt::format("{}", *model.head_width),
                  "an even number: rotary embedding turns halves against each other");
}

void check_data(const Scenario& scenario, Rules& rules) {
  const Data& data = scenario.data;
  const auto& names = corpus_names();
  const auto known = [&](const std::string& entry) {
    return std::find(names.begin(), names.end(), entry) != names.end();
  };
  rules.require(!data.corpus.empty() || scenario.devices.backend == Backend::meta, "",
                {"/data", "/devices/backend"}, "no key \"data\"",
                "\"data\": {\"corpus\": ...}; only the meta backend needs none");
  for (size_t i = 0; i < data.corpus.size(); ++i) {
    const std::string& entry = data.corpus[i];
    const bool alone = data.corpus.size() == 1;
    const std::string pointer = alone ? "/data/corpus" : fmt::format("/data/corpus/{}", i);
    const bool path = entry.find_first_of("/.") != std::string::npos;
    rules.require(path || (alone && known(entry)), pointer, {},
                  fmt::format("the text {}, neither a corpus nor a path", in_quotes(entry)),
                  fmt::format("{}, or a path (for a file of this name: \"./{}\"){}",
                              word_list(names), entry, alone ? "" : "; a corpus name stands alone"),
                  known(entry) ? "" : nearest_name(entry, names));
  }
  const bool shards = data.format == DataFormat::llmc || data.format == DataFormat::nanogpt;
  const bool named = data.corpus.size() == 1 && known(data.corpus[0]);
  rules.require(
      scenario.training.evaluate_every == 0 || data.validation_fraction > 0 || shards || !named,
      "/training/evaluate_every", {"/data"},
      fmt::format("evaluation every {} steps, but data.validation_fraction is 0",
                  scenario.training.evaluate_every),
      "0, or a validation_fraction above 0");
}

void check_training(const Training& training, Rules& rules) {
  rules.require(
      training.optimizer.warmup_steps <= training.steps, "/training/optimizer/warmup_steps",
      {"/training/steps"},
      fmt::format("{} warm-up steps of {} steps", training.optimizer.warmup_steps, training.steps),
      "at most training.steps");
}

// Products may be larger than an int.
void check_grid(const Scenario& scenario, Rules& rules) {
  const Parallel& parallel = scenario.parallel;
  const int64_t copies = int64_t{parallel.context} * parallel.data;
  constexpr int64_t most_ranks = 4096;  // docs/record_format.md
  rules.require(copies <= most_ranks && copies * parallel.pipeline <= most_ranks, "/parallel", {},
                fmt::format("a grid of {} x {} x {} ranks", parallel.pipeline, parallel.context,
                            parallel.data),
                fmt::format("at most {} ranks", most_ranks));
  rules.require(
      scenario.training.batch % (int64_t{parallel.data} * scenario.training.microbatches) == 0,
      "/training/batch", {"/training/microbatches", "/parallel/data"},
      fmt::format("batch {} for {}{} microbatches", scenario.training.batch,
                  parallel.data > 1 ? fmt::format("{} replicas of ", parallel.data) : "",
                  scenario.training.microbatches),
      parallel.data > 1 ? "a batch that parallel.data x training.microbatches divides"
                        : "a batch that training.microbatches divides");
  if (scenario.model.context)
    rules.require(parallel.context <= *scenario.model.context, "/parallel/context",
                  {"/model/context"},
                  fmt::format("{} shards of {} tokens", parallel.context, *scenario.model.context),
                  "at most model.context");
  rules.require(copies > 1 || parallel.synchronisation.mode != "parameters",
                "/parallel/synchronisation/mode", {"/parallel"},
                "the text \"parameters\" for one copy of each stage",
                "\"gradients\", or parallel.context or parallel.data above 1");
  rules.require(
      copies == 1 || scenario.network.topology != sim::Topology::chain, "/network/topology",
      {"/parallel"}, fmt::format("the text \"chain\" for {} copies of each stage", copies),
      "\"mesh\" or \"access\": a chain joins the stages of one copy; network.topology=mesh");
  constexpr int64_t most_in_a_mesh = 1024;  // a million links
  rules.require(scenario.network.topology != sim::Topology::mesh ||
                    copies * parallel.pipeline <= most_in_a_mesh,
                "/network/topology", {"/parallel"},
                fmt::format("a mesh of {} ranks", parallel.ranks()),
                fmt::format("at most {} ranks, or \"access\"", most_in_a_mesh));
}

void check_parallel(const Scenario& scenario, Rules& rules) {
  const Parallel& parallel = scenario.parallel;
  check_grid(scenario, rules);
  if (scenario.model.layers)
    rules.require(parallel.pipeline <= *scenario.model.layers, "/parallel/pipeline",
                  {"/model/layers"},
                  fmt::format("{} stages for {} layers", parallel.pipeline, *scenario.model.layers),
                  "at most one stage per layer");
  const auto& split = parallel.layers_per_stage;
  if (split.empty()) return;
  rules.require(split.size() == static_cast<size_t>(parallel.pipeline),
                "/parallel/layers_per_stage", {"/parallel/pipeline"},
                fmt::format("{} entries for {} stages", split.size(), parallel.pipeline),
                "one entry per stage");
  const int64_t sum = std::accumulate(split.begin(), split.end(), int64_t{0});
  if (scenario.model.layers)
    rules.require(sum == *scenario.model.layers, "/parallel/layers_per_stage", {"/model/layers"},
                  fmt::format("{} layers in all for a model of {}", sum, *scenario.model.layers),
                  "entries that add up to the model's layers");
}

// The FFN keeps its width on the way, so its method must stay, too.
void check_match(const Scenario& scenario, Rules& rules) {
  if (scenario.compression.match == Match::none) {
    rules.require(!scenario.compression.ffn_width, "/compression/ffn_width", {"/compression/match"},
                  "a width beside \"match\": \"none\"",
                  "\"match\": \"parameters\"; the model's own width is model.ffn_width");
    return;
  }
  for (const Phase& phase : scenario.training.phases)
    for (const auto& [path, value] : phase.set.items())
      rules.require(!path.starts_with("compression.pipeline"), "/compression/match",
                    {"/training/phases"},
                    fmt::format("\"parameters\", but a phase sets \"{}\"", path),
                    "\"none\", or phases that leave the method alone: the FFN keeps its width");
}

void check_compression(const Scenario& scenario, Rules& rules) {
  check_match(scenario, rules);
  for (const CodecSize& size : codec_sizes(scenario.compression.pipeline))
    if (scenario.model.width)
      rules.require(size.value <= *scenario.model.width, size.pointer, {"/model/width"},
                    fmt::format("{} {} for width {}", size.key, size.value, *scenario.model.width),
                    "at most the model's width");
  const auto* resbm = std::get_if<ResbmOptions>(&scenario.compression.pipeline.options);
  if (resbm == nullptr) return;
  rules.require(resbm->init != ResbmOptions::Init::orth ||
                    (resbm->form == ResbmOptions::Form::linear &&
                     resbm->skip == ResbmOptions::Skip::both && resbm->enc_norm == "none"),
                "/compression/pipeline/init",
                {"/compression/pipeline/form", "/compression/pipeline/skip",
                 "/compression/pipeline/enc_norm"},
                "\"orth\" with another form or skip, or with a norm",
                "form \"linear\" with skip \"both\" and enc_norm \"none\"");
  rules.require(
      resbm->form != ResbmOptions::Form::iota_v1 ||
          (resbm->init != ResbmOptions::Init::zero_out && resbm->enc_norm == "none"),
      "/compression/pipeline/form",
      {"/compression/pipeline/init", "/compression/pipeline/enc_norm"},
      "\"iota_v1\" with a norm or with an init of zeros, which its ReLU would never leave",
      "init \"normal002\" or \"trunc001\" with enc_norm \"none\"");
}

void check_override(const sim::NetworkConfig& network, size_t index, int ranks, Rules& rules) {
  const sim::LinkOverride& o = network.overrides[index];
  const std::string here = fmt::format("/network/overrides/{}", index);
  const std::vector<std::string> grid = {"/parallel", "/network/topology"};
  for (const auto& [key, rank] : {std::pair{"from", o.from}, std::pair{"to", o.to}})
    if (rank)
      rules.require(*rank < ranks, fmt::format("{}/{}", here, key), grid,
                    fmt::format("rank {}", *rank), fmt::format("a rank from 0 to {}", ranks - 1));
  if (!o.from || !o.to) return;
  rules.require(*o.from != *o.to, here, grid, fmt::format("a link from rank {} to itself", *o.from),
                "two ranks that differ");
  rules.require(network.topology != sim::Topology::access, here, grid,
                "both \"from\" and \"to\" with topology access",
                "\"from\" alone (a rank's uplink) or \"to\" alone (its downlink)");
  rules.require(network.topology != sim::Topology::chain || std::abs(*o.from - *o.to) <= 1, here,
                grid, fmt::format("the link {} to {}", *o.from, *o.to),
                "neighbours: a chain has no other links");
}

void check_loss(const sim::NetworkConfig& network, Rules& rules) {
  using sim::CongestionControl;
  const CongestionControl control = network.transport.congestion_control;
  if (control != CongestionControl::bbr && control != CongestionControl::lossless) return;
  const bool bbr = control == CongestionControl::bbr;
  const std::string allowed =
      bbr ? "0: bbr stalls after losses in the packet model; or cubic or reno"
          : "0: lossless loses nothing; or cubic or reno";
  const std::string pointer = "/network/transport/congestion_control";
  const auto found = [&](double loss) {
    return fmt::format("loss {} with congestion control {}", loss, bbr ? "bbr" : "lossless");
  };
  rules.require(network.links.loss == 0, "/network/links/loss", {pointer},
                found(network.links.loss), allowed);
  for (size_t i = 0; i < network.overrides.size(); ++i) {
    const double loss = network.overrides[i].loss.value_or(0);
    rules.require(loss == 0, fmt::format("/network/overrides/{}/loss", i), {pointer}, found(loss),
                  allowed);
  }
}

std::string without_prefix(std::string text, std::string_view prefix) {
  return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
}

void check_network(const Scenario& scenario, Rules& rules) {
  const sim::NetworkConfig& network = scenario.network;
  const int ranks = scenario.parallel.ranks();
  const bool ideal = network.model == sim::NetworkModel::ideal;
  const std::string only_ideal =
      "the default, or \"model\": \"ideal\", the only one that has this choice";
  rules.require(ideal || !network.ideal.serialised_latency, "/network/latency_mode",
                {"/network/model"}, "the text \"serialised\"", only_ideal);
  rules.require(ideal || !network.ideal.shared_inbound, "/network/receiver", {"/network/model"},
                "the text \"shared_inbound\"", only_ideal);
  const int64_t half_latency = network.links.latency.count / 2;
  rules.require(network.links.jitter.count <= half_latency, "/network/links/jitter",
                {"/network/links/latency"},
                fmt::format("jitter {} for latency {}", format(network.links.jitter),
                            format(network.links.latency)),
                "at most half the latency, else delays would be cut at zero");
  for (size_t i = 0; i < network.overrides.size(); ++i) check_override(network, i, ranks, rules);
  check_loss(network, rules);
  constexpr int most_ranks_listed =
      64;  // beyond, a mesh has too many links to list here; the network checks at its start
  if (!rules.sound("/network") || ranks > most_ranks_listed || network.overrides.size() > 1000)
    return;
  try {
    static_cast<void>(sim::LinkMap(network, ranks));
  } catch (const std::invalid_argument& error) {
    rules.require(false, "/network", {}, without_prefix(error.what(), "network: "),
                  "a network that the models can play");
  }
}

void check_devices(const Scenario& scenario, Rules& rules) {
  const Devices& devices = scenario.devices;
  rules.require(devices.backend != Backend::meta || !devices.timing.measured, "/devices/timing",
                {"/devices/backend"}, "\"measured\" on the meta backend, which computes nothing",
                "{\"device\": name}");
  rules.require(devices.timing.link_free_step != Nanoseconds{0}, "/devices/timing/link_free_step",
                {}, "0 s", "a duration above 0");
  std::set<int> seen;
  for (size_t i = 0; i < devices.ranks.size(); ++i) {
    const RankDevice& rank = devices.ranks[i];
    const std::string here = fmt::format("/devices/ranks/{}", i);
    const int ranks = scenario.parallel.ranks();
    rules.require(rank.rank < ranks, here + "/rank", {"/parallel"},
                  fmt::format("rank {}", rank.rank), fmt::format("a rank from 0 to {}", ranks - 1));
    rules.require(seen.insert(rank.rank).second, here + "/rank", {},
                  fmt::format("rank {} a second time", rank.rank), "one entry per rank");
    rules.require(!rank.device || !devices.timing.measured, here + "/device", {"/devices/timing"},
                  "a card, but timing is \"measured\"", "slowdown alone, or a card as timing");
  }
}

}  // namespace

void check_rules(const Scenario& scenario, Reader& reader) {
  Rules rules(reader);
  check_model(scenario.model, rules);
  check_data(scenario, rules);
  check_training(scenario.training, rules);
  check_parallel(scenario, rules);
  check_compression(scenario, rules);
  check_network(scenario, rules);
  check_devices(scenario, rules);
  const auto& steps = scenario.output.timeline_steps;
  rules.require(steps[0] <= steps[1], "/output/timeline_steps", {},
                fmt::format("[{}, {}]", steps[0], steps[1]), "the first step, then the last");
}

}  // namespace strait::scenario
