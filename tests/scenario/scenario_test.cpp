// Parsing into the structs and back: round trips, defaults, presets, the record's hash, the
// engine's part.
#include "sim/scenario/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <stdexcept>

#include "sim/scenario/tables.h"
#include "tests/scenario/documents.h"

namespace strait::scenario {
namespace {

using testing::HasSubstr;

Scenario parsed(const Json& document, const std::vector<std::string>& overrides = {}) {
  const Result result = parse_scenario(document.dump(), "test.json", overrides);
  if (!result.ok()) throw std::runtime_error(result.text());
  return *result.scenario;
}

TEST(RoundTrip, CanonicalDocumentsComeBackAsTheyWere) {
  for (const Json& document : canonical_documents())
    EXPECT_EQ(to_json(parsed(document)).dump(1), document.dump(1));
}

TEST(RoundTrip, ResolvedScenariosAreFixedPoints) {
  for (const std::string& patch : good_patches()) {
    const Result first = parse_patched(patch);
    ASSERT_TRUE(first.ok()) << patch << "\n" << first.text();
    const Json resolved = to_json(*first.scenario);
    EXPECT_EQ(to_json(parsed(resolved)), resolved) << patch;
    EXPECT_EQ(record_hash(parsed(resolved)), record_hash(*first.scenario)) << patch;
  }
}

// Keys whose value in `json` is not the default of their field, as "object.key".
void collect_changed(const ObjectInfo& object, const Json& json, std::set<std::string>& changed) {
  for (const FieldInfo& field : object.fields) {
    if (!json.is_object() || !json.contains(field.key)) continue;
    const Json& value = json[field.key];
    if (!field.fallback || *field.fallback != value) changed.insert(object.title + "." + field.key);
    for (const auto& child : field.kind.objects) {
      if (!field.kind.list)
        collect_changed(*child, value, changed);
      else
        for (const Json& element : value) collect_changed(*child, element, changed);
    }
  }
}

void collect_fields(const ObjectInfo& object, std::set<std::string>& fields) {
  for (const FieldInfo& field : object.fields) {
    fields.insert(object.title + "." + field.key);
    for (const auto& child : field.kind.objects) collect_fields(*child, fields);
  }
}

TEST(RoundTrip, CoversEveryFieldWithAValueThatIsNotItsDefault) {
  std::set<std::string> fields, changed;
  collect_fields(*scenario_table().info(), fields);
  for (const Json& document : canonical_documents())
    collect_changed(*scenario_table().info(), document, changed);
  EXPECT_EQ(changed, fields);
}

TEST(Defaults, AreThoseOfTheStructs) {
  const Scenario scenario = parsed(base_document());
  Scenario expected;
  expected.name = "test";
  expected.model.preset = "llama-1m";
  expected.data.corpus = {"austen"};
  expected.training.steps = 100;
  EXPECT_EQ(to_json(scenario), to_json(expected));
  EXPECT_EQ(scenario.network.model, sim::NetworkModel::packet);
  EXPECT_FALSE(scenario.devices.timing.measured);
}

TEST(Defaults, TheWireFollowsThePrecisionUnlessGiven) {
  EXPECT_EQ(
      parse_patched(R"({"devices": {"precision": "bf16"}})").scenario->compression.pipeline.wire,
      Precision::bf16);
  EXPECT_EQ(
      parse_patched(
          R"({"devices": {"precision": "bf16"}, "compression": {"pipeline": {"wire": "fp32"}}})")
          .scenario->compression.pipeline.wire,
      Precision::fp32);
}

TEST(Defaults, TheNameIsTheFilesStem) {
  const std::string text = base_document().dump();
  EXPECT_EQ(parse_scenario(text, "scenarios/quickstart.json").scenario->name, "quickstart");
  EXPECT_EQ(parse_scenario(text, "").scenario->name, "scenario");
  EXPECT_EQ(parse_scenario(text, "\xff\xfe.json").scenario->name, "scenario");
}

TEST(Preset, FillsLinksAndTransportWhereverItStandsAndExplicitKeysWin) {
  const Scenario scenario =
      *parse_patched(R"({"network": {"links": {"latency": "1ms"}, "preset": "datacenter-100g"}})")
           .scenario;
  EXPECT_EQ(scenario.network.links.bandwidth.count, 100'000'000'000u);
  EXPECT_EQ(scenario.network.links.latency.count, 1'000'000);
  EXPECT_EQ(scenario.network.transport.congestion_control, sim::CongestionControl::lossless);
  EXPECT_EQ(scenario.network.preset, "datacenter-100g");
}

TEST(RecordHash, ChangesWithWhatDeterminesTheRecordAndWithNothingElse) {
  const std::string hash = record_hash(parsed(base_document()));
  EXPECT_EQ(hash.size(), 64u);
  for (const char* replayable :
       {"name=other", "network.links.bandwidth=1Gbps", "network.preset=home-80m", "network.seed=3",
        "network.model=ideal", "devices.timing=measured", "devices.timing.device=H100",
        "devices.host_threads=1", "output.messages=all", "output.timeline_steps=[4, 5]",
        R"(output.compare_networks=["home-80m"])", "training.targets=[3]",
        R"(devices.ranks=[{"rank": 0, "slowdown": 2}])"})
    EXPECT_EQ(record_hash(parsed(base_document(), {replayable})), hash) << replayable;
  std::set<std::string> hashes = {hash};
  const std::vector<std::string> determining = {
      "seed=1",
      "model.preset=llama-7m",
      "model.context=64",
      "data.corpus=prose",
      "data.validation_fraction=0.1",
      "training.steps=101",
      "training.batch=16",
      "training.microbatches=2",
      "training.optimizer.lr=0.1",
      "training.evaluate_every=10",
      "parallel.pipeline=2",
      "parallel.schedule=gpipe",
      "compression.pipeline.wire=bf16",
      R"(compression.pipeline={"method": "subspace", "rank": 4})",
      "devices.backend=cpu",
      "devices.precision=bf16",
      "output.diagnose_every=5"};
  for (const std::string& change : determining)
    hashes.insert(record_hash(parsed(base_document(), {change})));
  EXPECT_EQ(hashes.size(), determining.size() + 1);
}

TEST(RecordHash, IsPinned) {
  // A changed default or field changes this, and with it which finished runs may be replayed:
  // change it knowingly.
  EXPECT_EQ(record_hash(parsed(base_document())).substr(0, 16), "654ac3453b1a7433");
}

ModelShape small_shape(const Model& model) {
  if (model.heads.value_or(2) == 3)
    throw std::invalid_argument("width 64 is no multiple of 3 heads");
  return {4, 64, 2, 2, 32, 256, 128, 10000.0, 1e-5};
}

TEST(ResolveModel, WritesEverySizeAndLeavesTheVocabulary) {
  Scenario scenario = parsed(patched(R"({"parallel": {"pipeline": 4}})"));
  EXPECT_TRUE(resolve_model(scenario, small_shape).empty());
  EXPECT_EQ(scenario.model.layers, 4);
  EXPECT_EQ(scenario.model.context, 128);
  EXPECT_EQ(scenario.model.norm_eps, 1e-5);
  EXPECT_FALSE(scenario.model.vocabulary);
  EXPECT_EQ(to_json(parsed(to_json(scenario))), to_json(scenario));
}

TEST(ResolveModel, ReportsWhatDoesNotFitTheShape) {
  const std::vector<std::array<std::string, 3>> cases = {
      {R"({"parallel": {"pipeline": 5}})", "/parallel/pipeline", "5 stages for 4 layers"},
      {R"({"parallel": {"pipeline": 2, "layers_per_stage": [1, 2]}})", "/parallel/layers_per_stage",
       "3 layers in all"},
      {R"({"compression": {"pipeline": {"method": "subspace", "rank": 65}}})",
       "/compression/pipeline/rank", "rank 65"},
      {R"({"model": {"heads": 3}})", "/model", "no multiple of 3 heads"}};
  for (const auto& [patch, pointer, said] : cases) {
    Scenario scenario = parsed(patched(patch));
    const Json before = to_json(scenario);
    const auto problems = resolve_model(scenario, small_shape, "test.json");
    ASSERT_EQ(problems.size(), 1u) << patch;
    EXPECT_EQ(problems[0].pointer, pointer);
    EXPECT_THAT(problems[0].text(), HasSubstr(said));
    EXPECT_EQ(to_json(scenario), before);
  }
}

}  // namespace
}  // namespace strait::scenario
