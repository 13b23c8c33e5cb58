// Finding, fetching and opening corpora. A fetch builds the whole directory under a temporary name,
// inside the lock.
#include "engine/data/corpus.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <stdexcept>

#include "engine/data/files.h"
#include "engine/data/recipes.h"
#include "engine/data/text_writer.h"
#include "sim/record/sha256.h"

namespace strait {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int kManifestVersion = 1;  // raised when a recipe changes its text

const Recipe* find_recipe(std::string_view name) {
  for (const auto& recipe : recipes()) {
    if (recipe.name == name) return &recipe;
  }
  return nullptr;
}

fs::path corpus_directory(const std::string& name) { return cache_directory() / "corpora" / name; }

// Levenshtein distance.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0]++;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

[[noreturn]] void unknown_corpus(const std::string& entry) {
  std::vector<std::string> names;
  for (const auto& recipe : recipes()) names.push_back(recipe.name);
  const auto nearest =
      *std::min_element(names.begin(), names.end(), [&](const auto& a, const auto& b) {
        return edit_distance(entry, a) < edit_distance(entry, b);
      });
  const bool near = edit_distance(entry, nearest) <= 2;
  throw std::invalid_argument(fmt::format(
      "unknown corpus \"{}\": there is no such file, and the named corpora are {}{}", entry,
      fmt::join(names, ", "), near ? fmt::format(". Did you mean \"{}\"?", nearest) : ""));
}

// The .txt or the .bin files below a directory.
std::vector<fs::path> corpus_files_below(const fs::path& folder) {
  std::vector<fs::path> texts, shards;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    if (entry.path().extension() == ".txt") texts.push_back(entry.path());
    if (entry.path().extension() == ".bin") shards.push_back(entry.path());
  }
  if (texts.empty() == shards.empty()) {
    throw std::invalid_argument(fmt::format(
        "{}: a corpus directory holds either .txt files or token shards (.bin); this one holds {}",
        folder.string(), texts.empty() ? "neither" : "both"));
  }
  auto& found = texts.empty() ? shards : texts;
  std::sort(found.begin(), found.end());
  return found;
}

std::optional<json> read_manifest(const fs::path& directory) {
  const auto path = directory / "manifest.json";
  if (!fs::exists(path)) return std::nullopt;
  const auto manifest = json::parse(read_file(path), nullptr, false);
  std::error_code error;
  const auto text_bytes = fs::file_size(directory / "text.txt", error);
  const bool whole =
      manifest.is_object() && !error && manifest.value("version", json()) == kManifestVersion &&
      manifest.value("bytes", json()) == text_bytes &&
      manifest.value("sha256", json()).is_string() &&
      manifest.value("packages", json()).is_array() && fs::exists(directory / "documents.txt");
  return whole ? std::optional(manifest) : std::nullopt;
}

Corpus from_manifest(const Recipe& recipe, const json& manifest) {
  const auto directory = corpus_directory(recipe.name);
  Corpus corpus{.name = recipe.name,
                .sha256 = manifest.at("sha256"),
                .bytes = manifest.at("bytes"),
                .files = {directory / "text.txt"},
                .documents_file = directory / "documents.txt",
                .origin = {}};
  for (const auto& package : manifest.at("packages")) {
    corpus.origin += (corpus.origin.empty() ? "" : ", ") + package.value("name", "") + " " +
                     package.value("version", "");
  }
  return corpus;
}

void check_frozen(const Recipe& recipe, const std::vector<Package>& packages,
                  const TextSummary& text) {
  if (recipe.frozen_sha256.empty()) return;
  for (size_t i = 0; i < packages.size(); ++i) {
    if (packages[i].version != recipe.frozen_versions.at(i)) return;
  }
  if (text.sha256 != recipe.frozen_sha256) {
    throw std::runtime_error(fmt::format(
        "corpus {}: its text has sha256 {}, but these package versions give {}: the download is "
        "damaged, or this build reads it wrongly",
        recipe.name, text.sha256, recipe.frozen_sha256));
  }
}

json build(const Recipe& recipe, const fs::path& directory, PackageSource& source,
           const Notice& notice) {
  PendingDirectory pending(directory);
  const auto workspace = pending.path() / "packages";
  fs::create_directory(workspace);
  const auto packages = source.fetch(recipe.packages, workspace, notice);
  TextWriter writer(pending.path());
  write_corpus_text(recipe, packages, writer, notice);
  const auto text = writer.finish();
  check_frozen(recipe, packages, text);
  json manifest = {{"version", kManifestVersion},       {"name", recipe.name},
                   {"description", recipe.description}, {"bytes", text.bytes},
                   {"documents", text.documents},       {"sha256", text.sha256},
                   {"packages", json::array()}};
  for (const auto& package : packages) {
    manifest["packages"].push_back(
        {{"name", package.name}, {"version", package.version}, {"sha256", package.sha256}});
  }
  fs::remove_all(workspace);
  write_file_atomically(pending.path() / "manifest.json", manifest.dump(2) + "\n");
  fs::remove_all(directory);  // a damaged one, if any
  pending.publish();
  if (notice) {
    notice(fmt::format("corpus {}: {} bytes in {} documents, {}", recipe.name, text.bytes,
                       text.documents, directory.string()));
  }
  return manifest;
}

Corpus open_files(const CorpusSpec& spec) {
  Corpus corpus;
  corpus.name = spec.paths.front().filename().string();
  corpus.files = spec.paths;
  Sha256 hash;  // over the documents' hashes: so the division into files counts
  for (const auto& path : spec.paths) {
    const MappedFile file(path);
    corpus.bytes += static_cast<int64_t>(file.bytes().size());
    hash.update(sha256_hex(file.bytes()));
  }
  corpus.sha256 = hash.hex();
  if (corpus.bytes == 0) {
    throw std::runtime_error(
        fmt::format("the corpus is empty: no text in {}", spec.paths.front().string()));
  }
  return corpus;
}

}  // namespace

CorpusSpec find_corpus(const std::vector<std::string>& entries) {
  if (entries.empty()) throw std::invalid_argument("no corpus is given");
  CorpusSpec spec;
  if (entries.size() == 1 && find_recipe(entries[0])) {
    spec.name = entries[0];
    return spec;
  }
  for (const auto& entry : entries) {
    if (find_recipe(entry)) {
      throw std::invalid_argument(fmt::format(
          "the named corpus \"{}\" cannot be mixed with others (a file of that name is \"./{}\")",
          entry, entry));
    }
    if (!fs::exists(entry)) {
      if (entry.find_first_of("/.") == std::string::npos) unknown_corpus(entry);
      throw std::invalid_argument(fmt::format("{}: no such file or directory", entry));
    }
    const auto found =
        fs::is_directory(entry) ? corpus_files_below(entry) : std::vector<fs::path>{entry};
    spec.paths.insert(spec.paths.end(), found.begin(), found.end());
  }
  const auto is_shard = [](const fs::path& path) { return path.extension() == ".bin"; };
  spec.shards = is_shard(spec.paths[0]);
  for (const auto& path : spec.paths) {
    if (is_shard(path) != spec.shards) {
      throw std::invalid_argument(fmt::format(
          "{}: text and token shards (.bin) cannot be mixed in one corpus", path.string()));
    }
  }
  return spec;
}

std::vector<DocumentSpan> Corpus::documents() const {
  std::vector<DocumentSpan> spans;
  if (documents_file.empty()) {
    for (size_t i = 0; i < files.size(); ++i) {
      const auto size = static_cast<int64_t>(fs::file_size(files[i]));
      if (size > 0) spans.push_back({i, 0, size});
    }
    return spans;
  }
  const MappedFile list(documents_file);
  int64_t begin = 0;
  for (std::string_view rest = list.text(); !rest.empty();) {
    int64_t end = 0;
    const auto [stop, error] = std::from_chars(rest.data(), rest.data() + rest.size(), end);
    if (error != std::errc{} || end <= begin || end > bytes) break;
    spans.push_back({0, begin, end});
    begin = end;
    rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
  }
  if (begin != bytes) {
    throw std::runtime_error(fmt::format("{}: damaged; delete {} to have it made again",
                                         documents_file.string(),
                                         documents_file.parent_path().string()));
  }
  return spans;
}

Corpus fetch_corpus(const std::string& name, PackageSource& source, const Notice& notice) {
  const Recipe* recipe = find_recipe(name);
  if (!recipe) unknown_corpus(name);
  const auto directory = corpus_directory(name);
  if (const auto manifest = read_manifest(directory)) return from_manifest(*recipe, *manifest);
  const FileLock lock(directory.string() + ".lock");
  if (const auto manifest = read_manifest(directory)) return from_manifest(*recipe, *manifest);
  PendingDirectory::remove_leftovers(directory);
  if (notice) {
    notice(fmt::format("corpus {} ({}; {}) is not in the cache yet", name, recipe->description,
                       recipe->size));
  }
  return from_manifest(*recipe, build(*recipe, directory, source, notice));
}

Corpus open_corpus(const CorpusSpec& spec, PackageSource& source, const Notice& notice) {
  return spec.name.empty() ? open_files(spec) : fetch_corpus(spec.name, source, notice);
}

std::vector<CorpusStatus> list_corpora() {
  std::vector<CorpusStatus> list;
  for (const auto& recipe : recipes()) {
    const auto directory = corpus_directory(recipe.name);
    list.push_back({recipe.name, recipe.description, recipe.packages, recipe.size,
                    read_manifest(directory).has_value(), directory});
  }
  return list;
}

}  // namespace strait
