// Two records are compared by what they say: every kind of difference is found, named and placed; durations are none.
#include "sim/cli/record_comparison.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>

#include "tests/sim/log_builder.h"
#include "tests/sim/record_file.h"

namespace strait::cli {
namespace {

using namespace strait::testing;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

StepLog step_of(int64_t number, int64_t duration = 1000, uint64_t bytes = 500) {
  StepBuilder b(2, number);
  b.compute(0, duration);
  b.receive(1, b.send(0, 1, bytes, MessageKind::forward, 3));
  b.compute(1, duration);
  // The builder derives work from the duration; here only the measured time is to differ.
  for (RankLog& rank : b.log.ranks)
    for (Entry& e : rank.entries)
      if (auto* c = std::get_if<Compute>(&e.action)) c->ops[0].flops = 10;
  return b.log;
}

std::vector<Frame> whole() {
  return record_of(make_header(2), step_of(1), Evaluation{1, 100, 2.5},
                   Diagnostic{1, 0, "rms", 0.5}, step_of(2), RecordFooter{2, 1.5, "aaaa", "dddd"});
}

template <typename T>
T& frame(std::vector<Frame>& frames, int which = 0) {
  for (Frame& f : frames)
    if (auto* found = std::get_if<T>(&f); found != nullptr && which-- == 0) return *found;
  throw std::logic_error("no such frame");
}

class RecordComparisonTest : public ::testing::Test {
 protected:
  RecordComparison compare(const std::vector<Frame>& a, const std::vector<Frame>& b) {
    for (const char* run : {"a", "b"})
      std::filesystem::create_directories(folder_.file(std::string(run) + "/record"));
    write_frames(folder_.file("a/record/log.strait"), a);
    write_frames(folder_.file("b/record/log.strait"), b);
    return compare_records(folder_.file("a"), folder_.file("b"));
  }
  // Equal fingerprints exactly where no difference is reported.
  static void expect_consistent(const RecordComparison& c) {
    for (const ComparedPart& p : c.parts)
      EXPECT_EQ(p.first == p.second, p.difference.empty()) << p.what << ": " << p.difference;
  }
  TemporaryDirectory folder_;
};

TEST_F(RecordComparisonTest, EqualRecordsAreEqualInEveryPart) {
  const RecordComparison c = compare(whole(), whole());
  EXPECT_TRUE(c.equal());
  EXPECT_THAT(c.first_difference(), IsEmpty());
  EXPECT_EQ(c.steps, 2);
  EXPECT_TRUE(c.complete);
  EXPECT_EQ(c.parts.size(), 10u);
  expect_consistent(c);
}

TEST_F(RecordComparisonTest, DurationsHostSecondsAndProducerAreNoDifference) {
  std::vector<Frame> other =
      record_of(make_header(2), step_of(1, 77), Evaluation{1, 100, 2.5},
                Diagnostic{1, 0, "rms", 0.5}, step_of(2, 99), RecordFooter{2, 9.5, "aaaa", "dddd"});
  frame<RecordHeader>(other).producer = "another";
  EXPECT_TRUE(compare(whole(), other).equal());
}

TEST_F(RecordComparisonTest, RecordsWithoutNumericsAreEqual) {
  std::vector<Frame> meta = record_of(make_header(2), step_of(1));
  frame<StepLog>(meta).loss = frame<StepLog>(meta).grad_norm = std::nan("");
  EXPECT_TRUE(compare(meta, meta).equal());
}

TEST_F(RecordComparisonTest, EveryKindOfDifferenceIsNamedWithItsPlace) {
  const auto first_difference = [&](auto change) {
    std::vector<Frame> other = whole();
    change(other);
    const RecordComparison c = compare(whole(), other);
    EXPECT_FALSE(c.equal());
    expect_consistent(c);
    return c.first_difference();
  };
  EXPECT_THAT(first_difference([](auto& f) { frame<StepLog>(f, 1).loss = 1.25; }),
              HasSubstr("losses: step 2: loss 1.5, again 1.25"));
  EXPECT_THAT(first_difference([](auto& f) { frame<StepLog>(f, 0).grad_norm = 4; }),
              HasSubstr("gradient norms: step 1: gradient norm 1, again 4"));
  EXPECT_THAT(first_difference([](auto& f) { frame<Evaluation>(f).validation_loss = 3; }),
              HasSubstr("after step 1: loss 2.5, again after step 1: 3"));
  EXPECT_THAT(first_difference([](auto& f) { frame<Diagnostic>(f).value = 3; }),
              HasSubstr("boundary 0: rms 0.5, again rms 3"));
  EXPECT_THAT(first_difference([](auto& f) { frame<RecordFooter>(f).parameters_hash = "bbbb"; }),
              HasSubstr("after step 2: hash of the parameters aaaa, again bbbb"));
  EXPECT_THAT(first_difference([](auto& f) { frame<RecordHeader>(f).backend = "cuda"; }),
              HasSubstr("backend cpu, again cuda"));
  EXPECT_THAT(first_difference([](auto& f) { frame<StepLog>(f, 1) = step_of(2, 1000, 501); }),
              HasSubstr("step 2: rank 0, entry 1, message of microbatch 3 to rank 1: 500 + 0 bytes "
                        "(dense 4000), again 501 + 0 (dense 4008)"));
  EXPECT_THAT(first_difference([](auto& f) {
                std::get<Compute>(frame<StepLog>(f, 1).ranks[1].entries[1].action).ops[0].flops =
                    11;
              }),
              HasSubstr("what every rank did: step 2: rank 1, entry 1: a compute of 1 ops"));
  EXPECT_THAT(first_difference([](auto& f) { frame<StepLog>(f, 0).ranks[1].entries.pop_back(); }),
              HasSubstr("step 1: rank 1: 2 entries, again 1"));
}

TEST_F(RecordComparisonTest, NoFingerprintDiffersWithoutBeingTold) {
  std::vector<Frame> other = whole();
  frame<RecordHeader>(other).meta = true;
  const RecordComparison c = compare(whole(), other);
  EXPECT_THAT(c.first_difference(),
              HasSubstr("what was run: the fingerprints differ, though nothing"));
  expect_consistent(c);
}

TEST_F(RecordComparisonTest, TheEarliestOfSeveralDifferencesIsTold) {
  std::vector<Frame> other = whole();
  frame<StepLog>(other, 1).loss = 9;
  frame<RecordFooter>(other).parameters_hash = "bbbb";
  frame<StepLog>(other, 0).grad_norm = 8;
  EXPECT_THAT(compare(whole(), other).first_difference(), HasSubstr("step 1: gradient norm"));
}

TEST_F(RecordComparisonTest, AMissingStepIsADifference) {
  const RecordComparison c = compare(
      whole(),
      record_of(make_header(2), step_of(1), Evaluation{1, 100, 2.5}, Diagnostic{1, 0, "rms", 0.5}));
  EXPECT_THAT(c.first_difference(), HasSubstr("step 2 is missing again"));
  EXPECT_EQ(c.steps, 2);
}

TEST_F(RecordComparisonTest, OfAStoppedRunOnlyItsOwnStepsCount) {
  const RecordComparison c = compare(record_of(make_header(2), step_of(1)), whole());
  EXPECT_TRUE(c.equal()) << c.first_difference();
  EXPECT_FALSE(c.complete);
  EXPECT_EQ(c.steps, 1);
  expect_consistent(c);
}

}  // namespace
}  // namespace strait::cli
