// Encoders and decoders of the frames' payloads, in the order of docs/record_format.md.
#include "sim/record/payload.h"

#include <limits>
#include <map>

#include "sim/record/bytes.h"

namespace strait::record {
namespace {

constexpr uint64_t kMaxInt32 = std::numeric_limits<int32_t>::max();
constexpr uint64_t kMaxInt64 = std::numeric_limits<int64_t>::max();

// Calls visit(uint64_t or int64_t&) for every value of a step, in order.
template <typename Step, typename Visit>
void for_each_value(Step& step, Visit visit) {
  for (auto& rank : step.ranks)
    for (auto& entry : rank.entries) {
      if (auto* compute = std::get_if<Compute>(&entry.action)) {
        visit(compute->measured.count);
      } else if (auto* send = std::get_if<Send>(&entry.action)) {
        visit(send->payload.count);
        visit(send->sync.count);
        visit(send->dense.count);
      }
    }
}

}  // namespace

// ---- header ----

Buffer encode(const RecordHeader& header) {
  ByteWriter out;
  for (const std::string* text :
       {&header.producer, &header.backend, &header.precision, &header.record_hash})
    out.string(*text);
  out.unsigned_(header.seed);
  for (const int32_t size : {header.pipeline, header.context, header.data})
    out.unsigned_(static_cast<uint64_t>(size));
  out.byte(header.meta ? 1 : 0);
  out.unsigned_(header.op_names.size());
  for (const std::string& name : header.op_names) out.string(name);
  out.unsigned_(header.ranks.size());
  for (const RankInfo& info : header.ranks) {
    for (const int32_t place : {info.stage, info.shard, info.replica})
      out.unsigned_(static_cast<uint64_t>(place));
    out.string(info.layers);
    out.unsigned_(info.parameters);
    for (const Bytes size : {info.persistent, info.frames, info.scratch}) out.unsigned_(size.count);
  }
  return out.take();
}

RecordHeader decode_header(std::span<const uint8_t> payload) {
  ByteReader in(payload);
  RecordHeader header;
  for (std::string* text :
       {&header.producer, &header.backend, &header.precision, &header.record_hash})
    *text = in.string();
  header.seed = in.unsigned_();
  for (int32_t* size : {&header.pipeline, &header.context, &header.data})
    *size = static_cast<int32_t>(in.at_most(kMaxRanks, "a size of the grid"));
  const uint8_t meta = in.byte();
  if (meta > 1) in.fail("the meta flag is neither 0 nor 1");
  header.meta = meta == 1;
  header.op_names.resize(in.count(kMaxOpNames, "the number of op names"));
  for (std::string& name : header.op_names) name = in.string();
  header.ranks.resize(in.count(kMaxRanks, "the number of ranks"));
  for (RankInfo& info : header.ranks) {
    for (int32_t* place : {&info.stage, &info.shard, &info.replica})
      *place = static_cast<int32_t>(in.at_most(kMaxRanks, "a place in the grid"));
    info.layers = in.string();
    info.parameters = in.unsigned_();
    for (Bytes* size : {&info.persistent, &info.frames, &info.scratch})
      size->count = in.unsigned_();
  }
  in.finish();
  return header;
}

// ---- step ----

std::vector<uint64_t> values_of(const StepLog& step) {
  std::vector<uint64_t> values;
  for_each_value(step, [&](auto value) { values.push_back(static_cast<uint64_t>(value)); });
  return values;
}

void set_values(StepLog& step, const std::vector<uint64_t>& values) {
  size_t next = 0;
  for_each_value(step, [&](auto& value) {
    value = static_cast<std::remove_reference_t<decltype(value)>>(values.at(next++));
  });
}

Buffer encode_step(const StepLog& step, uint64_t slot, const std::vector<uint64_t>& previous) {
  ByteWriter out;
  out.unsigned_(slot);
  out.unsigned_(static_cast<uint64_t>(step.step));
  out.unsigned_(step.tokens);
  for (const double scalar : {step.loss, step.grad_norm, step.learning_rate}) out.real(scalar);
  const std::vector<uint64_t> values = values_of(step);
  uint64_t changed = 0;
  for (size_t i = 0; i < values.size(); ++i) changed += values[i] != previous.at(i);
  out.unsigned_(changed);
  uint64_t skip = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] == previous[i]) {
      ++skip;
      continue;
    }
    out.unsigned_(skip);
    out.signed_(static_cast<int64_t>(values[i] - previous[i]));
    skip = 0;
  }
  return out.take();
}

StepChanges decode_step(std::span<const uint8_t> payload) {
  ByteReader in(payload);
  StepChanges step;
  step.slot = in.at_most(kSlots - 1, "a slot");
  step.scalars.step = static_cast<int64_t>(in.at_most(kMaxInt64, "a step"));
  step.scalars.tokens = in.unsigned_();
  for (double* scalar : {&step.scalars.loss, &step.scalars.grad_norm, &step.scalars.learning_rate})
    *scalar = in.real();
  step.changes.resize(in.count(3 * kMaxEntries, "the number of changes"));
  for (StepChanges::Change& change : step.changes) {
    change.skip = in.unsigned_();
    change.difference = in.signed_();
  }
  in.finish();
  return step;
}

void apply_changes(std::vector<uint64_t>& values, const std::vector<StepChanges::Change>& changes) {
  uint64_t next = 0;
  for (const StepChanges::Change& change : changes) {
    if (change.skip >= values.size() - next)
      throw std::invalid_argument("a change beyond the last of " + std::to_string(values.size()) +
                                  " values");
    next += change.skip;
    values[next] += static_cast<uint64_t>(change.difference);
    ++next;
  }
}

// ---- evaluation, diagnostic, footer ----

Buffer encode(const Evaluation& evaluation) {
  ByteWriter out;
  out.unsigned_(static_cast<uint64_t>(evaluation.step));
  out.unsigned_(evaluation.tokens);
  out.real(evaluation.validation_loss);
  return out.take();
}

Evaluation decode_evaluation(std::span<const uint8_t> payload) {
  ByteReader in(payload);
  Evaluation evaluation;
  evaluation.step = static_cast<int64_t>(in.at_most(kMaxInt64, "a step"));
  evaluation.tokens = in.unsigned_();
  evaluation.validation_loss = in.real();
  in.finish();
  return evaluation;
}

Buffer encode(const Diagnostic& diagnostic) {
  ByteWriter out;
  out.unsigned_(static_cast<uint64_t>(diagnostic.step));
  out.unsigned_(static_cast<uint64_t>(diagnostic.boundary));
  out.string(diagnostic.name);
  out.real(diagnostic.value);
  return out.take();
}

Diagnostic decode_diagnostic(std::span<const uint8_t> payload) {
  ByteReader in(payload);
  Diagnostic diagnostic;
  diagnostic.step = static_cast<int64_t>(in.at_most(kMaxInt64, "a step"));
  diagnostic.boundary = static_cast<int32_t>(in.at_most(kMaxInt32, "a boundary"));
  diagnostic.name = in.string();
  diagnostic.value = in.real();
  in.finish();
  return diagnostic;
}

Buffer encode(const RecordFooter& footer) {
  ByteWriter out;
  out.unsigned_(static_cast<uint64_t>(footer.steps));
  out.real(footer.host_seconds);
  out.string(footer.parameters_hash);
  out.string(footer.data_hash);
  return out.take();
}

RecordFooter decode_footer(std::span<const uint8_t> payload) {
  ByteReader in(payload);
  RecordFooter footer;
  footer.steps = static_cast<int64_t>(in.at_most(kMaxInt64, "a step"));
  footer.host_seconds = in.real();
  footer.parameters_hash = in.string();
  footer.data_hash = in.string();
  in.finish();
  return footer;
}

}  // namespace strait::record
