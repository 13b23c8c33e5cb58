// The four recipes. Works are cut into documents of about 128 KiB which are then put into an order
// that depends on their names alone: so the tail of the text, which serves as validation data, is a
// sample of everything, not the last package.
#include "engine/data/recipes.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>

#include "engine/data/decompress.h"
#include "engine/data/files.h"
#include "engine/data/markup.h"
#include "engine/data/process.h"
#include "engine/data/rdata.h"
#include "engine/data/sword.h"
#include "engine/data/tar.h"
#include "kernels/rng.h"

namespace strait {

namespace fs = std::filesystem;

namespace {

constexpr size_t kDocumentBytes = 128 * 1024;
constexpr size_t kRepeatedLineBytes = 64;       // shorter repeats are ordinary language
constexpr size_t kLongestSourceFile = 1 << 20;  // longer ones are tables that a program wrote

struct Document {
  std::string name, text;
};
using Documents = std::vector<Document>;

void add_pieces(Documents& documents, const std::string& name, std::string_view text) {
  int part = 0;
  for (const auto piece : cut_text(text, kDocumentBytes)) {
    documents.push_back({fmt::format("{}#{}", name, part++), std::string(piece)});
  }
}

// The regular files below `folder` (links left out), as sorted paths relative to it.
std::vector<std::string> files_below(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    throw std::runtime_error(fmt::format(
        "{}: not in the package: its layout has changed, and the recipe with it", folder.string()));
  }
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.symlink_status().type() == fs::file_type::regular) {
      names.push_back(entry.path().lexically_relative(folder).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string read_gzip(const fs::path& path) {
  return gunzip(MappedFile(path).text(), path.string());
}

// Six novels, each followed by an empty line.
Documents austen(const fs::path& content) {
  const auto path = content / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb";
  Documents documents;
  for (auto& novel : read_r_character_vectors(MappedFile(path).text(), path.string())) {
    const auto title = novel.substr(0, novel.find('\n'));
    documents.push_back({"austen/" + title, std::move(novel) + "\n"});
  }
  return documents;
}

void add_king_james(Documents& documents, const fs::path& content) {
  const auto path = content / "usr/lib/bible.data";
  for (const auto& book : read_king_james(MappedFile(path).text(), path.string())) {
    add_pieces(documents, "king-james/" + book.name, book.text);
  }
}

void add_sword(Documents& documents, const fs::path& content, const std::string& module) {
  const auto root = content / "usr/share/sword/modules" / module;
  for (const char* testament : {"ot", "nt"}) {
    const MappedFile index(root / fmt::format("{}.bzs", testament));
    const MappedFile data(root / fmt::format("{}.bzz", testament));
    int number = 0;
    for (const auto& block : read_sword_blocks(index.text(), data.text(), data.path().string())) {
      add_pieces(documents, fmt::format("{}/{}{}", module, testament, number++), strip_osis(block));
    }
  }
}

void add_gzip_folder(Documents& documents, const fs::path& folder, const std::string& label) {
  for (const auto& name : files_below(folder)) {
    if (name.ends_with(".gz")) add_pieces(documents, label + name, read_gzip(folder / name));
  }
}

void add_fortunes(Documents& documents, const fs::path& folder) {
  for (const auto& name : files_below(folder)) {
    if (name.ends_with(".dat")) continue;
    std::string text = strip_overstrike(MappedFile(folder / name).text());
    for (size_t at = 0; (at = text.find("\n%\n", at)) != std::string::npos;) {
      text.replace(at, 3, "\n\n");  // a line with % parts two sayings
    }
    add_pieces(documents, "fortunes/" + name, text);
  }
}

const fs::path& content_of(const std::vector<Package>& packages, std::string_view name) {
  for (const auto& package : packages) {
    if (package.name == name) return package.content;
  }
  throw std::runtime_error(fmt::format("package {} was not fetched", name));
}

Documents prose(const std::vector<Package>& packages) {
  Documents documents;
  for (const auto& novel : austen(content_of(packages, "r-cran-janeaustenr"))) {
    add_pieces(documents, novel.name, novel.text);
  }
  add_king_james(documents, content_of(packages, "bible-kjv-text"));
  add_sword(documents, content_of(packages, "sword-text-web"), "texts/ztext/engWEB2015eb");
  add_sword(documents, content_of(packages, "sword-comm-mhcc"), "comments/zcom/mhcc");
  add_gzip_folder(documents, content_of(packages, "anarchism") / "usr/share/doc/anarchism/markdown",
                  "anarchism/");
  return documents;
}

Documents english(const std::vector<Package>& packages) {
  Documents documents = prose(packages);
  for (const char* dictionary : {"gcide", "wn", "foldoc", "devil"}) {
    const auto path = content_of(packages, fmt::format("dict-{}", dictionary)) /
                      fmt::format("usr/share/dictd/{}.dict.dz", dictionary);
    add_pieces(documents, dictionary, strip_dictionary(read_gzip(path)));
  }
  const auto jargon =
      content_of(packages, "jargon-text") / "usr/share/doc/jargon-text/jargon.txt.gz";
  add_pieces(documents, "jargon", strip_dictionary(read_gzip(jargon)));
  add_fortunes(documents, content_of(packages, "fortunes") / "usr/share/games/fortunes");
  return documents;
}

template <typename Named, typename Name>
void shuffle_by_name(std::vector<Named>& things, Name name) {
  std::sort(things.begin(), things.end(), [&](const Named& a, const Named& b) {
    const uint64_t left = hash_name(name(a)), right = hash_name(name(b));
    return left != right ? left < right : name(a) < name(b);
  });
}

void write_documents(Documents documents, bool shuffle, TextWriter& writer) {
  if (shuffle)
    shuffle_by_name(documents, [](const Document& d) -> const std::string& { return d.name; });
  for (const auto& document : documents) writer.add(document.name, document.text);
}

// Decompresses FILE.tar.xz in place, to FILE.tar: one large file instead of many small ones.
fs::path decompress_xz(const fs::path& archive, const Notice& notice) {
  if (notice) notice(fmt::format("decompressing {}", archive.filename().string()));
  const auto result = run_process({"xz", "-d", "-T0", archive.string()}, archive.parent_path());
  if (result.status != 0) {
    throw std::runtime_error(
        fmt::format("cannot decompress {} (needs the program xz, package xz-utils): {}",
                    archive.string(), result.errors));
  }
  return fs::path(archive).replace_extension();
}

// A source file: part of an archive, or a file of its own.
struct Source {
  std::string name;
  std::string_view content;
  fs::path path;  // empty: `content`
};

void add_archive(std::vector<Source>& sources, const std::string& label,
                 const MappedFile& archive) {
  for (const auto& file : list_tar(archive.text(), archive.path().string())) {
    const bool kept = file.content.size() <= kLongestSourceFile &&
                      file.name.find("/drivers/gpu/drm/amd/include/") == std::string::npos;
    if (kept) sources.push_back({label + "/" + file.name, file.content, {}});
  }
}

void add_folder(std::vector<Source>& sources, const std::string& label, const fs::path& folder) {
  for (const auto& name : files_below(folder)) {
    if (fs::file_size(folder / name) <= kLongestSourceFile) {
      sources.push_back({label + "/" + name, {}, folder / name});
    }
  }
}

void write_source(const Source& source, std::string_view content, TextWriter& writer) {
  if (content.find('\0') == std::string_view::npos) writer.add(source.name, content);
}

void write_source_code(const std::vector<Package>& packages, TextWriter& writer,
                       const Notice& notice) {
  std::vector<fs::path> archives = {content_of(packages, "linux-source-6.1") /
                                    "usr/src/linux-source-6.1.tar.xz"};
  const auto gcc = content_of(packages, "gcc-12-source") / "usr/src/gcc-12";
  for (const auto& name : files_below(gcc)) {
    if (name.starts_with("gcc-12") && name.ends_with(".tar.xz")) archives.push_back(gcc / name);
  }
  std::vector<std::unique_ptr<MappedFile>> mapped;
  std::vector<Source> sources;
  for (const auto& archive : archives) {
    mapped.push_back(std::make_unique<MappedFile>(decompress_xz(archive, notice)));
    add_archive(sources, archive.parent_path().filename() == "src" ? "linux" : "gcc",
                *mapped.back());
  }
  add_folder(sources, "fpc", content_of(packages, "fpc-source-3.2.2") / "usr/share/fpcsrc");
  add_folder(sources, "acl2", content_of(packages, "acl2-books-source") / "usr/share");
  shuffle_by_name(sources, [](const Source& s) -> const std::string& { return s.name; });
  if (notice) notice(fmt::format("writing {} source files", sources.size()));
  for (const auto& source : sources) {
    if (source.path.empty()) {
      write_source(source, source.content, writer);
    } else {
      write_source(source, MappedFile(source.path).text(), writer);
    }
  }
}

}  // namespace

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> all = [] {
    const auto joined = [](std::vector<std::string> a, const std::vector<std::string>& b) {
      a.insert(a.end(), b.begin(), b.end());
      return a;
    };
    const std::vector<std::string> novels = {"r-cran-janeaustenr"};
    const auto running =
        joined(novels, {"bible-kjv-text", "sword-text-web", "sword-comm-mhcc", "anarchism"});
    const auto dictionaries = joined(
        running, {"dict-gcide", "dict-wn", "dict-foldoc", "jargon-text", "dict-devil", "fortunes"});
    return std::vector<Recipe>{
        {"austen",
         "six novels by Jane Austen",
         novels,
         "4.0 MB",
         {"1.0.0-1"},
         "b0242eca7cd9bebb0b06ac30736ca9e3591dd983c9cda2f276223d6fb5f36074"},
        {"prose",
         "running English: novels, Bibles with a commentary, essays",
         running,
         "29 MB",
         {},
         ""},
        {"english", "half prose, half dictionaries", dictionaries, "97 MB", {}, ""},
        {"code",
         "C, C++, Pascal and Lisp sources: Linux, GCC, Free Pascal, ACL2",
         {"linux-source-6.1", "gcc-12-source", "fpc-source-3.2.2", "acl2-books-source"},
         "1.7 GB",
         {},
         ""}};
  }();
  return all;
}

void write_corpus_text(const Recipe& recipe, const std::vector<Package>& packages,
                       TextWriter& writer, const Notice& notice) {
  if (recipe.name == "austen") {
    write_documents(austen(content_of(packages, "r-cran-janeaustenr")), false, writer);
  } else if (recipe.name == "prose") {
    write_documents(prose(packages), true, writer);
  } else if (recipe.name == "english") {
    writer.drop_repeated_lines(kRepeatedLineBytes);
    write_documents(english(packages), true, writer);
  } else if (recipe.name == "code") {
    write_source_code(packages, writer, notice);
  } else {
    throw std::invalid_argument(fmt::format("no recipe for corpus \"{}\"", recipe.name));
  }
}

}  // namespace strait
