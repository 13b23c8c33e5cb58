// The record: what is written is read back, structures are stored once, wrong frames are refused, a
// full disk leaves a whole file, and a reader may follow a writer.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <thread>

#include "sim/record/reader.h"
#include "sim/record/validate.h"
#include "sim/record/writer.h"
#include "tests/sim/log_builder.h"
#include "tests/sim/record_file.h"

namespace strait::record {
namespace {

using namespace strait::testing;
using ::testing::HasSubstr;

// Bitwise, so that a NaN equals itself.
bool same_bits(double a, double b) {
  return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

void expect_same(const StepLog& a, const StepLog& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_TRUE(same_bits(a.loss, b.loss));
  EXPECT_TRUE(same_bits(a.grad_norm, b.grad_norm));
  EXPECT_TRUE(same_bits(a.learning_rate, b.learning_rate));
  EXPECT_TRUE(a.ranks == b.ranks);
}

// Steps of one structure with other times and sizes.
std::vector<StepLog> varied_steps(int count) {
  std::mt19937_64 random(3);
  std::vector<StepLog> steps;
  for (int s = 1; s <= count; ++s) {
    StepLog step = pipeline_step(3, 4, {1'000'000, 2'000'000, 5'000, 1000, 70'000}, gpipe_order, s);
    for (RankLog& rank : step.ranks)
      for (Entry& entry : rank.entries) {
        if (auto* compute = std::get_if<Compute>(&entry.action))
          compute->measured.count += static_cast<int64_t>(random() % 1000);
        if (auto* send = std::get_if<Send>(&entry.action)) send->payload.count += random() % 3;
      }
    steps.push_back(step);
  }
  return steps;
}

std::vector<Frame> small_record() {
  std::vector<Frame> frames = record_of(make_header(3), Evaluation{0, 0, 5.5});
  for (const StepLog& step : varied_steps(3)) add_frame(frames, step);
  add_frame(frames, Diagnostic{2, 1, "residual", 0.25});
  add_frame(frames, Evaluation{3, 300, 4.25});
  add_frame(frames, RecordFooter{3, 12.5, "aa", "bb"});
  return frames;
}

TEST(Record, ReadsBackWhatWasWritten) {
  for (const Encoding encoding : {Encoding::zstd, Encoding::stored}) {
    TemporaryDirectory directory;
    const std::string path = directory.file("log.strait");
    const auto frames = small_record();
    write_frames(path, frames, encoding);
    const auto read = read_frames(path);
    ASSERT_EQ(read.size(), frames.size());
    const auto& header = std::get<RecordHeader>(read[0]);
    EXPECT_EQ(header.producer, "test");
    EXPECT_EQ(header.record_hash, "0123");
    EXPECT_EQ(header.seed, 7u);
    EXPECT_EQ(header.op_names, make_header(3).op_names);
    EXPECT_EQ(header.ranks[2].layers, "layer 2");
    EXPECT_EQ(header.ranks[2].scratch.count, 60u);
    for (size_t i = 0; i < 3; ++i)
      expect_same(std::get<StepLog>(read[2 + i]), std::get<StepLog>(frames[2 + i]));
    EXPECT_EQ(std::get<Diagnostic>(read[5]).name, "residual");
    EXPECT_EQ(std::get<Diagnostic>(read[5]).value, 0.25);
    EXPECT_EQ(std::get<Evaluation>(read[6]).validation_loss, 4.25);
    EXPECT_EQ(std::get<RecordFooter>(read[7]).parameters_hash, "aa");
    EXPECT_EQ(std::get<RecordFooter>(read[7]).host_seconds, 12.5);
  }
}

TEST(Record, KeepsRandomLogsOfAnyStructure) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  std::mt19937_64 random(5);
  std::vector<Frame> frames = record_of(make_header(4));
  for (int s = 1; s <= 40; ++s) {
    // Every third step repeats the structure of an earlier one, so slots are found again and,
    // beyond eight, replaced.
    StepLog step = s % 3 == 0 ? std::get<StepLog>(frames[static_cast<size_t>(s) / 3])
                              : random_step(random, 4, s, 60);
    step.step = s;
    step.loss = s % 5 == 0 ? std::nan("") : 1.0 / s;
    add_frame(frames, step);
  }
  write_frames(path, frames);
  const auto read = read_frames(path);
  ASSERT_EQ(read.size(), frames.size());
  for (size_t i = 1; i < frames.size(); ++i)
    expect_same(std::get<StepLog>(read[i]), std::get<StepLog>(frames[i]));
}

// A step of S bytes that changes nothing but its scalars costs a frame header (24) and 24 + 5
// bytes, whatever its length.
TEST(Record, StoresAStructureOnce) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  RecordWriter writer(path, Encoding::stored);
  writer.write(make_header(4));
  StepLog step = pipeline_step(4, 16, {1'000'000, 2'000'000, 5'000, 1000}, gpipe_order);
  writer.write(step);
  const auto after_first = std::filesystem::file_size(path);
  for (int s = 2; s <= 11; ++s) {
    step.step = s;
    writer.write(step);
  }
  EXPECT_EQ(std::filesystem::file_size(path) - after_first, 10u * (24 + 24 + 4));
}

TEST(Record, FollowsAWriter) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  const auto steps = varied_steps(200);
  RecordWriter writer(path);
  RecordReader reader(path);
  EXPECT_FALSE(reader.next().has_value());
  std::thread producer([&] {
    writer.write(make_header(3));
    for (const StepLog& step : steps) writer.write(step);
    writer.write(RecordFooter{200, 1, "", ""});
  });
  std::vector<Frame> read;
  while (!reader.finished()) {
    if (auto frame = reader.next()) {
      read.push_back(std::move(*frame));
    } else {
      std::this_thread::yield();
    }
  }
  producer.join();
  ASSERT_EQ(read.size(), 202u);
  for (size_t i = 0; i < steps.size(); ++i) expect_same(std::get<StepLog>(read[i + 1]), steps[i]);
  EXPECT_FALSE(reader.next().has_value());
  EXPECT_FALSE(reader.torn_tail().has_value());
}

// The example of docs/record_format.md is run as it stands there.
TEST(Record, TheDocumentedWriterWritesAReadableRecord) {
  if (std::system("python3 -c 'import zlib' >/dev/null 2>&1") != 0) GTEST_SKIP() << "no python3";
  TemporaryDirectory directory;
  const std::string page = read_file(std::string(STRAIT_SOURCE_DIR) + "/docs/record_format.md");
  const size_t begin = page.find("```python\n") + 10, end = page.find("```", begin);
  ASSERT_NE(end, std::string::npos);
  write_file(directory.file("example.py"), page.substr(begin, end - begin));
  const std::string path = directory.file("log.strait");
  ASSERT_EQ(std::system(fmt::format("python3 {} {}", directory.file("example.py"), path).c_str()),
            0);

  const auto frames = read_frames(path);
  ASSERT_EQ(frames.size(), 5u);
  StepBuilder expected(2, 2);
  expected.compute(0, 2'000'000);
  expected.receive(1, expected.send(0, 1, 4'000));
  expected.compute(1, 2'500'000);
  for (RankLog& rank : expected.log.ranks)
    for (Entry& entry : rank.entries)
      if (auto* compute = std::get_if<Compute>(&entry.action))
        compute->ops = {{0, OpClass::matrix, false, 2'000'000, 8'000}};
  const StepLog& step = std::get<StepLog>(frames[2]);
  EXPECT_TRUE(step.ranks == expected.log.ranks);
  EXPECT_EQ(step.tokens, 512u);
  EXPECT_EQ(step.loss, 5.25);
  EXPECT_EQ(std::get<RecordFooter>(frames[4]).steps, 2);
}

// ---- the writer refuses ----

std::string refusal(const std::vector<Frame>& good, const Frame& bad) {
  TemporaryDirectory directory;
  RecordWriter writer(directory.file("log.strait"));
  for (const Frame& frame : good) writer.write(frame);
  const auto size = std::filesystem::file_size(directory.file("log.strait"));
  try {
    writer.write(bad);
  } catch (const std::invalid_argument& error) {
    EXPECT_EQ(std::filesystem::file_size(directory.file("log.strait")), size)
        << "something was written";
    return error.what();
  }
  return "";
}

std::string step_refusal(const StepBuilder& builder) {
  return refusal({make_header(2)}, builder.log);
}

TEST(RecordWriter, RefusesFramesOutOfOrder) {
  const StepLog first = pipeline_step(2, 1, {1, 1, 1, 1}, gpipe_order, 1),
                third = pipeline_step(2, 1, {1, 1, 1, 1}, gpipe_order, 3);
  const RecordFooter footer{1, 0, "", ""};
  EXPECT_THAT(refusal({}, first), HasSubstr("does not begin with its header"));
  EXPECT_THAT(refusal({make_header(2)}, make_header(2)), HasSubstr("a second header"));
  EXPECT_THAT(refusal({make_header(2), first}, third), HasSubstr("step 3 follows step 1"));
  EXPECT_THAT(refusal({make_header(2)}, Evaluation{1, 0, 1}),
              HasSubstr("an evaluation after step 1"));
  EXPECT_THAT(refusal({make_header(2)}, Diagnostic{1, 0, "x", 1}),
              HasSubstr("a diagnostic of step 1"));
  EXPECT_THAT(refusal({make_header(2)}, footer),
              HasSubstr("the footer counts 1 steps, the record holds 0"));
  EXPECT_THAT(refusal({make_header(2), first, footer}, Evaluation{1, 0, 1}),
              HasSubstr("after the footer"));
}

TEST(RecordWriter, RefusesHeadersThatContradictThemselves) {
  RecordHeader wrong_count = make_header(2), wrong_place = make_header(2, 2),
               no_grid = make_header(1);
  wrong_count.ranks.pop_back();
  std::swap(wrong_place.ranks[1], wrong_place.ranks[2]);
  no_grid.data = 0;
  EXPECT_THAT(refusal({}, wrong_count), HasSubstr("1 ranks in a grid of 2 x 1 x 1"));
  EXPECT_THAT(refusal({}, wrong_place),
              HasSubstr("rank 1 is said to be stage 0, shard 1, replica 0"));
  EXPECT_THAT(refusal({}, no_grid), HasSubstr("a grid of 1 x 1 x 0"));
}

TEST(RecordWriter, RefusesMessagesThatDoNotMatch) {
  StepBuilder ranks(3), to_itself(2), to_nobody(2), lost(2), unsent(2), twice(2), wrong_rank(2),
      wrong_id(2), doubled(2);
  EXPECT_THAT(step_refusal(ranks), HasSubstr("a step of 3 ranks in a record of 2"));
  to_itself.send(0, 0, 10);
  EXPECT_THAT(step_refusal(to_itself), HasSubstr("rank 0, entry 0: sends to rank 0"));
  to_nobody.send(0, 2, 10);
  EXPECT_THAT(step_refusal(to_nobody), HasSubstr("sends to rank 2"));
  lost.send(0, 1, 10);
  EXPECT_THAT(step_refusal(lost), HasSubstr("message 0 of rank 0 to rank 1 is never received"));
  unsent.receive(1, 4);
  EXPECT_THAT(
      step_refusal(unsent),
      HasSubstr("rank 1, entry 0: receives message 4 of rank 0, which that rank does not send"));
  const uint64_t id = twice.send(0, 1, 10);
  twice.receive(1, id);
  twice.receive(1, id);
  EXPECT_THAT(step_refusal(twice), HasSubstr("receives message 0 of rank 0 a second time"));
  wrong_rank.receive(0, wrong_rank.send(0, 1, 10));
  EXPECT_THAT(step_refusal(wrong_rank), HasSubstr("does not send to it"));
  wrong_id.receive(1, wrong_id.send(0, 1, 10));
  std::get<Send>(wrong_id.log.ranks[0].entries[0].action).id = uint64_t{1} << 32;
  EXPECT_THAT(step_refusal(wrong_id), HasSubstr("does not carry its sender's rank"));
  doubled.send(0, 1, 10);
  doubled.send(0, 1, 10);
  std::get<Send>(doubled.log.ranks[0].entries[1].action).id = 0;
  EXPECT_THAT(step_refusal(doubled), HasSubstr("rank 0 sends message 0 twice"));
}

TEST(RecordWriter, RefusesEventsOpsAndValuesOutOfRange) {
  StepBuilder signals(2), waits(2), ops(2), negative(2), empty(2), dense(2);
  signals.signal(1, 3, 0);
  signals.signal(1, 3, 1);
  EXPECT_THAT(step_refusal(signals), HasSubstr("rank 1 signals event 3 twice"));
  waits.signal(0, 3, 0);
  waits.wait(1, 3, 0);
  EXPECT_THAT(step_refusal(waits),
              HasSubstr("rank 1, entry 0: waits for event 3, which is not signalled"));
  ops.compute(0, 5);
  std::get<Compute>(ops.log.ranks[0].entries[0].action).ops[0].name = 3;
  EXPECT_THAT(step_refusal(ops), HasSubstr("rank 0, entry 0: op name 3 of 3"));
  negative.compute(0, 5);
  std::get<Compute>(negative.log.ranks[0].entries[0].action).measured.count = -1;
  EXPECT_THAT(step_refusal(negative), HasSubstr("measured time -1 ns"));
  empty.receive(1, empty.send(0, 1, 0));
  EXPECT_THAT(step_refusal(empty), HasSubstr("a message of 0 + 0 bytes"));
  dense.receive(1, dense.send(0, 1, 10, MessageKind::sync));
  std::get<Send>(dense.log.ranks[0].entries[0].action).dense.count = 1;
  EXPECT_THAT(step_refusal(dense), HasSubstr("a sync message with dense size 1"));
  std::get<Send>(dense.log.ranks[0].entries[0].action).dense.count = 10;  // what every method sends
  record::validate_values(dense.log);
}

TEST(RecordWriter, GoesOnAfterARefusedStep) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  const auto steps = varied_steps(2);
  RecordWriter writer(path);
  writer.write(make_header(3));
  writer.write(steps[0]);
  StepLog wrong = steps[1];
  std::get<Compute>(wrong.ranks[0].entries[0].action).measured.count = -5;
  EXPECT_THROW(writer.write(wrong), std::invalid_argument);
  writer.write(steps[1]);
  const auto read = read_frames(path);
  ASSERT_EQ(read.size(), 3u);
  expect_same(std::get<StepLog>(read[2]), steps[1]);
}

// ---- going on after an interruption ----

// Nine structures, so that slots have been replaced where the writer goes on.
std::vector<Frame> changing_record() {
  std::mt19937_64 random(9);
  std::vector<Frame> frames = record_of(make_header(4), Evaluation{0, 0, 5.5});
  std::vector<StepLog> steps;
  for (int s = 1; s <= 24; ++s) {
    steps.push_back(s > 9 && s % 2 == 0 ? steps[static_cast<size_t>(s) / 3]
                                        : random_step(random, 4, s, 40));
    steps.back().step = s;
    add_frame(frames, steps.back());
    if (s % 5 == 0) add_frame(frames, Evaluation{s, static_cast<uint64_t>(s), 4.0});
  }
  add_frame(frames, RecordFooter{24, 1.5, "aa", "bb"});
  return frames;
}

TEST(RecordWriter, GoesOnAfterAnyFrameAsIfNothingHadHappened) {
  TemporaryDirectory directory;
  const auto frames = changing_record();
  const std::string whole = directory.file("whole.strait"), path = directory.file("log.strait");
  write_frames(whole, frames);
  for (size_t kept = 1; kept < frames.size(); ++kept) {
    uint64_t bytes = 0;
    {
      RecordWriter writer(path);
      for (size_t i = 0; i < kept; ++i) writer.write(frames[i]);
      bytes = writer.bytes();
      for (size_t i = kept; i < std::min(kept + 2, frames.size() - 1); ++i) writer.write(frames[i]);
    }
    write_file(path, read_file(path) + "a torn tail");
    RecordWriter writer(path, ResumeAt{bytes});
    for (size_t i = kept; i < frames.size(); ++i) writer.write(frames[i]);
    EXPECT_EQ(read_file(path), read_file(whole)) << "after " << kept << " frames";
  }
}

TEST(RecordWriter, GoesOnWithARecordThatWasEncodedOtherwise) {
  TemporaryDirectory directory;
  const auto frames = changing_record();
  const std::string path = directory.file("log.strait");
  uint64_t bytes = 0;
  {
    RecordWriter writer(path, Encoding::stored);
    for (size_t i = 0; i < 14; ++i) writer.write(frames[i]);
    bytes = writer.bytes();
  }
  {
    RecordWriter writer(path, ResumeAt{bytes});
    for (size_t i = 14; i < frames.size(); ++i) writer.write(frames[i]);
  }
  const auto read = read_frames(path);
  ASSERT_EQ(read.size(), frames.size());
  for (size_t i = 0; i < read.size(); ++i)
    if (const auto* step = std::get_if<StepLog>(&frames[i]))
      expect_same(std::get<StepLog>(read[i]), *step);
}

TEST(RecordWriter, RefusesToGoOnWhereNoFrameEndsOrTheRecordIsFinished) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  write_frames(path, small_record());
  const std::string before = read_file(path);
  const auto refusal = [&](uint64_t bytes) -> std::string {
    try {
      RecordWriter writer(path, ResumeAt{bytes});
    } catch (const RecordError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal(before.size()), HasSubstr("the record is finished"));
  EXPECT_THAT(refusal(100), HasSubstr("no frame ends at byte 100"));
  EXPECT_THAT(refusal(before.size() + 1), HasSubstr("finished"));
  EXPECT_EQ(read_file(path), before);
}

// ---- the disk is full ----

TEST(RecordWriter, SaysPathAndReasonWhereItCannotWrite) {
  try {
    RecordWriter writer("/nonexistent/log.strait");
    FAIL();
  } catch (const RecordError& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/log.strait: No such file or directory"));
  }
  try {
    RecordWriter writer("/dev/full");
    FAIL();
  } catch (const RecordError& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("cannot write the record /dev/full at byte 0: No space left on device"));
  }
}

// A limit on the file size stands in for a full disk: the write that crosses it is cut short.
TEST(RecordWriter, LeavesAWholeFileWhenTheDiskIsFull) {
  TemporaryDirectory directory;
  const std::string path = directory.file("log.strait");
  const auto steps = varied_steps(400);
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto previous = std::signal(SIGXFSZ, SIG_IGN);
  const struct rlimit limit { 10'001, before.rlim_max };
  size_t written = 0;
  std::string text;
  {
    RecordWriter writer(path);
    writer.write(make_header(3));
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    try {
      for (const StepLog& step : steps) {
        writer.write(step);
        ++written;
      }
    } catch (const RecordError& error) {
      text = error.what();
    }
    EXPECT_THROW(writer.write(steps[written]), RecordError);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_THROW(writer.write(steps[written]), RecordError) << "a record with a hole was continued";
  }
  std::signal(SIGXFSZ, previous);
  EXPECT_THAT(text, HasSubstr("File too large; it is whole up to there"));
  ASSERT_GT(written, 3u);
  RecordReader reader(path);
  size_t read = 0;
  while (reader.next()) ++read;
  EXPECT_EQ(read, written + 1);
  EXPECT_FALSE(reader.torn_tail().has_value());
  EXPECT_FALSE(reader.finished());
}

}  // namespace
}  // namespace strait::record
