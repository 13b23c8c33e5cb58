// Exported models: names, shapes and values as Hugging Face's LLaMA has them; a folded subspace model computes what the model with
// its boundaries computes; and transformers itself gives our logits.
#include "engine/checkpoint/export_huggingface.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/checkpoint/checkpoint.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"
#include "tests/temporary_directory.h"

namespace strait::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// 3 optimizer steps away from the initial values, so that gains and coordinates are no round numbers.
std::unique_ptr<Pipeline> trained(const TrainingConfig& config) {
  auto p = std::make_unique<Pipeline>(config, BackendKind::cpu);
  for (int64_t step = 1; step <= 3; ++step) {
    p->step(4 * step, 4, 2, {});
    p->update(1e-2, step);
  }
  return p;
}

Snapshot snapshot_of(Pipeline& p) {
  Snapshot snapshot;
  for (int s = 0; s < p.config().pipeline; ++s) snapshot.add(save_parameters(p.ops(), p.list(s)));
  return snapshot;
}

HuggingFaceModel model_of(const TrainingConfig& c) {
  HuggingFaceModel m;
  m.shape = c.shape;
  m.method = c.method.method;
  m.constraint = make_method(c.method, c.shape, c.dtype)->constraint();
  m.end_of_document = 3;
  return m;
}

class ExportTest : public ::testing::Test {
 protected:
  // By way of a checkpoint on disk.
  KeyValueFold export_model(const Snapshot& snapshot, const HuggingFaceModel& model) const {
    return export_huggingface(open_model(write_checkpoint(checkpoints_.path(), snapshot, {})),
                              model, folder_);
  }

  const TemporaryDirectory checkpoints_, directory_;
  const fs::path folder_ = directory_.path();
};

// The exported tensors in the places of a plain model's parameters.
void load(Pipeline& plain, const SafetensorsFile& file) {
  for (Parameter* p : plain.all()) {
    std::vector<std::string> parts = {p->name};
    const auto split = [&](const char* stacked, const std::vector<std::string>& names) {
      const size_t at = p->name.find(stacked);
      if (at == std::string::npos) return;
      parts.clear();
      for (const std::string& name : names)
        parts.push_back(p->name.substr(0, at) + name + ".weight");
    };
    split("qkv_proj.weight", {"q_proj", "k_proj", "v_proj"});
    split("gate_up_proj.weight", {"gate_proj", "up_proj"});
    int64_t i = 0;
    for (const std::string& part : parts)
      for (const double value : file.read_as_double(part)) set(p->master, i++, value);
    ASSERT_EQ(i, p->shape.elements()) << p->name;
  }
}

double logit_difference(Pipeline& a, Pipeline& b) {
  a.step(0, 2, 2, {}, false);
  b.step(0, 2, 2, {}, false);
  const std::vector<double> x = a.logits(), y = b.logits();
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max(worst, std::abs(x.at(i) - y.at(i)));
  return worst;
}

TEST_F(ExportTest, NamesAndShapesAreThoseOfHuggingFace) {
  const TrainingConfig c = tiny(2, "none", DType::f32);  // C 32, H 4, Hkv 2, Dh 8, F 44, V 61, T 9
  auto p = trained(c);
  export_model(snapshot_of(*p), model_of(c));
  const SafetensorsFile file(folder_ / "model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.tensors().size(), 3u + 9u * 6u);
  const auto shape = [&](const std::string& name) { return file.entry(name).shape; };
  using Sizes = std::vector<int64_t>;
  EXPECT_EQ(shape("model.embed_tokens.weight"), (Sizes{61, 32}));
  EXPECT_EQ(shape("lm_head.weight"), (Sizes{61, 32}));
  EXPECT_EQ(shape("model.norm.weight"), (Sizes{32}));
  for (int layer = 0; layer < 6; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    EXPECT_EQ(shape(prefix + "input_layernorm.weight"), (Sizes{32}));
    EXPECT_EQ(shape(prefix + "post_attention_layernorm.weight"), (Sizes{32}));
    EXPECT_EQ(shape(prefix + "self_attn.q_proj.weight"), (Sizes{32, 32}));
    EXPECT_EQ(shape(prefix + "self_attn.k_proj.weight"), (Sizes{16, 32}));
    EXPECT_EQ(shape(prefix + "self_attn.v_proj.weight"), (Sizes{16, 32}));
    EXPECT_EQ(shape(prefix + "self_attn.o_proj.weight"), (Sizes{32, 32}));
    EXPECT_EQ(shape(prefix + "mlp.gate_proj.weight"), (Sizes{44, 32}));
    EXPECT_EQ(shape(prefix + "mlp.up_proj.weight"), (Sizes{44, 32}));
    EXPECT_EQ(shape(prefix + "mlp.down_proj.weight"), (Sizes{32, 44}));
  }
  std::ifstream config(folder_ / "config.json");
  const auto json = nlohmann::json::parse(config);
  EXPECT_EQ(json.at("architectures").at(0), "LlamaForCausalLM");
  EXPECT_EQ(json.at("head_dim"), 8);
  EXPECT_EQ(json.at("num_key_value_heads"), 2);
  EXPECT_EQ(json.at("intermediate_size"), 44);
  EXPECT_EQ(json.at("max_position_embeddings"), 9);
  EXPECT_EQ(json.at("rms_norm_eps"), 1e-5);
  EXPECT_EQ(json.at("tie_word_embeddings"), false);
  EXPECT_EQ(json.at("eos_token_id"), 3);
}

TEST_F(ExportTest, APlainModelKeepsEveryBitOfItsParameters) {
  const TrainingConfig c = tiny(3, "none", DType::f32);
  auto p = trained(c);
  export_model(snapshot_of(*p), model_of(c));
  Pipeline again(tiny(1, "none", DType::f32), BackendKind::cpu);
  load(again, SafetensorsFile(folder_ / "model.safetensors"));
  EXPECT_EQ(logit_difference(*p, again), 0);
}

// The folded weights are rounded once to fp32, and W x is summed in another order than U (Z^T x).
TEST_F(ExportTest, AFoldedSubspaceModelComputesWhatItsBoundariesLeave) {
  for (const char* variant : {"reparametrised", "projected_gradient", "projected_weights"}) {
    TrainingConfig c = tiny(3, "subspace", DType::f32);
    c.method.variant = variant;
    auto p = trained(c);
    export_model(snapshot_of(*p), model_of(c));
    Pipeline plain(tiny(1, "none", DType::f32), BackendKind::cpu);
    load(plain, SafetensorsFile(folder_ / "model.safetensors"));
    EXPECT_LE(logit_difference(*p, plain), 1e-5) << variant;
  }
}

// A model whose keys and values were trained in subspaces: its weights folded as a plain training would begin with them.
TEST_F(ExportTest, KeysAndValuesInSubspacesAreFoldedOntoThem) {
  for (const char* method : {"none", "subspace"})
    for (const char* rotation : {"taylor2", "none"}) {
      TrainingConfig c = tiny_run(2, method, DType::f32, 2, 1);
      c.shape.layers = 3;
      c.shape.context = 16;
      c.shards = 2;
      c.context.method = "mos";
      c.context.mixture.rank_k = 3;
      c.context.mixture.rank_v = 5;
      c.context.mixture.rotation = rotation;
      const HashedTokens data(c.shape);
      const auto states_of = [&](const TrainingConfig& of, const Snapshot* start) {
        return run({{of, &data}}, {.start = start, .checkpoint_every = of.steps}).snapshots.at(0);
      };
      const Snapshot snapshot = states_of(c, nullptr);
      const KeyValueFold fold = export_model(snapshot, model_of(c));
      EXPECT_EQ(fold.layers, 2);  // the last one travels as it is
      EXPECT_EQ(fold.angles, std::string(rotation) != "none");
      TrainingConfig plain = c;
      plain.method = {};
      plain.context.method = "none";
      plain.steps = 3;
      plain.learning_rate.peak = 0;
      const Snapshot folded = states_of(plain, &snapshot);
      const SafetensorsFile file(folder_ / "model.safetensors");
      for (const ParameterState& p : folded.parameters) {
        const size_t at = p.name.find("qkv_proj.weight");
        if (at == std::string::npos) continue;
        std::vector<double> rows;
        for (const char* part : {"q_proj.weight", "k_proj.weight", "v_proj.weight"})
          for (const double x : file.read_as_double(p.name.substr(0, at) + part)) rows.push_back(x);
        EXPECT_EQ(rows, values_of(p.master, p.dtype)) << p.name;
        if (p.name.find("layers.2.") == std::string::npos) {
          EXPECT_NE(rows, values_of(snapshot.find(p.name)->master, p.dtype)) << p.name;
        }
      }
    }
}

// Copies that take steps of their own have names of their own; what is exported is what they agree on.
TEST_F(ExportTest, CopiesThatAverageTheirParametersAreExportedWhereTheyAgree) {
  TrainingConfig c = tiny_run(1, "none", DType::f32, 4, 1);
  c.shape.layers = 2;
  c.shape.context = 16;
  c.shards = 2;
  c.context.method = "mos";
  c.context.mixture.rank_k = 3;
  c.context.mixture.rank_v = 5;
  c.synchronisation.mode = Synchronisation::parameters;
  c.synchronisation.every = 3;
  const HashedTokens data(c.shape);
  const Outcome o = run({{c, &data}}, {.checkpoint_every = 1});
  ASSERT_EQ(o.snapshots.size(), 4U);
  for (const Snapshot& snapshot : o.snapshots) {
    if (snapshot.step >= 3) {  // averaged; the end of the training
      EXPECT_EQ(export_model(snapshot, model_of(c)).layers, 1) << snapshot.step;
      continue;
    }
    try {
      export_model(snapshot, model_of(c));
      FAIL() << snapshot.step;
    } catch (const std::invalid_argument& e) {
      EXPECT_THAT(e.what(), HasSubstr("parallel.synchronisation.every"));
    }
  }
}

TEST_F(ExportTest, ABasisThatDoesNotFitTheModelIsRefused) {
  const TrainingConfig c = tiny(1, "none", DType::f32);
  auto p = trained(c);
  for (const Shape& shape :
       {Shape{1, 1, 17}, Shape{3, 1, 16}, Shape{1, 16}, Shape{1, 1, 16 * 17}}) {
    Snapshot snapshot = snapshot_of(*p);
    for (const char* z : {"k", "v"})
      snapshot.parameters.push_back(
          {std::string("model.layers.0.self_attn.mixture.") + z + ".frames",
           shape,
           DType::f32,
           std::vector<std::byte>(static_cast<size_t>(shape.elements()) * sizeof(float)),
           {},
           {}});
    try {
      export_model(snapshot, model_of(c));
      FAIL() << to_string(shape);
    } catch (const std::invalid_argument& e) {
      EXPECT_THAT(e.what(), HasSubstr("k.frames is " + to_string(shape)));
    }
  }
}

TEST_F(ExportTest, TheTokenTableIsTheSeedsOwn) {
  const TrainingConfig c = tiny(3, "subspace", DType::f32);
  auto p = trained(c);
  HuggingFaceModel model = model_of(c);
  model.constraint.basis_seed += 1;
  export_model(snapshot_of(*p), model);
  Pipeline plain(tiny(1, "none", DType::f32), BackendKind::cpu);
  load(plain, SafetensorsFile(folder_ / "model.safetensors"));
  EXPECT_GT(logit_difference(*p, plain), 1e-2);
}

TEST_F(ExportTest, WhatIsNoPlainLlamaIsRefusedWithTheReason) {
  const TrainingConfig c = tiny(2, "none", DType::f32);
  auto p = trained(c);
  const Snapshot snapshot = snapshot_of(*p);
  const auto refusal = [&](const Snapshot& s, const HuggingFaceModel& m) -> std::string {
    try {
      export_model(s, m);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "accepted";
  };
  HuggingFaceModel other = model_of(c);
  other.method = "bottleneck";
  EXPECT_THAT(refusal(snapshot, other), HasSubstr("\"bottleneck\""));
  other = model_of(c);
  other.shape.ffn_width = 45;
  EXPECT_THAT(refusal(snapshot, other), HasSubstr("gate_up_proj"));
  other = model_of(c);
  other.shape.layers = 2'000'000'000;
  EXPECT_THAT(refusal(snapshot, other), HasSubstr("2000000000 layers"));
  Snapshot extra = snapshot;
  extra.parameters.push_back(extra.parameters.front());
  extra.parameters.back().name = "boundary.0.encoder";
  EXPECT_THAT(refusal(extra, model_of(c)), HasSubstr("boundary.0.encoder"));
  Snapshot less = snapshot;
  less.parameters.erase(less.parameters.begin() + 3);
  EXPECT_THAT(refusal(less, model_of(c)), HasSubstr(snapshot.parameters[3].name));
  EXPECT_FALSE(fs::exists(folder_ / "model.safetensors"));
}

// Writes what the script needs beside the export: token ids and our logits.
void write_expectation(Pipeline& p, const fs::path& folder) {
  const ModelShape& s = p.config().shape;
  const HashedTokens tokens(s);
  std::vector<int32_t> ids(static_cast<size_t>(2 * s.context));
  for (int64_t b = 0; b < 2; ++b) tokens.training(b, ids.data() + b * s.context, nullptr);
  p.step(0, 2, 2, {}, false);
  std::vector<float> logits;
  for (const double x : p.logits()) logits.push_back(static_cast<float>(x));
  SafetensorsWriter writer(
      (folder / "expected.safetensors").string(),
      {{"ids", DType::i32, {2, s.context}}, {"logits", DType::f32, {2, s.context, s.vocabulary}}},
      {});
  writer.write("ids", ids.data());
  writer.write("logits", logits.data());
  writer.finish();
}

TEST_F(ExportTest, TransformersGivesTheSameLogits) {
  const char* python = std::getenv("STRAIT_TRANSFORMERS_PYTHON");
  if (python == nullptr || *python == '\0')
    GTEST_SKIP() << "STRAIT_TRANSFORMERS_PYTHON names no Python that has transformers and torch";
  for (const char* method : {"none", "subspace"}) {
    const TrainingConfig c = tiny(3, method, DType::f32);
    auto p = trained(c);
    export_model(snapshot_of(*p), model_of(c));
    write_expectation(*p, folder_);
    const std::string command = "\"" + std::string(python) +
                                "\" -B \"" STRAIT_SOURCE_DIR
                                "/tests/engine/transformers_logits.py\" \"" +
                                folder_.string() + "\"";
    EXPECT_EQ(std::system(command.c_str()), 0) << method << ": " << command;
  }
}

}  // namespace
}  // namespace strait::testing
