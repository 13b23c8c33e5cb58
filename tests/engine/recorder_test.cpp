// The recorder: what one rank's log holds, in which order, and what a pause leaves out.
#include "engine/recorder.h"

#include <memory>
#include <stdexcept>
#include <vector>

#include <gtest/gtest.h>

#include "engine/message.h"

namespace strait {
namespace {

using record::Category;
using record::Phase;

class RecorderTest : public testing::Test {
 protected:
  // One op that a segment can book.
  void work() { ops_->fill(tensor_, 1.0); }

  std::unique_ptr<Backend> ops_ = make_reference_backend();
  std::unique_ptr<DeviceMemory> memory_ = ops_->allocate(1 << 16);
  Tensor tensor_{memory_->data(), DType::f64, {1 << 13}};
  RankRecorder recorder_{3, *ops_};
};

TEST_F(RecorderTest, BooksTheOpsOfASegmentInOrder) {
  std::vector<OpCost> expected;
  ops_->set_cost_sink(&expected);
  ops_->fill(tensor_, 0.0);
  ops_->scale(tensor_, 2.0);
  ops_->set_cost_sink(nullptr);

  recorder_.begin_step();
  {
    const RankRecorder::Segment segment(recorder_, Category::codec, Phase::encode, 7);
    ops_->fill(tensor_, 0.0);
    ops_->scale(tensor_, 2.0);
  }
  const record::RankLog log = recorder_.take();
  ASSERT_EQ(log.entries.size(), 1u);
  EXPECT_EQ(log.entries[0].queue, 0);
  const auto& compute = std::get<record::Compute>(log.entries[0].action);
  EXPECT_EQ(compute.category, Category::codec);
  EXPECT_EQ(compute.phase, Phase::encode);
  EXPECT_EQ(compute.microbatch, 7);
  EXPECT_GT(compute.measured.count, 0);
  ASSERT_EQ(compute.ops.size(), 2u);
  const std::vector<std::string> names = op_names();
  EXPECT_EQ(names.at(compute.ops[0].name), "fill");
  EXPECT_EQ(names.at(compute.ops[1].name), "scale");
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(compute.ops[i].flops, expected[i].flops);
    EXPECT_EQ(compute.ops[i].bytes, expected[i].bytes);
    EXPECT_EQ(compute.ops[i].op_class, record::OpClass::vector);
    EXPECT_FALSE(compute.ops[i].bf16);
  }
}

TEST_F(RecorderTest, TellsMatrixWorkAndBf16Apart) {
  recorder_.begin_step();
  const Tensor a(memory_->data(), DType::bf16, {4, 8});
  const Tensor b(static_cast<std::byte*>(memory_->data()) + 256, DType::bf16, {8, 4});
  const Tensor y(static_cast<std::byte*>(memory_->data()) + 512, DType::bf16, {4, 4});
  {
    const RankRecorder::Segment segment(recorder_, Category::compute, Phase::forward, 0);
    ops_->matmul(y, a, false, b, false, false);
  }
  const record::RankLog log = recorder_.take();
  const auto& op = std::get<record::Compute>(log.entries.at(0).action).ops.at(0);
  EXPECT_EQ(op.op_class, record::OpClass::matrix);
  EXPECT_TRUE(op.bf16);
  EXPECT_EQ(op.flops, 2u * 4 * 4 * 8);
}

TEST_F(RecorderTest, WritesNoEntryForASegmentWithoutOps) {
  recorder_.begin_step();
  { const RankRecorder::Segment segment(recorder_, Category::compute, Phase::other, -1); }
  work();  // outside of any segment
  EXPECT_TRUE(recorder_.take().entries.empty());
}

TEST_F(RecorderTest, KeepsProgramOrderAndNumbersMessagesFromTheRank) {
  recorder_.begin_step();
  const uint64_t first = recorder_.next_id();
  recorder_.sent(first, 4, record::MessageKind::forward, 2, Bytes{100}, Bytes{8}, Bytes{400});
  {
    const RankRecorder::Segment segment(recorder_, Category::compute, Phase::backward, 2);
    work();
  }
  recorder_.received((4ull << 32) | 9, 4);
  const uint64_t second = recorder_.next_id();

  EXPECT_EQ(first, 3ull << 32);
  EXPECT_EQ(second, (3ull << 32) | 1);
  const record::RankLog log = recorder_.take();
  ASSERT_EQ(log.entries.size(), 3u);
  EXPECT_EQ(
      std::get<record::Send>(log.entries[0].action),
      (record::Send{first, 4, record::MessageKind::forward, 2, Bytes{100}, Bytes{8}, Bytes{400}}));
  EXPECT_TRUE(std::holds_alternative<record::Compute>(log.entries[1].action));
  EXPECT_EQ(std::get<record::Receive>(log.entries[2].action),
            (record::Receive{(4ull << 32) | 9, 4}));
}

TEST_F(RecorderTest, StartsAnewWithEveryStep) {
  recorder_.begin_step();
  recorder_.sent(recorder_.next_id(), 4, record::MessageKind::sync, -1, Bytes{8}, Bytes{}, Bytes{});
  recorder_.begin_step();
  EXPECT_TRUE(recorder_.take().entries.empty());
  EXPECT_EQ(recorder_.next_id(), 3ull << 32);
}

TEST_F(RecorderTest, WritesNothingWhilePaused) {
  recorder_.begin_step();
  recorder_.pause(true);
  {
    const RankRecorder::Segment segment(recorder_, Category::compute, Phase::forward, 0);
    work();
  }
  const uint64_t unrecorded = recorder_.next_id();
  recorder_.sent(unrecorded, 4, record::MessageKind::forward, 0, Bytes{8}, Bytes{}, Bytes{8});
  recorder_.received(unrecorded, 2);
  recorder_.pause(false);
  EXPECT_EQ(recorder_.next_id(), 3ull << 32) << "a pause takes no message numbers";
  EXPECT_TRUE(recorder_.take().entries.empty());
}

TEST_F(RecorderTest, RefusesAMessageThatOnlyOneSideRecords) {
  recorder_.begin_step();
  EXPECT_NO_THROW(recorder_.received(1ull << 32, 1));
  recorder_.pause(true);
  const uint64_t unrecorded = recorder_.next_id();
  EXPECT_THROW(recorder_.received(1ull << 32, 1), std::logic_error);
  recorder_.pause(false);
  EXPECT_THROW(recorder_.received(unrecorded, 1), std::logic_error);
}

TEST_F(RecorderTest, RefusesWhatASegmentCannotOrder) {
  recorder_.begin_step();
  {
    const RankRecorder::Segment segment(recorder_, Category::compute, Phase::forward, 0);
    EXPECT_THROW(RankRecorder::Segment(recorder_, Category::codec, Phase::encode, 0),
                 std::logic_error);
    EXPECT_THROW(recorder_.sent(0, 4, record::MessageKind::forward, 0, Bytes{8}, Bytes{}, Bytes{}),
                 std::logic_error);
    EXPECT_THROW(recorder_.received(1ull << 32, 1), std::logic_error);
    EXPECT_THROW(recorder_.pause(true), std::logic_error);
    EXPECT_THROW(recorder_.take(), std::logic_error);
    work();
  }
  EXPECT_EQ(recorder_.take().entries.size(), 1u) << "the segment itself is whole";
}

TEST(Recorder, MeasuresNothingOnTheMetaBackend) {
  const auto ops = make_meta_backend();
  RankRecorder recorder(0, *ops);
  recorder.begin_step();
  {
    const RankRecorder::Segment segment(recorder, Category::compute, Phase::forward, 0);
    ops->fill(Tensor(nullptr, DType::f32, {1000}), 0.0);
  }
  const record::RankLog log = recorder.take();
  const auto& compute = std::get<record::Compute>(log.entries.at(0).action);
  EXPECT_EQ(compute.measured.count, 0);
  EXPECT_EQ(compute.ops.at(0).bytes, 4000u);
}

TEST(Recorder, NamesEveryOp) {
  const std::vector<std::string> names = op_names();
  ASSERT_EQ(names.size(), static_cast<size_t>(Op::count_));
  EXPECT_EQ(names.front(), "matmul");
  EXPECT_EQ(names.at(static_cast<size_t>(Op::adamw)), "adamw");
}

}  // namespace
}  // namespace strait
