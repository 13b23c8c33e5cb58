// Corpora: named ones from a source of packages made here (no network), the user's files, and whole
// data sets.
#include "engine/data/corpus.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>

#include "engine/data/dataset.h"
#include "engine/data/files.h"
#include "engine/data/process.h"
#include "sim/record/sha256.h"
#include "tests/engine/data_support.h"

namespace strait {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const char* const kNovel = "CHAPTER I\n\nIt is a truth universally acknowledged\n\nthe end\n\n";

// Serves the package of `austen` with two short novels.
class FakePackages : public PackageSource {
 public:
  explicit FakePackages(std::string version = "9.9") : version_(std::move(version)) {}

  std::vector<Package> fetch(const std::vector<std::string>& names, const fs::path& target,
                             const Notice&) override {
    ++fetches;
    if (pause) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    if (fail) throw std::runtime_error("no network");
    EXPECT_EQ(names, std::vector<std::string>{"r-cran-janeaustenr"});
    write_bytes(target / "content/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb",
                r_chunk({"CHAPTER I", "", "It is a truth universally acknowledged"}) +
                    r_chunk({"the end"}));
    return {{names[0], version_, std::string(64, 'f'), target / "content"}};
  }

  std::atomic<int> fetches{0};
  bool pause = false, fail = false;

 private:
  std::string version_;
};

class CorpusTest : public DataTest {
 protected:
  fs::path austen() const { return folder / "cache/corpora/austen"; }
  size_t entries_in_corpora() const {
    const fs::directory_iterator entries(folder / "cache/corpora");
    return static_cast<size_t>(std::distance(begin(entries), end(entries)));
  }
  std::string error_finding(const std::vector<std::string>& entries) {
    return error_of<std::invalid_argument>([&] { find_corpus(entries); });
  }
  FakePackages packages;
};

TEST_F(CorpusTest, IsFetchedOnceAndThenFoundInTheCache) {
  const auto first = fetch_corpus("austen", packages, {}),
             second = fetch_corpus("austen", packages, {});
  EXPECT_EQ(packages.fetches, 1);
  EXPECT_EQ(read_file(austen() / "text.txt"), kNovel);
  EXPECT_EQ(first.sha256, sha256_hex(std::string_view(kNovel)));
  EXPECT_EQ(second.sha256, first.sha256);
  EXPECT_EQ(second.origin, "r-cran-janeaustenr 9.9");
  const auto documents = second.documents();
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].end, documents[1].begin);
  EXPECT_EQ(documents[1].end, second.bytes);
  EXPECT_EQ(entries_in_corpora(), 2u) << "the corpus and its lock: no temporary files";
}

TEST_F(CorpusTest, ManifestNamesPackagesVersionsAndHashes) {
  fetch_corpus("austen", packages, {});
  const auto manifest = nlohmann::json::parse(read_file(austen() / "manifest.json"));
  EXPECT_EQ(manifest["bytes"], fs::file_size(austen() / "text.txt"));
  EXPECT_EQ(manifest["sha256"], sha256_hex(std::string_view(kNovel)));
  EXPECT_EQ(manifest["packages"][0]["name"], "r-cran-janeaustenr");
  EXPECT_EQ(manifest["packages"][0]["version"], "9.9");
  EXPECT_EQ(manifest["packages"][0]["sha256"], std::string(64, 'f'));
}

TEST_F(CorpusTest, AFrozenVersionWithAnotherTextIsRefused) {
  FakePackages frozen("1.0.0-1");
  EXPECT_THAT(error_of<std::runtime_error>([&] { fetch_corpus("austen", frozen, {}); }),
              HasSubstr("b0242eca7cd9bebb"));
  EXPECT_FALSE(fs::exists(austen()));
}

TEST_F(CorpusTest, ADamagedCacheIsMadeAgain) {
  fetch_corpus("austen", packages, {});
  fs::resize_file(austen() / "text.txt", 10);
  EXPECT_EQ(fetch_corpus("austen", packages, {}).bytes,
            static_cast<int64_t>(std::string(kNovel).size()));
  write_bytes(austen() / "manifest.json", "{\"version\": 1, \"bytes\": [");
  fetch_corpus("austen", packages, {});
  EXPECT_EQ(packages.fetches, 3);
}

TEST_F(CorpusTest, DamagedDocumentBoundsAreAnError) {
  const auto corpus = fetch_corpus("austen", packages, {});
  for (const char* bounds : {"", "7\tx\n", "99999999\tx\n", "50\tx\n20\ty\n", "-1\tx\n", "words"}) {
    write_bytes(austen() / "documents.txt", bounds);
    EXPECT_THAT(error_of<std::runtime_error>([&] { corpus.documents(); }),
                HasSubstr("documents.txt: damaged"))
        << bounds;
  }
}

TEST_F(CorpusTest, AFailedFetchLeavesNothingAndTheNextOneWorks) {
  packages.fail = true;
  EXPECT_THROW(fetch_corpus("austen", packages, {}), std::runtime_error);
  EXPECT_EQ(entries_in_corpora(), 1u) << "only the lock";
  write_bytes(folder / "cache/corpora/austen.tmp-abcdef/text.txt", "left by a killed process");
  packages.fail = false;
  fetch_corpus("austen", packages, {});
  EXPECT_EQ(entries_in_corpora(), 2u);
}

TEST_F(CorpusTest, ConcurrentThreadsFetchOnce) {
  packages.pause = true;
  std::vector<std::string> hashes(4);
  std::vector<std::thread> threads;
  for (auto& hash : hashes)
    threads.emplace_back([&] { hash = fetch_corpus("austen", packages, {}).sha256; });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(packages.fetches, 1);
  for (const auto& hash : hashes) EXPECT_EQ(hash, sha256_hex(std::string_view(kNovel)));
}

TEST_F(CorpusTest, ConcurrentProcessesFetchOnce) {
  packages.pause = true;
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      int fetched = 9;  // a status that no success has
      try {
        fetch_corpus("austen", packages, {});
        fetched = packages.fetches;
      } catch (...) {
      }
      ::_exit(fetched);
    }
    children.push_back(child);
  }
  int fetches = 0;
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    fetches += WEXITSTATUS(status);
  }
  EXPECT_EQ(fetches, 1);
  EXPECT_EQ(read_file(austen() / "text.txt"), kNovel);
}

TEST_F(CorpusTest, ListSaysWhatIsKnownAndWhatIsCached) {
  fetch_corpus("austen", packages, {});
  const auto list = list_corpora();
  ASSERT_EQ(list.size(), 4u);
  EXPECT_EQ(list[0].name, "austen");
  EXPECT_TRUE(list[0].cached);
  EXPECT_EQ(list[3].name, "code");
  EXPECT_FALSE(list[3].cached);
}

TEST_F(CorpusTest, UnknownNamesAreErrorsThatNameTheKnownOnes) {
  EXPECT_THAT(error_finding({"austin"}),
              HasSubstr("austen, prose, english, code. Did you mean \"austen\"?"));
  EXPECT_THAT(error_finding({"wikipedia"}), ::testing::Not(HasSubstr("Did you mean")));
  EXPECT_THAT(error_finding({"./wikipedia.txt"}), HasSubstr("no such file"));
  EXPECT_THAT(error_finding({"austen", "prose"}), HasSubstr("cannot be mixed"));
  EXPECT_THAT(error_finding({}), HasSubstr("no corpus"));
}

TEST_F(CorpusTest, ADirectoryStandsForItsTextOrItsShards) {
  write_bytes(folder / "texts/b/two.txt", "two");
  write_bytes(folder / "texts/a.txt", "one");
  write_bytes(folder / "texts/readme.md", "no");
  const auto spec = find_corpus({(folder / "texts").string()});
  EXPECT_EQ(spec.paths,
            (std::vector<fs::path>{folder / "texts/a.txt", folder / "texts/b/two.txt"}));
  EXPECT_FALSE(spec.shards);
  write_bytes(folder / "texts/x.bin", "bin");
  EXPECT_THAT(error_finding({(folder / "texts").string()}), HasSubstr("holds both"));
  fs::create_directory(folder / "empty");
  EXPECT_THAT(error_finding({(folder / "empty").string()}), HasSubstr("holds neither"));
  EXPECT_THAT(error_finding({(folder / "texts/a.txt").string(), (folder / "texts/x.bin").string()}),
              HasSubstr("cannot be mixed"));
}

TEST_F(CorpusTest, IdentityOfFilesIsTheirTextAndTheirDivision) {
  const auto identity = [&](const std::string& one, const std::string& two) {
    write_bytes(folder / "1.txt", one);
    write_bytes(folder / "2.txt", two);
    return open_corpus(find_corpus({(folder / "1.txt").string(), (folder / "2.txt").string()}),
                       packages, {})
        .sha256;
  };
  EXPECT_EQ(identity("ab", "c"), identity("ab", "c"));
  EXPECT_NE(identity("ab", "c"), identity("a", "bc"));
  EXPECT_THAT(error_of<std::runtime_error>([&] { identity("", ""); }), HasSubstr("empty"));
}

class DatasetTest : public CorpusTest {
 protected:
  DataConfig config(const std::string& corpus) {
    return {.corpus = {corpus}, .validation_fraction = 0.2, .context = 8, .seed = 1};
  }
  std::string error_opening(const DataConfig& data) {
    return error_of<std::invalid_argument>([&] { open_dataset(data, packages, {}); });
  }
  fs::path shard(const std::string& name, int32_t magic, int32_t version, const std::string& tokens,
                 int32_t vocabulary = 0) {
    std::vector<int32_t> header(256);
    header[0] = magic, header[1] = version,
    header[2] = static_cast<int32_t>(tokens.size() / (version == 7 ? 4 : 2));
    header[3] = vocabulary;
    write_bytes(folder / name, raw(header) + tokens);
    return folder / name;
  }
};

TEST_F(DatasetTest, TextIsTokenisedOnceWithAnEndOfDocumentBeforeEachDocument) {
  int notices = 0;
  const auto count = [&](const std::string&) { ++notices; };
  const auto data = open_dataset(config("austen"), packages, count);
  const int first = notices;
  const auto again = open_dataset(config("austen"), packages, count);
  EXPECT_EQ(notices, first) << "a second opening does no work";
  EXPECT_EQ(again.hash, data.hash);
  EXPECT_EQ(data.vocabulary, 257);
  EXPECT_EQ(data.padded_vocabulary, 320);
  const Shard tokens(*fs::directory_iterator([&] {
    for (const auto& entry : fs::directory_iterator(folder / "cache/tokens")) {
      if (entry.is_directory()) return entry.path();
    }
    return fs::path();
  }()));
  std::vector<int32_t> all(static_cast<size_t>(tokens.tokens()));
  tokens.read(0, tokens.tokens(), 257, all.data());
  EXPECT_EQ(tokens.tokens(), static_cast<int64_t>(std::string(kNovel).size()) + 2);
  EXPECT_EQ(all[0], 256);
  EXPECT_EQ(std::count(all.begin(), all.end(), 256), 2);
  EXPECT_EQ(data.tokenizer->decode(all), kNovel);
  EXPECT_EQ(tokens.metadata().tokenizer_hash, byte_tokenizer()->hash());
}

TEST_F(DatasetTest, HashFollowsTextAndTokenizerOnly) {
  auto data = config("austen");
  const auto hash = open_dataset(data, packages, {}).hash;
  data.seed = 2, data.context = 9, data.validation_fraction = 0.3;
  EXPECT_EQ(open_dataset(data, packages, {}).hash, hash);
  write_bytes(folder / "a.txt", "another text that is long enough for a sample to validate on");
  EXPECT_NE(open_dataset(config((folder / "a.txt").string()), packages, {}).hash, hash);
}

TEST_F(DatasetTest, ForeignShardsHaveTheVocabularyOfTheirFormat) {
  std::vector<uint16_t> narrow(100, 50256);
  std::vector<uint32_t> wide(100, 128255);
  const auto v1 = shard("v1.bin", 20240520, 1, raw(narrow)),
             v7 = shard("v7.bin", 20240801, 7, raw(wide));
  EXPECT_EQ(open_dataset(config(v1.string()), packages, {}).vocabulary, 50257);
  EXPECT_EQ(open_dataset(config(v7.string()), packages, {}).vocabulary, 128256);
  write_bytes(folder / "train.bin", raw(std::vector<uint16_t>(100, 64)));
  auto characters = config((folder / "train.bin").string());
  characters.vocabulary = 65;
  const auto data = open_dataset(characters, packages, {});
  EXPECT_EQ(data.vocabulary, 65);
  EXPECT_EQ(data.padded_vocabulary, 128);
  EXPECT_EQ(data.tokenizer, nullptr);
}

TEST_F(DatasetTest, ABadTokenIsFoundWhenItIsDrawn) {
  std::vector<uint16_t> tokens(100, 1);
  tokens[5] = 60000;
  const auto data =
      open_dataset(config(shard("bad.bin", 20240520, 1, raw(tokens)).string()), packages, {});
  std::vector<int32_t> ids(static_cast<size_t>(data.training.samples()) * 8), targets(ids.size());
  EXPECT_THAT(error_of<std::runtime_error>([&] {
                data.training.fill(0, data.training.samples(), ids.data(), targets.data());
              }),
              HasSubstr("bad.bin: token 60000 at byte 1034"));
}

TEST_F(DatasetTest, ValidationShardsAreHeldOutByName) {
  std::vector<uint16_t> train(50), validation(30);
  std::iota(train.begin(), train.end(), 0);
  std::iota(validation.begin(), validation.end(), 1000);
  shard("set/corpus_val_000000.bin", 20240520, 1, raw(validation));
  shard("set/corpus_train_000001.bin", 20240520, 1, raw(train));
  const auto data = open_dataset(config((folder / "set").string()), packages, {});
  EXPECT_EQ(data.training.tokens(), 50);
  EXPECT_EQ(data.validation.tokens(), 30);
  std::vector<int32_t> ids(8), targets(8);
  data.validation.fill(0, 1, ids.data(), targets.data());
  EXPECT_GE(ids[0], 1000);
}

TEST_F(DatasetTest, ShardsThatContradictAreRefused) {
  const std::string tokens = raw(std::vector<uint16_t>(100, 1));
  shard("set/1.bin", 20240520, 1, tokens, 300);
  shard("set/2.bin", 20240520, 1, tokens, 301);
  EXPECT_THAT(error_opening(config((folder / "set").string())),
              HasSubstr("2.bin: another format, vocabulary or tokenizer"));
  auto other = config(shard("own.bin", 20240520, 1, tokens, 300).string());
  other.tokenizer = TokenizerSpec{};
  EXPECT_THAT(error_opening(other), HasSubstr("its vocabulary is 300, but 257 is asked for"));
  other.tokenizer = TokenizerSpec{.kind = TokenizerSpec::Kind::train, .vocabulary = 400};
  EXPECT_THAT(error_opening(other), HasSubstr("cannot be trained on token shards"));
}

TEST_F(DatasetTest, SaysWhenTheTextIsTooShortForTheContext) {
  auto data = config("austen");
  data.context = 1000;
  EXPECT_THAT(error_opening(data), HasSubstr("corpus austen is too small"));
}

TEST(Process, ReturnsStatusAndBothStreams) {
  const auto result = run_process({"sh", "-c", "echo out; echo err >&2; exit 3"}, "/");
  EXPECT_EQ(result.status, 3);
  EXPECT_EQ(result.output, "out\n");
  EXPECT_EQ(result.errors, "err\n");
  EXPECT_EQ(run_process({"no-such-program-anywhere"}, "/").status, 127);
}

TEST_F(DataTest, AFileIsReplacedWholeOrNotAtAll) {
  write_file_atomically(folder / "deep/er/file", "one");
  write_file_atomically(folder / "deep/er/file", "two");
  EXPECT_EQ(read_file(folder / "deep/er/file"), "two");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder / "deep/er"), {}), 1);
  write_bytes(folder / "plain", "x");
  EXPECT_THAT(
      error_of<std::runtime_error>([&] { write_file_atomically(folder / "plain/file", "x"); }),
      HasSubstr("plain"));
}

TEST(OutputFile, AFullDiskIsAnError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  OutputFile file("/dev/full");
  EXPECT_THAT(error_of<std::runtime_error>([&] {
                file.write(std::string(1 << 20, 'x'));
                file.finish();
              }),
              HasSubstr("/dev/full"));
}

}  // namespace
}  // namespace strait
