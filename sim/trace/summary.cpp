// Builds summary.json (sim/trace/summary.h).
#include "sim/trace/summary.h"

#include <cmath>

#include "strait_version.h"

namespace strait::sim {
namespace {

using Json = nlohmann::ordered_json;

// JSON has no NaN and no infinity.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

// Dividing by 1e9 rounds correctly, so the printed figure has at most nine decimals.
double seconds(Nanoseconds time) { return static_cast<double>(time.count) / 1e9; }

Json ratio(double numerator, double denominator) {
  return denominator > 0 && numerator > 0 ? Json(numerator / denominator) : Json(nullptr);
}

Json traffic_json(const Traffic& traffic) {
  return {{"messages", traffic.messages},
          {"bytes", traffic.sent().count},
          {"bytes_sync", traffic.sync.count},
          {"dense_bytes", traffic.dense.count},
          {"wire_ratio", ratio(static_cast<double>(traffic.dense.count),
                               static_cast<double>(traffic.sent().count))},
          {"transfer_s", seconds(traffic.transfer)}};
}

Json crossing_json(const Crossing& crossing) {
  return {{"forward", traffic_json(crossing.forward)},
          {"backward", traffic_json(crossing.backward)},
          {"sync", traffic_json(crossing.synchronisation)},
          {"combined", traffic_json(crossing.total())}};
}

Json wire_json(const WireBook& wire) {
  Json boundaries = Json::array();
  for (size_t b = 0; b < wire.boundaries().size(); ++b) {
    Json row = {{"boundary", b}};
    row.update(crossing_json(wire.boundaries()[b]));
    boundaries.push_back(std::move(row));
  }
  return {{"boundaries", std::move(boundaries)},
          {"pipeline", crossing_json(wire.pipeline())},
          {"context", crossing_json(wire.context())},
          {"data", crossing_json(wire.data())},
          {"all", crossing_json(wire.all())}};
}

Json path_json(const Attribution& path) {
  return {{"compute_s", seconds(path.compute)},
          {"codec_s", seconds(path.codec)},
          {"host_s", seconds(path.host)},
          {"serialisation_s", seconds(path.serialisation)},
          {"propagation_s", seconds(path.propagation)},
          {"window_s", seconds(path.window)},
          {"queue_s", seconds(path.queue)},
          {"recovery_s", seconds(path.recovery)}};
}

}  // namespace

SummaryBook::SummaryBook(const record::RecordHeader& header, const TraceOptions& options)
    : header_(header), options_(options), wire_(header) {
  for (const double loss : options.targets) {
    Target target;
    target.loss = loss;
    targets_.push_back(target);
  }
}

void SummaryBook::add(const StepTiming& step) {
  ++steps_;
  tokens_ += step.log.tokens;
  end_ = step.end;
  loss_ = step.log.loss;
  wire_.add(step);
  path_.compute += step.path.compute;
  path_.codec += step.path.codec;
  path_.host += step.path.host;
  path_.serialisation += step.path.serialisation;
  path_.propagation += step.path.propagation;
  path_.window += step.path.window;
  path_.queue += step.path.queue;
  path_.recovery += step.path.recovery;
  for (Target& target : targets_)
    if (!target.training_step && step.log.loss <= target.loss) {
      target.training_step = step.log.step;
      target.training_time = step.end;
    }
}

void SummaryBook::add(const record::Evaluation& evaluation, Nanoseconds time) {
  const double loss = evaluation.validation_loss;
  best_validation_loss_ = evaluation_ ? std::fmin(best_validation_loss_, loss) : loss;
  evaluation_ = evaluation;
  for (Target& target : targets_)
    if (!target.validation_step && evaluation.validation_loss <= target.loss) {
      target.validation_step = evaluation.step;
      target.validation_time = time;
    }
}

Json SummaryBook::targets_json() const {
  Json rows = Json::array();
  const bool validation = evaluation_.has_value();
  for (const Target& target : targets_) {
    Json row = {{"loss", target.loss}, {"measured_on", validation ? "validation" : "training"}};
    const std::optional<int64_t> step = validation ? target.validation_step : target.training_step;
    const Nanoseconds time = validation ? target.validation_time : target.training_time;
    row["step"] = step ? Json(*step) : Json(nullptr);
    row["time_s"] = header_.meta ? Json("unknown")
                    : step       ? Json(seconds(time))
                                 : Json("not reached");
    rows.push_back(std::move(row));
  }
  return rows;
}

Json SummaryBook::memory_json() const {
  Json rows = Json::array();
  for (size_t rank = 0; rank < header_.ranks.size(); ++rank) {
    const record::RankInfo& info = header_.ranks[rank];
    rows.push_back({{"rank", rank},
                    {"stage", info.stage},
                    {"shard", info.shard},
                    {"replica", info.replica},
                    {"layers", info.layers},
                    {"device", rank < options_.devices.size() ? options_.devices[rank] : ""},
                    {"parameters", info.parameters},
                    {"persistent_bytes", info.persistent.count},
                    {"frames_bytes", info.frames.count},
                    {"scratch_bytes", info.scratch.count},
                    {"peak_bytes", (info.persistent + info.frames + info.scratch).count}});
  }
  return rows;
}

// Reference over this run, each per step: above 1 where this run is better.
Json SummaryBook::compare(const Json& reference) const {
  if (reference.is_null()) return nullptr;
  const auto value = [&](const char* pointer) {
    const Json::json_pointer at(pointer);
    return reference.contains(at) && reference.at(at).is_number() ? reference.at(at).get<double>()
                                                                  : 0.0;
  };
  const double steps = value("/steps");
  const auto reference_per_step = [&](const char* pointer) {
    return steps > 0 ? value(pointer) / steps : 0.0;
  };
  const Traffic all = wire_.all().total();
  return {{"name", reference.contains("name") ? reference.at("name") : Json(nullptr)},
          {"file", options_.reference},
          {"bytes_ratio", ratio(reference_per_step("/wire/all/combined/bytes"),
                                per_step(static_cast<double>(all.sent().count)))},
          {"transfer_time_ratio", ratio(reference_per_step("/wire/all/combined/transfer_s"),
                                        per_step(seconds(all.transfer)))},
          {"step_time_ratio", ratio(value("/mean_step_s"), per_step(seconds(end_)))}};
}

Json SummaryBook::json(const std::optional<record::RecordFooter>& footer,
                       double simulation_host_seconds, const Json& reference) const {
  const Crossing& all = wire_.all();
  const Traffic total = all.total();
  Json json;
  json["name"] = options_.name;
  json["complete"] = footer.has_value();
  json["steps"] = steps_;
  json["tokens"] = tokens_;
  json["final_loss"] = steps_ > 0 ? number(loss_) : Json(nullptr);
  json["final_validation_loss"] =
      evaluation_ ? number(evaluation_->validation_loss) : Json(nullptr);
  json["best_validation_loss"] = evaluation_ ? number(best_validation_loss_) : Json(nullptr);
  json["final_perplexity"] =
      evaluation_ ? number(std::exp(evaluation_->validation_loss)) : Json(nullptr);
  json["time_s"] = seconds(end_);
  json["mean_step_s"] = per_step(seconds(end_));
  json["tokens_per_s"] =
      end_.count > 0 ? Json(static_cast<double>(tokens_) / seconds(end_)) : Json(nullptr);
  json["critical_path"] = path_json(path_);
  json["bytes"] = {{"forward", all.forward.bytes.count},
                   {"backward", all.backward.bytes.count},
                   {"sync", (total.sync + all.synchronisation.bytes).count}};
  json["wire"] = wire_json(wire_);
  json["reference"] = compare(reference);
  json["targets"] = targets_json();
  json["ranks"] = memory_json();
  json["network"] = {{"model", options_.network_model}, {"preset", options_.network_preset}};
  json["backend"] = header_.backend;
  json["precision"] = header_.precision;
  json["seeds"] = {{"numerics", header_.seed}, {"network", options_.network_seed}};
  json["hashes"] = {{"record", header_.record_hash},
                    {"scenario", options_.scenario_hash},
                    {"data", footer ? footer->data_hash : ""},
                    {"parameters", footer ? footer->parameters_hash : ""}};
  json["versions"] = {{"producer", header_.producer},
                      {"simulator", "strait-sim " STRAIT_VERSION " (" STRAIT_GIT_COMMIT ")"}};
  json["host"] = {{"training_s", footer ? number(footer->host_seconds) : Json(nullptr)},
                  {"simulation_s", simulation_host_seconds}};
  return json;
}

}  // namespace strait::sim
