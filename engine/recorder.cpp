// The recorder of recorder.h: op costs come from the backend's cost sink, durations from its marks.
#include "engine/recorder.h"

#include <exception>
#include <limits>
#include <utility>

#include <fmt/format.h>

namespace strait {
namespace {

// Carried by messages that no log holds. No real id: ranks are below 2^31.
constexpr uint64_t kUnrecorded = std::numeric_limits<uint64_t>::max();

record::OpWork to_work(const OpCost& cost) {
  return {.name = static_cast<uint16_t>(cost.op),
          .op_class = cost.matrix ? record::OpClass::matrix : record::OpClass::vector,
          .bf16 = cost.bf16,
          .flops = cost.flops,
          .bytes = cost.bytes};
}

}  // namespace

void RankRecorder::begin_step() {
  log_.entries.clear();
  measured_.clear();
  ops_.forget_marks();
  next_message_ = 0;
}

record::RankLog RankRecorder::take() {
  STRAIT_CHECK(segment_ == nullptr, "the log is taken inside a segment");
  for (const Measured& m : measured_) {
    auto& entry = std::get<record::Compute>(log_.entries[m.entry].action);
    entry.measured = {ops_.nanoseconds_between(m.begin, m.end)};
  }
  return std::exchange(log_, {});
}

void RankRecorder::pause(bool on) {
  STRAIT_CHECK(segment_ == nullptr, "recording is paused or resumed inside a segment");
  paused_ = on;
}

uint64_t RankRecorder::next_id() {
  if (paused_) return kUnrecorded;
  return (static_cast<uint64_t>(rank_) << 32) | next_message_++;
}

void RankRecorder::sent(uint64_t id, int to, record::MessageKind kind, int microbatch,
                        Bytes payload, Bytes sync, Bytes dense) {
  STRAIT_CHECK(segment_ == nullptr,
               "a message is sent inside a segment, whose entry would come after it");
  if (paused_) return;
  log_.entries.emplace_back().action = record::Send{id, to, kind, microbatch, payload, sync, dense};
}

void RankRecorder::received(uint64_t id, int from) {
  STRAIT_CHECK(segment_ == nullptr,
               "a message is received inside a segment, whose entry would come after it");
  STRAIT_CHECK((id == kUnrecorded) == paused_,
               fmt::format("rank {} records and rank {} does not: pause both for the same messages",
                           paused_ ? from : rank_, paused_ ? rank_ : from));
  if (paused_) return;
  log_.entries.emplace_back().action = record::Receive{id, from};
}

RankRecorder::Segment::Segment(RankRecorder& recorder, record::Category category,
                               record::Phase phase, int microbatch)
    : recorder_(recorder),
      entry_{.category = category, .phase = phase, .microbatch = microbatch},
      started_(0) {
  STRAIT_CHECK(recorder.segment_ == nullptr, "segments do not nest");
  open();
}

RankRecorder::Segment::~Segment() { close(); }

void RankRecorder::Segment::open() {
  recorder_.segment_ = this;
  if (recorder_.paused_) return;
  recorder_.ops_.set_cost_sink(&costs_);
  started_ = recorder_.ops_.mark();
}

void RankRecorder::Segment::close() {
  recorder_.segment_ = nullptr;
  if (recorder_.paused_ || abandoned_) return;
  const int64_t ended = recorder_.ops_.mark();
  recorder_.ops_.set_cost_sink(nullptr);
  if (costs_.empty()) return;
  record::Compute entry = entry_;
  entry.ops.reserve(costs_.size());
  for (const OpCost& cost : costs_) entry.ops.push_back(to_work(cost));
  costs_.clear();
  recorder_.measured_.push_back({recorder_.log_.entries.size(), started_, ended});
  recorder_.log_.entries.emplace_back().action = std::move(entry);
}

RankRecorder::Break::Break(RankRecorder& recorder)
    : recorder_(recorder), segment_(recorder.segment_), exceptions_(std::uncaught_exceptions()) {
  if (segment_ != nullptr) segment_->close();
}

// Where the exchange has failed nothing is booked any more, and a device that has failed is not asked for its time.
RankRecorder::Break::~Break() {
  if (segment_ == nullptr) return;
  if (std::uncaught_exceptions() == exceptions_)
    segment_->open();
  else
    segment_->abandoned_ = true;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (int op = 0; op < static_cast<int>(Op::count_); ++op)
    names.emplace_back(name_of(static_cast<Op>(op)));
  return names;
}

}  // namespace strait
