// Checkpoints: a training that is stopped and goes on is the one that was never stopped, on any grid; a phase hands over
// everything; what is damaged or does not fit is refused.
#include "engine/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "engine/data/files.h"
#include "tests/engine/pipeline.h"
#include "tests/engine/run_phases.h"
#include "tests/temporary_directory.h"

namespace strait::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// `method`: its name, and behind a space what else is set.
TrainingConfig config(const std::string& method, DType dtype, int pipeline = 3) {
  const size_t space = method.find(' ');
  TrainingConfig c = tiny_run(pipeline, method.substr(0, space), dtype, 7, 2);
  if (space == std::string::npos) return c;
  const std::string what = method.substr(space + 1);
  if (what == "replicas") {
    c.replicas = 2;
    c.microbatches = 1;
    if (c.method.method == "subspace") c.method.update_every = 2;
    return c;
  }
  if (what.starts_with("projected_")) c.method.variant = what;
  if (what != "projected_weights") c.method.update_every = 2;  // between and at checkpoints
  if (what == "keep") c.method.transport = what;
  return c;
}

CheckpointManifest manifest(const TrainingConfig& c, const Snapshot& s) {
  CheckpointManifest m;
  m.step = s.step;
  m.tokens = s.tokens;
  m.record_bytes = 1234;
  m.record_hash = "r";
  m.data_hash = "d";
  m.producer = "test";
  m.method = c.method.method;
  m.constraint = s.constraint;
  m.boundaries = s.boundaries;
  m.shape = c.shape;
  return m;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "";
}

void expect_same_end(const Outcome& whole, const Outcome& rest, int64_t done) {
  EXPECT_EQ(rest.result.parameters_hash, whole.result.parameters_hash);
  ASSERT_EQ(rest.steps.size() + static_cast<size_t>(done), whole.steps.size());
  for (size_t i = 0; i < rest.steps.size(); ++i) {
    const record::StepLog& expected = whole.steps[i + static_cast<size_t>(done)];
    EXPECT_EQ(rest.steps[i].step, expected.step);
    EXPECT_EQ(rest.steps[i].loss, expected.loss);
    EXPECT_EQ(rest.steps[i].grad_norm, expected.grad_norm);
    EXPECT_EQ(rest.steps[i].learning_rate, expected.learning_rate);
  }
}

TEST(Checkpoint, ATrainingGoesOnBitForBitFromEveryCheckpointOnDisk) {
  for (const auto& [method, rule] : {std::pair{"none", UpdateRule::adamw},
                                     std::pair{"subspace", UpdateRule::adamw},
                                     std::pair{"resbm", UpdateRule::adamw},
                                     std::pair{"resbm+iota", UpdateRule::adamw},
                                     std::pair{"frozen", UpdateRule::adamw},
                                     std::pair{"subspace moving", UpdateRule::adamw},
                                     std::pair{"subspace keep", UpdateRule::adamw},
                                     std::pair{"subspace projected_gradient", UpdateRule::adamw},
                                     std::pair{"subspace projected_weights", UpdateRule::adamw},
                                     std::pair{"mapl", UpdateRule::adamw},
                                     std::pair{"mapl+vq", UpdateRule::adamw},
                                     std::pair{"quantize", UpdateRule::adamw},
                                     std::pair{"topk", UpdateRule::adamw},
                                     std::pair{"column_mask", UpdateRule::adamw},
                                     std::pair{"column_mask+anchors", UpdateRule::adamw},
                                     std::pair{"lowrank", UpdateRule::adamw},
                                     std::pair{"topk replicas", UpdateRule::adamw},
                                     std::pair{"lowrank replicas", UpdateRule::adamw},
                                     std::pair{"mapl+vq replicas", UpdateRule::adamw},
                                     std::pair{"subspace replicas", UpdateRule::adamw},
                                     std::pair{"subspace", UpdateRule::muon},
                                     std::pair{"resbm", UpdateRule::muon},
                                     std::pair{"mapl", UpdateRule::muon}})
    for (const DType dtype : {DType::f32, DType::bf16}) {
      SCOPED_TRACE(std::string(method) + " " + name_of(dtype) +
                   (rule == UpdateRule::muon ? " muon" : ""));
      TrainingConfig c = config(method, dtype);
      c.optimizer.rule = rule;
      c.method.rounding = "stochastic";
      c.method.error_feedback = "per_microbatch";
      c.method.refresh = 2;
      const HashedTokens data(c.shape);
      const Outcome whole = run({{c, &data}}, {.checkpoint_every = 3});
      ASSERT_EQ(whole.snapshots.size(), 3u);  // after 3 and 6, and after the last step, 7
      EXPECT_EQ(whole.snapshots.back().step, 7);
      for (const Snapshot& s : whole.snapshots) {
        const TemporaryDirectory folder;
        const fs::path written = write_checkpoint(folder.path(), s, manifest(c, s));
        const Snapshot read = read_checkpoint(written, true);
        EXPECT_EQ(read.tokens, static_cast<uint64_t>(s.step * c.batch * c.shape.context));
        expect_same_end(whole, run({{c, &data}}, {.start = &read}), s.step);
      }
    }
}

// What tokens of a batch have lost means nothing to another batch: it begins afresh.
TEST(Checkpoint, ErrorsOfOtherBatchesAreLeftBehind) {
  TrainingConfig c = config("topk", DType::f32);
  c.method.error_feedback = "per_microbatch";
  TrainingConfig later = c;
  later.first_step = 4;
  later.microbatches = 4;
  later.tokens_before = 3u * static_cast<uint64_t>(c.batch * c.shape.context);
  const HashedTokens data(c.shape);
  const Outcome o = run({{c, &data}, {later, &data}});
  EXPECT_EQ(o.steps.size(), 7u);
}

TEST(Checkpoint, BelongsToNoGrid) {
  const TrainingConfig one = config("none", DType::f32, 1), four = config("none", DType::f32, 4);
  const HashedTokens data(one.shape);
  const Outcome whole = run({{one, &data}}, {.checkpoint_every = 4});
  const Outcome rest = run({{four, &data}}, {.start = &whole.snapshots[0]});
  ASSERT_EQ(rest.steps.size(), 3u);
  for (size_t i = 0; i < 3; ++i)  // the grids agree to rounding (grid_test.cpp)
    EXPECT_NEAR(rest.steps[i].loss, whole.steps[i + 4].loss, 1e-5);
}

TEST(Checkpoint, AStopLeavesOneFromWhichTheTrainingGoesOn) {
  const TrainingConfig c = config("subspace", DType::f32);
  const HashedTokens data(c.shape);
  const Outcome whole = run({{c, &data}});
  for (const int64_t every : {0, 3, 4}) {
    const Outcome begun = run({{c, &data}}, {.checkpoint_every = every, .stop_after = 4});
    ASSERT_TRUE(begun.result.stopped);
    const Snapshot& last = begun.snapshots.back();
    EXPECT_EQ(last.step, begun.result.steps);
    expect_same_end(whole, run({{c, &data}}, {.start = &last}), last.step);
  }
}

TEST(Checkpoint, APhaseThatChangesNothingChangesNothing) {
  const TrainingConfig c = config("subspace", DType::bf16);
  const HashedTokens data(c.shape);
  const Outcome whole = run({{c, &data}});
  TrainingConfig later = c;
  later.first_step = 4;
  later.tokens_before = 3u * static_cast<uint64_t>(c.batch * c.shape.context);
  const std::vector<TrainingPhase> phases = {{c, &data}, {later, &data}};
  const Outcome two = run(phases, {.checkpoint_every = 2});
  expect_same_end(whole, two, 0);
  ASSERT_EQ(two.evaluations.size(), whole.evaluations.size());
  for (size_t i = 0; i < two.evaluations.size(); ++i)
    EXPECT_EQ(two.evaluations[i].tokens, whole.evaluations[i].tokens);
  for (const Snapshot& s : two.snapshots)  // before, at and after the change
    expect_same_end(whole, run(phases, {.start = &s}), s.step);
  for (const int64_t stop : {2, 3, 4}) {
    const Outcome begun = run(phases, {.stop_after = stop});
    ASSERT_TRUE(begun.result.stopped);
    expect_same_end(whole, run(phases, {.start = &begun.snapshots.back()}), begun.result.steps);
  }
}

TEST(Checkpoint, PhasesChangeContextAndMethodOnTheWay) {
  const TrainingConfig c = config("none", DType::f32);
  TrainingConfig longer = c;
  longer.first_step = 3;
  longer.shape.context = 2 * c.shape.context;
  longer.tokens_before = 2u * static_cast<uint64_t>(c.batch * c.shape.context);
  TrainingConfig slower = longer;
  slower.first_step = 6;
  slower.learning_rate.peak = 1e-3;
  slower.tokens_before += 3u * static_cast<uint64_t>(longer.batch * longer.shape.context);
  const HashedTokens short_data(c.shape), long_data(longer.shape);
  const Outcome o = run({{c, &short_data}, {longer, &long_data}, {slower, &long_data}});
  ASSERT_EQ(o.steps.size(), 7u);
  for (size_t i = 0; i < 7; ++i)
    EXPECT_EQ(o.steps[i].tokens,
              static_cast<uint64_t>(c.batch * (i < 2 ? c : longer).shape.context));
  EXPECT_EQ(o.evaluations.back().tokens,
            slower.tokens_before + 2u * static_cast<uint64_t>(c.batch * longer.shape.context));
  EXPECT_NEAR(o.steps[5].learning_rate, 0.1 * c.learning_rate.at(6), 1e-12);
}

TEST(Checkpoint, WhatIsOfAnotherModelIsRefusedBeforeAnythingIsTrained) {
  const TrainingConfig held = config("subspace", DType::f32);
  const HashedTokens data(held.shape);
  const auto refusal = [&](const std::vector<TrainingPhase>& phases, const Snapshot* start) {
    bool trained = false;
    TrainingObserver observer;
    observer.step = [&](const record::StepLog&) { trained = true; };
    const std::string text =
        error_of([&] { train(phases, BackendKind::cpu, 2, {start}, observer); });
    EXPECT_FALSE(trained);
    return text;
  };
  Snapshot state = run({{held, &data}}, {.stop_after = 1}).snapshots.back();
  TrainingConfig other = held;  // parameters of the same names and sizes
  other.shape.heads /= 2;
  other.shape.kv_heads /= 2;
  other.shape.head_width *= 2;
  EXPECT_THAT(refusal({{other, &data}}, &state), HasSubstr("whose heads is 4; here it is 2"));
  other = held;
  other.shape.layers -= 1;
  EXPECT_THAT(refusal({{other, &data}}, &state), HasSubstr("whose layers is 6; here it is 5"));
  state.parameters.pop_back();
  EXPECT_THAT(refusal({{held, &data}}, &state), HasSubstr("has no parameter "));
}

TEST(Checkpoint, ParametersAloneStartANewTraining) {
  const TrainingConfig c = config("none", DType::bf16);
  const HashedTokens data(c.shape);
  Outcome first = run({{c, &data}}, {.checkpoint_every = 7});
  const TemporaryDirectory folder;
  Snapshot state = read_checkpoint(
      write_checkpoint(folder.path(), first.snapshots[0], manifest(c, first.snapshots[0])), false);
  state.step = 0;
  const Outcome second = run({{c, &data}}, {.start = &state});
  EXPECT_EQ(second.steps.size(), 7u);
  EXPECT_EQ(second.evaluations.front().validation_loss, first.evaluations.back().validation_loss);
  EXPECT_NE(second.steps[0].loss, first.steps[0].loss);
}

TEST(Checkpoint, EveryFlippedByteIsSeen) {
  const TrainingConfig c = config("none", DType::f32, 1);
  const HashedTokens data(c.shape);
  const Outcome o = run({{c, &data}}, {.checkpoint_every = 7});
  const TemporaryDirectory folder;
  const fs::path written =
      write_checkpoint(folder.path(), o.snapshots[0], manifest(c, o.snapshots[0]));
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    const std::string good = read_file(written / name);
    for (const size_t at : {size_t{0}, size_t{20}, good.size() / 2, good.size() - 1}) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 1);
      write_file_atomically(written / name, bad);
      EXPECT_THAT(error_of([&] { read_checkpoint(written, true); }),
                  HasSubstr(std::string(name) + " is damaged"));
    }
    write_file_atomically(written / name, good);
  }
  const std::string text = read_file(written / "manifest.json");
  write_file_atomically(written / "manifest.json", text.substr(0, text.size() / 2));
  EXPECT_THAT(error_of([&] { read_checkpoint(written, true); }), HasSubstr("not a manifest"));
  EXPECT_TRUE(list_checkpoints(folder.path()).empty());
}

// Checkpoints without parameters, of which only the manifests count.
class CheckpointFolder {
 public:
  const fs::path& path() const { return path_; }
  fs::path write(int64_t step, bool interrupted) const {
    Snapshot s;
    s.step = step;
    CheckpointManifest m = manifest(config("none", DType::f32, 1), s);
    m.interrupted = interrupted;
    return write_checkpoint(path_, s, m);
  }
  std::vector<int64_t> steps() const {
    std::vector<int64_t> steps;
    for (const Checkpoint& found : list_checkpoints(path_)) steps.push_back(found.manifest.step);
    return steps;
  }

 private:
  TemporaryDirectory directory_;
  fs::path path_ = directory_.path();
};

using Steps = std::vector<int64_t>;

TEST(Checkpoint, OldInterruptedAndHalfOnesGo) {
  const CheckpointFolder folder;
  for (const int64_t step : {10, 20}) folder.write(step, false);
  folder.write(25, true);
  folder.write(30, false);
  fs::create_directories(folder.path() / "step_00000040.tmp-abcdef");
  prune_checkpoints(folder.path(), 2, false);
  EXPECT_EQ(folder.steps(), (Steps{20, 30}));
  EXPECT_FALSE(fs::exists(folder.path() / "step_00000040.tmp-abcdef"));
  folder.write(35, true);
  prune_checkpoints(folder.path(), 0, false);
  EXPECT_EQ(folder.steps(), (Steps{20, 30, 35}));
  EXPECT_EQ(find_checkpoint(folder.path()), folder.path() / "step_00000035");
  prune_checkpoints(folder.path(), 0, true);
  EXPECT_EQ(folder.steps(), (Steps{20, 30}));
  EXPECT_THAT(error_of([&] { find_checkpoint(folder.path() / "nothing"); }),
              HasSubstr("no checkpoint there"));
}

// A damaged checkpoint is the newest until the training reaches its step again. It must not be the one that is kept.
TEST(Checkpoint, ATrainingThatWentBackBehindADamagedOneKeepsItsOwn) {
  const CheckpointFolder folder;
  folder.write(10, false);
  write_file_atomically(folder.write(30, false) / "model.safetensors", "damaged");
  folder.write(15, true);
  prune_checkpoints(folder.path(), 1, false);
  EXPECT_EQ(folder.steps(), (Steps{15}));
}

}  // namespace
}  // namespace strait::testing
