#include "engine/checkpoint/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/checkpoint/safetensors.h"
#include "engine/data/files.h"
#include "sim/record/sha256.h"

namespace strait {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "strait checkpoint 3";
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";

std::string folder_name(int64_t step) { return fmt::format("step_{:08}", step); }

std::optional<int64_t> step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  int64_t step = 0;
  if (!name.starts_with("step_")) return std::nullopt;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + 5, end, step);
  if (error != std::errc() || rest != end || step < 0 || name != folder_name(step))
    return std::nullopt;
  return step;
}

std::vector<int64_t> dims(const Shape& shape) {
  return {shape.dims.begin(), shape.dims.begin() + shape.rank};
}

void write_model(const fs::path& path, const Snapshot& snapshot) {
  std::vector<SafetensorsWriter::Declaration> tensors;
  for (const ParameterState& p : snapshot.parameters)
    tensors.push_back({p.name, p.dtype, dims(p.shape)});
  SafetensorsWriter writer(path.string(), tensors, {{"format", "pt"}});
  for (const ParameterState& p : snapshot.parameters) writer.write(p.name, p.master.data());
  writer.finish();
}

// One second moment a row, or as many as there are elements.
Shape moment_shape(const ParameterState& p, bool second) {
  const bool by_row = second && p.v.size() < p.master.size();
  return by_row ? Shape{p.shape[0]} : p.shape;
}

void write_optimizer(const fs::path& path, const Snapshot& snapshot) {
  std::vector<SafetensorsWriter::Declaration> tensors;
  for (const char* moment : {"m.", "v."})
    for (const ParameterState& p : snapshot.parameters)
      if (!(moment[0] == 'm' ? p.m : p.v).empty())
        tensors.push_back({moment + p.name, p.dtype, dims(moment_shape(p, moment[0] == 'v'))});
  SafetensorsWriter writer(path.string(), tensors, {});
  for (const ParameterState& p : snapshot.parameters)
    if (!p.m.empty()) writer.write("m." + p.name, p.m.data());
  for (const ParameterState& p : snapshot.parameters)
    if (!p.v.empty()) writer.write("v." + p.name, p.v.data());
  writer.finish();
}

Json shape_json(const ModelShape& s) {
  return {{"layers", s.layers},         {"width", s.width},           {"heads", s.heads},
          {"kv_heads", s.kv_heads},     {"head_width", s.head_width}, {"ffn_width", s.ffn_width},
          {"vocabulary", s.vocabulary}, {"context", s.context},       {"rope_theta", s.rope_theta},
          {"norm_eps", s.norm_eps}};
}

ModelShape shape_of(const Json& j) {
  ModelShape s;
  s.layers = j.at("layers").get<int>();
  s.width = j.at("width").get<int>();
  s.heads = j.at("heads").get<int>();
  s.kv_heads = j.at("kv_heads").get<int>();
  s.head_width = j.at("head_width").get<int>();
  s.ffn_width = j.at("ffn_width").get<int>();
  s.vocabulary = j.at("vocabulary").get<int>();
  s.context = j.at("context").get<int>();
  s.rope_theta = j.at("rope_theta").get<double>();
  s.norm_eps = j.at("norm_eps").get<double>();
  return s;
}

Json constraint_json(const ModelConstraint& c) {
  return {{"method", c.method},
          {"rank", c.rank},
          {"basis_seed", c.basis_seed},
          {"variant", c.variant},
          {"dtype", name_of(c.dtype)}};
}

ModelConstraint constraint_of(const Json& j) {
  ModelConstraint c;
  c.method = j.at("method").get<std::string>();
  c.rank = j.at("rank").get<int>();
  c.basis_seed = j.at("basis_seed").get<uint64_t>();
  c.variant = j.at("variant").get<std::string>();
  const auto dtype = j.at("dtype").get<std::string>();
  for (const DType known : {DType::f32, DType::bf16, DType::f64}) {
    c.dtype = known;
    if (dtype == name_of(known)) return c;
  }
  throw CheckpointError(
      fmt::format("the constraint's dtype is \"{}\"; allowed: f32, bf16, f64", dtype));
}

Json read_manifest(const fs::path& checkpoint) {
  const fs::path path = checkpoint / "manifest.json";
  std::string text;
  try {
    text = read_file(path);
  } catch (const std::runtime_error& e) {
    throw CheckpointError(e.what());
  }
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("format") || json["format"] != kFormat)
    throw CheckpointError(
        fmt::format("{}: not a manifest of format \"{}\"", path.string(), kFormat));
  return json;
}

CheckpointManifest manifest_of(const fs::path& checkpoint, const Json& j) {
  try {
    CheckpointManifest m;
    m.step = j.at("step").get<int64_t>();
    m.tokens = j.at("tokens").get<uint64_t>();
    m.interrupted = j.at("interrupted").get<bool>();
    m.record_bytes = j.at("record").at("bytes").get<uint64_t>();
    m.host_seconds = j.at("host_seconds").get<double>();
    m.record_hash = j.at("record").at("hash").get<std::string>();
    m.data_hash = j.at("data_hash").get<std::string>();
    m.producer = j.at("producer").get<std::string>();
    m.method = j.at("method").get<std::string>();
    m.constraint = constraint_of(j.at("constraint"));
    m.boundaries = j.at("boundaries").get<std::string>();
    m.shape = shape_of(j.at("model"));
    return m;
  } catch (const nlohmann::json::exception& e) {
    throw CheckpointError(fmt::format("{}: {}", (checkpoint / "manifest.json").string(), e.what()));
  }
}

// The path of a file that agrees with the manifest.
std::string verified(const fs::path& checkpoint, const Json& manifest, const char* name) {
  const fs::path path = checkpoint / name;
  std::string found, expected;
  try {
    expected = manifest.at("files").at(name).at("sha256").get<std::string>();
    found = sha256_hex(MappedFile(path).bytes());
  } catch (const std::exception& e) {
    throw CheckpointError(fmt::format("{}: {}", path.string(), e.what()));
  }
  if (found != expected)
    throw CheckpointError(fmt::format("{} is damaged: its sha256 is {}, the manifest says {}",
                                      path.string(), found, expected));
  return path.string();
}

std::vector<std::byte> read_tensor(const SafetensorsFile& file, const std::string& name,
                                   DType dtype, const std::vector<int64_t>& shape) {
  std::vector<std::byte> bytes(file.entry(name).bytes);
  file.read(name, bytes.data(), dtype, shape);
  return bytes;
}

Shape shape_from(const fs::path& checkpoint, const std::string& name,
                 const std::vector<int64_t>& dims) {
  if (dims.size() > 4)
    throw CheckpointError(fmt::format("{}: tensor '{}' has {} dimensions, at most 4 are allowed",
                                      (checkpoint / kModelFile).string(), name, dims.size()));
  Shape shape;
  shape.rank = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), shape.dims.begin());
  return shape;
}

// By way of a rename, so that no half of a checkpoint is ever there under its name.
void remove_checkpoint(const fs::path& checkpoint) {
  const fs::path gone = checkpoint.string() + ".tmp-gone";
  fs::remove_all(gone);
  fs::rename(checkpoint, gone);
  fs::remove_all(gone);
}

}  // namespace

fs::path write_checkpoint(const fs::path& folder, const Snapshot& snapshot,
                          const CheckpointManifest& m) {
  const fs::path target = folder / folder_name(m.step);
  PendingDirectory pending(target);
  write_model(pending.path() / kModelFile, snapshot);
  write_optimizer(pending.path() / kOptimizerFile, snapshot);
  Json files = Json::object();
  for (const char* name : {kModelFile, kOptimizerFile}) {
    const MappedFile file(pending.path() / name);
    files[name] = {{"bytes", file.bytes().size()}, {"sha256", sha256_hex(file.bytes())}};
  }
  const Json manifest = {{"format", kFormat},
                         {"step", m.step},
                         {"tokens", m.tokens},
                         {"interrupted", m.interrupted},
                         {"method", m.method},
                         {"model", shape_json(m.shape)},
                         {"constraint", constraint_json(m.constraint)},
                         {"boundaries", m.boundaries},
                         {"record", {{"bytes", m.record_bytes}, {"hash", m.record_hash}}},
                         {"data_hash", m.data_hash},
                         {"host_seconds", m.host_seconds},
                         {"producer", m.producer},
                         {"files", files}};
  write_file_atomically(pending.path() / "manifest.json", manifest.dump(2) + "\n");
  if (fs::exists(target)) remove_checkpoint(target);
  for (const Checkpoint& c : list_checkpoints(folder))
    if (c.manifest.step > m.step) remove_checkpoint(c.folder);
  pending.publish();
  return target;
}

std::vector<Checkpoint> list_checkpoints(const fs::path& folder) {
  std::vector<Checkpoint> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::optional<int64_t> step = step_of(entry.path());
    if (!step) continue;
    try {
      found.push_back({entry.path(), manifest_of(entry.path(), read_manifest(entry.path()))});
    } catch (const CheckpointError&) {
      continue;
    }
    if (found.back().manifest.step != *step) found.pop_back();
  }
  std::sort(found.begin(), found.end(), [](const Checkpoint& a, const Checkpoint& b) {
    return a.manifest.step < b.manifest.step;
  });
  return found;
}

Snapshot read_checkpoint(const fs::path& checkpoint, bool moments) {
  const Json json = read_manifest(checkpoint);
  const CheckpointManifest manifest = manifest_of(checkpoint, json);
  try {
    const SafetensorsFile model(verified(checkpoint, json, kModelFile));
    std::optional<SafetensorsFile> optimizer;
    if (moments) optimizer.emplace(verified(checkpoint, json, kOptimizerFile));
    Snapshot snapshot{manifest.step,       manifest.tokens,     manifest.shape,
                      manifest.constraint, manifest.boundaries, {}};
    for (const auto& [name, entry] : model.tensors()) {
      ParameterState p;
      p.name = name;
      p.shape = shape_from(checkpoint, name, entry.shape);
      p.dtype = entry.dtype == safetensors_dtype(DType::f64) ? DType::f64 : DType::f32;
      p.master = read_tensor(model, name, p.dtype, entry.shape);
      const auto moment = [&](const char* which) {
        return optimizer && optimizer->tensors().contains(which + name)
                   ? read_tensor(*optimizer, which + name, p.dtype,
                                 optimizer->entry(which + name).shape)
                   : std::vector<std::byte>{};
      };
      p.m = moment("m.");
      p.v = moment("v.");
      snapshot.parameters.push_back(std::move(p));
    }
    return snapshot;
  } catch (const SafetensorsError& e) {
    throw CheckpointError(e.what());
  } catch (const nlohmann::json::exception& e) {
    throw CheckpointError(fmt::format("{}: {}", (checkpoint / "manifest.json").string(), e.what()));
  }
}

SafetensorsFile open_model(const fs::path& checkpoint) {
  try {
    return SafetensorsFile(verified(checkpoint, read_manifest(checkpoint), kModelFile));
  } catch (const SafetensorsError& e) {
    throw CheckpointError(e.what());
  }
}

fs::path find_checkpoint(const fs::path& path) {
  if (fs::exists(path / "manifest.json")) {
    static_cast<void>(manifest_of(path, read_manifest(path)));
    return path;
  }
  for (const fs::path& folder : {path / "checkpoints", path}) {
    const std::vector<Checkpoint> found = list_checkpoints(folder);
    if (!found.empty()) return found.back().folder;
  }
  throw CheckpointError(
      fmt::format("{}: no checkpoint there; allowed: a folder step_XXXXXXXX, or a run directory "
                  "that holds checkpoints/",
                  path.string()));
}

std::string model_hash(const fs::path& checkpoint) {
  const Json json = read_manifest(checkpoint);
  try {
    return json.at("files").at(kModelFile).at("sha256").get<std::string>();
  } catch (const nlohmann::json::exception& e) {
    throw CheckpointError(fmt::format("{}: {}", (checkpoint / "manifest.json").string(), e.what()));
  }
}

void prune_checkpoints(const fs::path& folder, int keep, bool finished) {
  if (!fs::exists(folder)) return;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().find(".tmp-") != std::string::npos)
      fs::remove_all(entry.path());
  std::vector<Checkpoint> found = list_checkpoints(folder);
  const int64_t newest = found.empty() ? 0 : found.back().manifest.step;
  std::erase_if(found, [&](const Checkpoint& c) {
    if (!c.manifest.interrupted || (c.manifest.step == newest && !finished)) return false;
    remove_checkpoint(c.folder);
    return true;
  });
  while (keep > 0 && found.size() > static_cast<size_t>(keep)) {
    remove_checkpoint(found.front().folder);
    found.erase(found.begin());
  }
  if (fs::is_empty(folder)) fs::remove(folder);
}

}  // namespace strait
