// The cache of finished trainings: what goes in comes out, damage is noticed, leftovers of killed
// processes do not matter, writers do not disturb each other.
#include "sim/sweep/cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>

#include "tests/sim/record_file.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;
using strait::testing::read_file;
using strait::testing::TemporaryDirectory;
using strait::testing::write_file;

const std::string key(64, 'a'), other_key(64, 'b');

class Cache : public ::testing::Test {
 protected:
  fs::path make_run(const std::string& name, const std::string& record = "record bytes",
                    bool checkpoints = true) {
    const fs::path run = folder.file(name);
    fs::create_directories(run / "record");
    write_file((run / "record/log.strait").string(), record);
    if (checkpoints) {
      fs::create_directories(run / "checkpoints/step_00000010");
      write_file((run / "checkpoints/step_00000010/model.safetensors").string(), "weights");
      write_file((run / "checkpoints/step_00000010/manifest.json").string(), "{}");
    }
    return run;
  }
  fs::path empty_run(const std::string& name) {
    fs::create_directories(fs::path(folder.file(name)) / "record");
    return folder.file(name);
  }
  static TrainingDescription description() {
    return {"test", {"r", "d", "cpu", "avx2", "strait"}, {{"seed", 1}}, 12.5};
  }
  // As if it had been stored long ago and taken last that many hours ago.
  void age(const std::string& entry, int hours) {
    const std::string manifest = (cache.root() / entry / "manifest.json").string();
    auto json = nlohmann::ordered_json::parse(read_file(manifest));
    json["stored"] = 0;
    write_file(manifest, json.dump());
    fs::last_write_time(manifest, fs::file_time_type::clock::now() - std::chrono::hours(hours));
  }
  std::vector<std::string> names_in_cache() {
    std::vector<std::string> names;
    for (const auto& item : fs::directory_iterator(cache.root()))
      names.push_back(item.path().filename().string());
    return names;
  }

  TemporaryDirectory folder;
  RunCache cache{fs::path(folder.file("cache"))};
};

TEST_F(Cache, GivesBackWhatWasStoredFileByFile) {
  EXPECT_FALSE(cache.has(key));
  EXPECT_FALSE(cache.fetch(key, empty_run("none")));
  cache.store(key, make_run("run"), description());
  EXPECT_TRUE(cache.has(key));
  const fs::path copy = empty_run("copy");
  ASSERT_TRUE(cache.fetch(key, copy));
  for (const char* file : {"record/log.strait", "checkpoints/step_00000010/model.safetensors",
                           "checkpoints/step_00000010/manifest.json"})
    EXPECT_EQ(read_file((copy / file).string()), read_file(folder.file("run") + "/" + file))
        << file;
  EXPECT_FALSE(fs::exists(copy / ".cache.part"));
  EXPECT_FALSE(cache.fetch(other_key, copy));
}

TEST_F(Cache, LeavesNothingInTheRunButWhatWasStored) {
  cache.store(key, make_run("run", "whole record", false), description());
  // A run that was interrupted, and then killed while it took the same training from the cache.
  const fs::path run = make_run("killed", "half a rec");
  fs::create_directories(run / ".cache.part/record");
  write_file((run / "record/log.strait.part").string(), "whole");
  ASSERT_TRUE(cache.fetch(key, run));
  EXPECT_EQ(read_file((run / "record/log.strait").string()), "whole record");
  EXPECT_FALSE(fs::exists(run / "checkpoints"));
  EXPECT_FALSE(fs::exists(run / ".cache.part"));
  EXPECT_FALSE(fs::exists(run / "record/log.strait.part"));
}

TEST_F(Cache, ThatCannotPutTheRecordInPlaceLeavesNothing) {
  cache.store(key, make_run("run"), description());
  const fs::path run = empty_run("blocked");
  fs::create_directory(run / "record/log.strait");
  EXPECT_THROW(cache.fetch(key, run), CacheError);
  EXPECT_FALSE(fs::exists(run / ".cache.part"));
  EXPECT_FALSE(fs::exists(run / "record/log.strait.part"));
  EXPECT_TRUE(cache.has(key));
}

TEST_F(Cache, ListsWhatTheManifestSays) {
  cache.store(key, make_run("run", "12345", false), description());
  const auto entries = cache.list();
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].key, key);
  EXPECT_EQ(entries[0].size.count, 5U);
  EXPECT_EQ(entries[0].description.name, "test");
  EXPECT_EQ(entries[0].description.identity.backend, "cpu");
  EXPECT_EQ(entries[0].description.host_seconds, 12.5);
  EXPECT_EQ(entries[0].description.scenario["seed"], 1);
}

TEST_F(Cache, RemovesAnEntryWithAnyChangedByteAndLeavesNothingInTheRun) {
  for (const char* file : {"record/log.strait", "checkpoints/step_00000010/model.safetensors"}) {
    cache.store(key, make_run("run"), description());
    const std::string path = (cache.root() / key / file).string();
    std::string bytes = read_file(path);
    bytes[bytes.size() / 2] ^= 1;
    write_file(path, bytes);
    const fs::path copy = empty_run("copy");
    EXPECT_FALSE(cache.fetch(key, copy)) << file;
    EXPECT_FALSE(fs::exists(cache.root() / key)) << file;
    EXPECT_TRUE(fs::is_empty(copy / "record")) << file;
    EXPECT_FALSE(fs::exists(copy / "checkpoints")) << file;
    EXPECT_FALSE(fs::exists(copy / ".cache.part")) << file;
  }
}

TEST_F(Cache, RemovesAnEntryWithAMissingFileOrAForeignManifest) {
  const std::string stored = [&] {
    cache.store(key, make_run("run"), description());
    return read_file((cache.root() / key / "manifest.json").string());
  }();
  std::string foreign = stored, outside = stored;
  foreign.replace(foreign.find(key), key.size(), other_key);
  outside.replace(outside.find("checkpoints/step"), 16, "../../../../step");
  for (const std::string& manifest : {foreign, outside, stored.substr(0, stored.size() / 2),
                                      std::string("[]"), std::string("")}) {
    fs::remove_all(cache.root() / key);
    cache.store(key, folder.file("run"), description());
    write_file((cache.root() / key / "manifest.json").string(), manifest);
    EXPECT_FALSE(cache.has(key));
    EXPECT_FALSE(cache.fetch(key, empty_run("copy")));
    EXPECT_FALSE(fs::exists(cache.root() / key));
  }
  cache.store(key, folder.file("run"), description());
  fs::remove(cache.root() / key / "record/log.strait");
  EXPECT_FALSE(cache.fetch(key, empty_run("copy")));
  EXPECT_FALSE(fs::exists(cache.root() / key));
}

TEST_F(Cache, StoresAgainWhatWasDamaged) {
  cache.store(key, make_run("run"), description());
  write_file((cache.root() / key / "manifest.json").string(), "torn");
  cache.store(key, folder.file("run"), description());
  EXPECT_TRUE(cache.fetch(key, empty_run("copy")));
}

TEST_F(Cache, KeepsTheEntryThatIsThere) {
  cache.store(key, make_run("run", "first"), description());
  cache.store(key, make_run("second", "second"), description());
  ASSERT_TRUE(cache.fetch(key, empty_run("copy")));
  EXPECT_EQ(read_file(folder.file("copy") + "/record/log.strait"), "first");
}

TEST_F(Cache, RemovesWhatKilledWritersLeft) {
  cache.store(key, make_run("run"), description());
  fs::create_directories(cache.root() / ("." + other_key + ".part") / "record");
  fs::create_directories(cache.root() / ("." + other_key + ".gone"));
  EXPECT_EQ(cache.list().size(), 1U);
  cache.store(other_key, folder.file("run"), description());
  EXPECT_THAT(names_in_cache(), ::testing::UnorderedElementsAre(key, other_key));
}

TEST_F(Cache, SaysWhyItCannotStoreAndLeavesNothing) {
  const fs::path run = make_run("run");
  fs::remove(run / "record/log.strait");
  EXPECT_THROW(cache.store(key, run, description()), CacheError);
  EXPECT_TRUE(names_in_cache().empty());
  EXPECT_THROW(cache.store("../x", make_run("good"), description()), CacheError);
}

TEST_F(Cache, PrunesByAgeBySizeAndAltogether) {
  make_run("run", "123456789", false);
  std::vector<std::string> keys;
  for (char c = '0'; c < '4'; ++c) {
    keys.emplace_back(64, c);
    cache.store(keys.back(), folder.file("run"), description());
    age(keys.back(), 24 * ('4' - c));
  }
  const auto left = [&] {
    std::vector<std::string> found;
    for (const CacheEntry& entry : cache.list()) found.push_back(entry.key);
    return found;
  };
  EXPECT_THAT(left(), ::testing::ElementsAre(keys[3], keys[2], keys[1], keys[0]));
  RunCache::PruneRule old;
  old.not_taken_since = std::time(nullptr) - 86'400 * 7 / 2;
  EXPECT_EQ(cache.prune(old).entries, 1);
  EXPECT_THAT(left(), ::testing::ElementsAre(keys[3], keys[2], keys[1]));
  RunCache::PruneRule large;
  large.keep_size = Bytes{18};
  const auto pruned = cache.prune(large);
  EXPECT_EQ(pruned.entries, 1);
  EXPECT_GE(pruned.size.count, 9U);
  EXPECT_THAT(left(), ::testing::ElementsAre(keys[3], keys[2]));
  EXPECT_EQ(cache.prune({}).entries, 0);
  RunCache::PruneRule all;
  all.all = true;
  EXPECT_EQ(cache.prune(all).entries, 2);
  EXPECT_TRUE(names_in_cache().empty());
  EXPECT_EQ(RunCache(fs::path(folder.file("nowhere"))).prune(all).entries, 0);
}

TEST_F(Cache, TakingAnEntryMakesItTheLatest) {
  make_run("run");
  cache.store(key, folder.file("run"), description());
  cache.store(other_key, folder.file("run"), description());
  age(key, 2);
  age(other_key, 1);
  EXPECT_EQ(cache.list().front().key, other_key);
  ASSERT_TRUE(cache.fetch(key, empty_run("copy")));
  EXPECT_EQ(cache.list().front().key, key);
}

TEST_F(Cache, ManyWritersAndReadersAtOnceSeeOnlyWholeEntries) {
  const std::string record(300'000, 'r');
  make_run("run", record);
  std::atomic<int> taken{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      const fs::path copy = folder.file("copy" + std::to_string(t));
      fs::create_directories(copy / "record");
      for (int i = 0; i < 10; ++i) {
        cache.store(key, folder.file("run"), description());
        if (cache.fetch(key, copy)) {
          EXPECT_EQ(read_file((copy / "record/log.strait").string()), record);
          ++taken;
        }
        if (i % 4 == t) {
          RunCache::PruneRule all;
          all.all = true;
          cache.prune(all);
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(taken, 0);
}

TEST(TrainingKey, DependsOnEveryPartOfTheIdentity) {
  const TrainingIdentity identity = {"r", "d", "cpu", "avx2", "strait"};
  const std::string reference = training_key(identity);
  EXPECT_EQ(reference.size(), 64U);
  EXPECT_EQ(training_key(identity), reference);
  for (std::string TrainingIdentity::*member :
       {&TrainingIdentity::record_hash, &TrainingIdentity::data_hash, &TrainingIdentity::backend,
        &TrainingIdentity::device, &TrainingIdentity::program}) {
    TrainingIdentity changed = identity;
    (changed.*member) += "x";
    EXPECT_NE(training_key(changed), reference);
  }
}

TEST(ProgramIdentity, NamesVersionCommitAndBuild) {
  EXPECT_THAT(program_identity(),
              ::testing::MatchesRegex("strait [0-9.]+ \\([0-9a-z]+\\) [0-9a-f]+-[0-9a-f]{16}"));
}

}  // namespace
}  // namespace strait::sweep
