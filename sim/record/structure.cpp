// The structure payload: op lists and entries of a step, without its values (docs/record_format.md,
// "structure").
#include <algorithm>
#include <map>
#include <tuple>

#include "sim/record/bytes.h"
#include "sim/record/payload.h"

namespace strait::record {
namespace {

enum class Kind : uint8_t { compute, send, receive, signal, wait };

bool same_action(const Action& a, const Action& b) {
  if (a.index() != b.index()) return false;
  if (const Compute* x = std::get_if<Compute>(&a)) {
    const Compute& y = std::get<Compute>(b);
    return x->category == y.category && x->phase == y.phase && x->microbatch == y.microbatch &&
           x->ops == y.ops;
  }
  if (const Send* x = std::get_if<Send>(&a)) {
    const Send& y = std::get<Send>(b);
    return x->id == y.id && x->to == y.to && x->kind == y.kind && x->microbatch == y.microbatch;
  }
  return a == b;
}

// ---- op lists ----

struct ListLess {
  bool operator()(const std::vector<OpWork>* a, const std::vector<OpWork>* b) const {
    const auto key = [](const OpWork& op) {
      return std::tuple(op.name, op.op_class, op.bf16, op.flops, op.bytes);
    };
    return std::lexicographical_compare(
        a->begin(), a->end(), b->begin(), b->end(),
        [&](const OpWork& x, const OpWork& y) { return key(x) < key(y); });
  }
};

// The distinct op lists of a step, numbered in the order of their first use.
struct OpLists {
  explicit OpLists(const StepLog& step) {
    for (const RankLog& rank : step.ranks)
      for (const Entry& entry : rank.entries)
        if (const Compute* compute = std::get_if<Compute>(&entry.action))
          if (numbers.emplace(&compute->ops, lists.size()).second) lists.push_back(&compute->ops);
  }
  std::map<const std::vector<OpWork>*, uint64_t, ListLess> numbers;
  std::vector<const std::vector<OpWork>*> lists;
};

void write_op_list(ByteWriter& out, const std::vector<OpWork>& ops) {
  out.unsigned_(ops.size());
  for (const OpWork& op : ops) {
    out.unsigned_(op.name);
    out.byte(static_cast<uint8_t>((op.op_class == OpClass::matrix ? 1 : 0) | (op.bf16 ? 2 : 0)));
    out.unsigned_(op.flops);
    out.unsigned_(op.bytes);
  }
}

std::vector<OpWork> read_op_list(ByteReader& in) {
  std::vector<OpWork> ops(in.count(kMaxOps, "the number of ops"));
  for (OpWork& op : ops) {
    op.name = static_cast<uint16_t>(in.at_most(kMaxOpNames - 1, "an op name"));
    const uint8_t flags = in.byte();
    if (flags > 3) in.fail("unknown op flags");
    op.op_class = (flags & 1) ? OpClass::matrix : OpClass::vector;
    op.bf16 = (flags & 2) != 0;
    op.flops = in.unsigned_();
    op.bytes = in.unsigned_();
  }
  return ops;
}

// ---- entries ----

void write_entry(ByteWriter& out, const Entry& entry, const OpLists& lists) {
  out.byte(entry.queue);
  out.byte(static_cast<uint8_t>(entry.action.index()));
  if (const Compute* compute = std::get_if<Compute>(&entry.action)) {
    out.byte(static_cast<uint8_t>(compute->category));
    out.byte(static_cast<uint8_t>(compute->phase));
    out.signed_(compute->microbatch);
    out.unsigned_(lists.numbers.at(&compute->ops));
  } else if (const Send* send = std::get_if<Send>(&entry.action)) {
    out.unsigned_(send->id & 0xFFFFFFFFu);
    out.unsigned_(static_cast<uint64_t>(send->to));
    out.byte(static_cast<uint8_t>(send->kind));
    out.signed_(send->microbatch);
  } else if (const Receive* receive = std::get_if<Receive>(&entry.action)) {
    out.unsigned_(static_cast<uint64_t>(receive->from));
    out.unsigned_(receive->id & 0xFFFFFFFFu);
  } else if (const Signal* signal = std::get_if<Signal>(&entry.action)) {
    out.unsigned_(signal->event);
  } else {
    out.unsigned_(std::get<Wait>(entry.action).event);
  }
}

// A byte that names one of an enum's values, of which `last` is the greatest.
template <typename Enum>
Enum read_enum(ByteReader& in, Enum last, const char* what) {
  const uint8_t value = in.byte();
  if (value > static_cast<uint8_t>(last)) in.fail(std::string("unknown ") + what);
  return static_cast<Enum>(value);
}

class EntryReader {
 public:
  EntryReader(ByteReader& in, const std::vector<std::vector<OpWork>>& lists)
      : in_(in), lists_(lists) {}

  Entry read(uint64_t rank) {
    Entry entry;
    entry.queue = in_.byte();
    switch (read_enum(in_, Kind::wait, "entry kind")) {
      case Kind::compute:
        entry.action = compute();
        break;
      case Kind::send:
        entry.action = send(rank);
        break;
      case Kind::receive:
        entry.action = receive();
        break;
      case Kind::signal:
        entry.action = Signal{event()};
        break;
      case Kind::wait:
        entry.action = Wait{event()};
        break;
    }
    return entry;
  }

 private:
  Compute compute() {
    Compute compute;
    compute.category = read_enum(in_, Category::codec, "category");
    compute.phase = read_enum(in_, Phase::synchronise, "phase");
    compute.microbatch = in_.microbatch();
    const uint64_t list = in_.unsigned_();
    if (list >= lists_.size())
      in_.fail("op list " + std::to_string(list) + " of " + std::to_string(lists_.size()));
    ops_ += lists_[list].size();
    if (ops_ > kMaxOps) in_.fail("more than " + std::to_string(kMaxOps) + " ops in a step");
    compute.ops = lists_[list];
    return compute;
  }

  Send send(uint64_t rank) {
    Send send;
    send.id = rank << 32 | in_.at_most(0xFFFFFFFFu, "a message number");
    send.to = static_cast<int32_t>(in_.at_most(kMaxRanks - 1, "a receiver"));
    send.kind = read_enum(in_, MessageKind::sync, "message kind");
    send.microbatch = in_.microbatch();
    return send;
  }

  Receive receive() {
    const uint64_t from = in_.at_most(kMaxRanks - 1, "a sender");
    return {from << 32 | in_.at_most(0xFFFFFFFFu, "a message number"), static_cast<int32_t>(from)};
  }

  uint32_t event() { return static_cast<uint32_t>(in_.at_most(0xFFFFFFFFu, "an event")); }

  ByteReader& in_;
  const std::vector<std::vector<OpWork>>& lists_;
  uint64_t ops_ = 0;
};

}  // namespace

Buffer encode_structure(const StepLog& step, uint64_t slot) {
  ByteWriter out;
  const OpLists lists(step);
  out.unsigned_(slot);
  out.unsigned_(lists.lists.size());
  for (const std::vector<OpWork>* list : lists.lists) write_op_list(out, *list);
  out.unsigned_(step.ranks.size());
  for (const RankLog& rank : step.ranks) {
    out.unsigned_(rank.entries.size());
    for (const Entry& entry : rank.entries) write_entry(out, entry, lists);
  }
  return out.take();
}

Structure decode_structure(std::span<const uint8_t> payload) {
  ByteReader in(payload);
  Structure structure;
  structure.slot = in.at_most(kSlots - 1, "a slot");
  std::vector<std::vector<OpWork>> lists(in.count(kMaxEntries, "the number of op lists"));
  for (std::vector<OpWork>& list : lists) list = read_op_list(in);
  structure.step.ranks.resize(in.count(kMaxRanks, "the number of ranks"));
  EntryReader entries(in, lists);
  uint64_t total = 0;
  for (uint64_t rank = 0; rank < structure.step.ranks.size(); ++rank) {
    const uint64_t count = in.count(kMaxEntries, "the number of entries");
    total += count;
    if (total > kMaxEntries)
      in.fail("more than " + std::to_string(kMaxEntries) + " entries in a step");
    auto& log = structure.step.ranks[rank].entries;
    log.reserve(count);
    for (uint64_t i = 0; i < count; ++i) log.push_back(entries.read(rank));
  }
  in.finish();
  return structure;
}

bool same_structure(const StepLog& a, const StepLog& b) {
  if (a.ranks.size() != b.ranks.size()) return false;
  for (size_t r = 0; r < a.ranks.size(); ++r) {
    const auto &x = a.ranks[r].entries, &y = b.ranks[r].entries;
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i].queue != y[i].queue || !same_action(x[i].action, y[i].action)) return false;
  }
  return true;
}

}  // namespace strait::record
