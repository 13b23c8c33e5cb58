#include "engine/rank_links.h"

#include <utility>

namespace strait {
namespace {

using record::Category;
using record::MessageKind;
using record::Phase;
using Segment = RankRecorder::Segment;

Tag tag_of(int32_t purpose) { return {MessageKind::sync, -1, kCodec + purpose}; }

std::vector<int> copies_of(const RankPlace& at) {
  return at.grid.copies_of(at.grid.stage(at.rank));
}

}  // namespace

void ShardLink::send(int shard, const Tag& tag, Message message) {
  at_.recorder.between([&] { at_.communicator.send(rank_of(shard), tag, std::move(message)); });
}

Message ShardLink::receive(int shard, const Tag& tag) {
  return at_.recorder.between([&] { return at_.communicator.receive(rank_of(shard), tag); });
}

void ShardLink::codec(Phase phase, const std::function<void()>& work) {
  at_.recorder.aside(Category::codec, phase, work);
}

int ShardLink::rank_of(int shard) const {
  return at_.grid.rank(at_.grid.stage(at_.rank), shard, at_.grid.replica(at_.rank));
}

void BoundaryLink::send(int32_t purpose, Message message) {
  at_.communicator.send(other_, tag_of(purpose), std::move(message));
}

Message BoundaryLink::receive(int32_t purpose) {
  return at_.communicator.receive(other_, tag_of(purpose));
}

void BoundaryLink::compute(const std::function<void()>& work) {
  Segment segment(at_.recorder, Category::codec, Phase::synchronise, -1);
  work();
}

void BoundaryLink::sum_over_copies(Tensor value) {
  if (at_.grid.copies() == 1) return;
  at_.communicator.all_reduce_ring(value, copies_of(at_), kCopies, false, at_.pool, at_.ops);
}

void BoundaryLink::sum_gradient(Tensor value) {
  if (at_.config.copies_differ()) compute([&] { at_.ops.scale(value, 1.0 / at_.grid.copies()); });
  sum_over_copies(value);
}

void BoundaryLink::from_first_copy(Tensor value, const std::function<void()>& make) {
  const std::vector<int> copies = copies_of(at_);
  const Tag tag{MessageKind::sync, -1, kFirstCopy};
  if (at_.rank != copies.front())
    return at_.ops.cast(value, at_.communicator.receive(copies.front(), tag).section(0));
  make();
  if (copies.size() == 1) return;
  const Message message(at_.pool, at_.ops, {{value.dtype, value.shape}});
  at_.ops.cast(message.section(0), value);
  for (size_t copy = 1; copy < copies.size(); ++copy)
    at_.communicator.send(copies[copy], tag, message);
}

void sum_gradients(const RankPlace& at, Tensor flat) {
  if (at.grid.copies() > 1 && !at.config.copies_differ())
    at.communicator.all_reduce_ring(flat, copies_of(at), kGradients, true, at.pool, at.ops);
}

void average_parameters(const RankPlace& at, ParameterList& parameters, int64_t step,
                        bool ends_phase) {
  const CopySynchronisation& s = at.config.synchronisation;
  if (!at.config.copies_differ() || (step % s.every != 0 && !ends_phase)) return;
  const auto average = [&](const Tensor& master) {
    {
      Segment segment(at.recorder, Category::compute, Phase::reduce, -1);
      at.ops.scale(master, 1.0 / at.grid.copies());
    }
    at.communicator.all_reduce_ring(master, copies_of(at), kParameters, true, at.pool, at.ops);
  };
  if (s.scope == SynchronisedPart::all) {
    average(parameters.flat_master());
  } else {
    for (const Parameter& p : parameters.parameters())
      if (p.name.find(".self_attn.") != std::string::npos) average(p.master);
  }
  if (parameters.dtype() == parameters.flat_master().dtype) return;
  Segment segment(at.recorder, Category::compute, Phase::update, -1);
  at.ops.cast(parameters.flat_value(), parameters.flat_master());
}

}  // namespace strait
