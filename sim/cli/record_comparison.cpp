// Reads two records side by side, step by step, and keeps a fingerprint of each and the first difference for every kind of content
// (record_comparison.h).
#include "sim/cli/record_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "sim/record/payload.h"
#include "sim/record/reader.h"
#include "sim/record/sha256.h"

namespace strait::cli {
namespace {

using namespace record;

// A hash over everything that was added, whatever its length.
class Fingerprint {
 public:
  void add(const void* data, size_t bytes) {
    pending_.append(static_cast<const char*>(data), bytes);
    any_ |= bytes > 0;
    if (pending_.size() > (size_t{1} << 20)) fold();
  }
  void add(const Buffer& bytes) { add(bytes.data(), bytes.size()); }
  void add(const std::string& text) { add(text.data(), text.size()); }
  // Every NaN is the same: a record of the meta backend equals another one.
  void add(double value) {
    const uint64_t bits = std::isnan(value) ? ~uint64_t{0} : std::bit_cast<uint64_t>(value);
    add(&bits, sizeof bits);
  }
  std::string text() {
    if (!any_) return "";
    fold();
    return hash_.substr(0, 16);
  }

 private:
  void fold() {
    hash_ = sha256_hex(hash_ + pending_);
    pending_.clear();
  }
  std::string hash_, pending_;
  bool any_ = false;
};

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) ||
         std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
}

// A part of the comparison while it is made.
struct Part {
  std::string what;
  Fingerprint first, second;
  std::string difference;
  int64_t step = std::numeric_limits<int64_t>::max();

  void differs(int64_t at, std::string text) {
    if (!difference.empty()) return;
    difference = std::move(text);
    step = at;
  }
};

// A record read step by step; what lies between the steps is kept.
struct Source {
  explicit Source(const std::filesystem::path& run)
      : reader((run / "record" / "log.strait").string()) {
    std::optional<Frame> frame = reader.next();
    if (!frame)
      throw RecordError((run / "record" / "log.strait").string() +
                        ": the record ends before its header");
    header = std::get<RecordHeader>(std::move(*frame));
  }

  std::optional<StepLog> next_step() {
    while (std::optional<Frame> frame = reader.next()) {
      if (auto* step = std::get_if<StepLog>(&*frame)) return std::move(*step);
      if (auto* evaluation = std::get_if<Evaluation>(&*frame)) evaluations.push_back(*evaluation);
      if (auto* diagnostic = std::get_if<Diagnostic>(&*frame))
        diagnostics.push_back(std::move(*diagnostic));
      if (auto* end = std::get_if<RecordFooter>(&*frame)) footer = *end;
    }
    return std::nullopt;
  }

  RecordReader reader;
  RecordHeader header;
  std::vector<Evaluation> evaluations;
  std::vector<Diagnostic> diagnostics;
  std::optional<RecordFooter> footer;
};

std::string describe(const Entry& entry) {
  struct {
    std::string operator()(const Compute& c) const {
      return fmt::format("a compute of {} ops for microbatch {}", c.ops.size(), c.microbatch);
    }
    std::string operator()(const Send& s) const {
      return fmt::format("a send to rank {} of microbatch {}", s.to, s.microbatch);
    }
    std::string operator()(const Receive& r) const {
      return fmt::format("a receive from rank {}", r.from);
    }
    std::string operator()(const Signal& s) const {
      return fmt::format("a signal of event {}", s.event);
    }
    std::string operator()(const Wait& w) const {
      return fmt::format("a wait for event {}", w.event);
    }
  } text;
  return std::visit(text, entry.action);
}

// An entry without what may change from step to step.
Entry without_values(Entry entry) {
  if (auto* compute = std::get_if<Compute>(&entry.action)) compute->measured = {};
  if (auto* send = std::get_if<Send>(&entry.action)) send->payload = send->sync = send->dense = {};
  return entry;
}

std::string structure_difference(const StepLog& a, const StepLog& b) {
  if (a.ranks.size() != b.ranks.size())
    return fmt::format("{} ranks, again {}", a.ranks.size(), b.ranks.size());
  for (size_t rank = 0; rank < a.ranks.size(); ++rank) {
    const auto &x = a.ranks[rank].entries, &y = b.ranks[rank].entries;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (without_values(x[i]) == without_values(y[i])) continue;
      const std::string was = describe(x[i]), is = describe(y[i]);
      return fmt::format("rank {}, entry {}: {}, again {}{}", rank, i, was, is,
                         was == is ? " that differs in its ops, phase, queue or number" : "");
    }
    if (x.size() != y.size())
      return fmt::format("rank {}: {} entries, again {}", rank, x.size(), y.size());
  }
  return "";
}

std::string bytes_difference(const StepLog& a, const StepLog& b) {
  for (size_t rank = 0; rank < a.ranks.size(); ++rank) {
    for (size_t i = 0; i < a.ranks[rank].entries.size(); ++i) {
      const auto* x = std::get_if<Send>(&a.ranks[rank].entries[i].action);
      const auto* y = std::get_if<Send>(&b.ranks[rank].entries[i].action);
      if (x == nullptr || y == nullptr || *x == *y) continue;
      return fmt::format(
          "rank {}, entry {}, message of microbatch {} to rank {}: {} + {} bytes (dense {}), again "
          "{} + {} (dense {})",
          rank, i, x->microbatch, x->to, x->payload.count, x->sync.count, x->dense.count,
          y->payload.count, y->sync.count, y->dense.count);
    }
  }
  return "";
}

std::string header_difference(const RecordHeader& a, const RecordHeader& b) {
  const auto text = [](const char* what, const auto& x, const auto& y) {
    return fmt::format("{} {}, again {}", what, x, y);
  };
  if (a.record_hash != b.record_hash)
    return text("hash of what determines the record:", a.record_hash, b.record_hash);
  if (a.backend != b.backend) return text("backend", a.backend, b.backend);
  if (a.precision != b.precision) return text("precision", a.precision, b.precision);
  if (a.seed != b.seed) return text("seed", a.seed, b.seed);
  if (a.pipeline != b.pipeline || a.context != b.context || a.data != b.data)
    return text("grid", fmt::format("{} x {} x {}", a.pipeline, a.context, a.data),
                fmt::format("{} x {} x {}", b.pipeline, b.context, b.data));
  if (a.op_names != b.op_names) return "the list of op names";
  for (size_t r = 0; r < std::min(a.ranks.size(), b.ranks.size()); ++r) {
    const RankInfo &x = a.ranks[r], &y = b.ranks[r];
    if (x.layers != y.layers || x.parameters != y.parameters)
      return fmt::format("rank {}: layers {} with {} parameters, again {} with {}", r, x.layers,
                         x.parameters, y.layers, y.parameters);
  }
  return "";
}

// What a header says of the run, without its producer and memory (which belongs to the program, not to the run).
void add_header(Fingerprint& to, const RecordHeader& h) {
  RecordHeader own = h;
  own.producer.clear();
  for (RankInfo& rank : own.ranks) rank.persistent = rank.frames = rank.scratch = {};
  to.add(encode(own));
}

class Comparison {
 public:
  Comparison(const std::filesystem::path& first, const std::filesystem::path& second)
      : a_(first), b_(second) {}

  RecordComparison run() {
    compare_header();
    std::optional<StepLog> x, y;
    for (;;) {
      x = a_.next_step();
      y = b_.next_step();
      if (!x || !y) break;
      compare_step(*x, *y);
      last_ = x->step;
    }
    if (x) structure_.differs(x->step, fmt::format("step {} is missing again", x->step));
    if (y && a_.footer)
      structure_.differs(y->step,
                         fmt::format("the run ends before step {}, again it does not", y->step));
    for (; x; x = a_.next_step()) last_ = x->step;
    while (y) y = b_.next_step();
    compare_evaluations();
    compare_diagnostics();
    compare_footers();
    return result();
  }

 private:
  void compare_header() {
    add_header(header_.first, a_.header);
    add_header(header_.second, b_.header);
    if (const std::string d = header_difference(a_.header, b_.header); !d.empty())
      header_.differs(-1, d);
  }

  void compare_step(const StepLog& x, const StepLog& y) {
    compare_structure(x, y);
    add_bytes(bytes_.first, x);
    add_bytes(bytes_.second, y);
    if (same_structure(x, y))
      if (const std::string d = bytes_difference(x, y); !d.empty())
        bytes_.differs(x.step, fmt::format("step {}: {}", x.step, d));
    scalar(loss_, x.step, "loss", x.loss, y.loss);
    scalar(gradient_, x.step, "gradient norm", x.grad_norm, y.grad_norm);
    scalar(rest_, x.step, "learning rate", x.learning_rate, y.learning_rate);
    scalar(rest_, x.step, "tokens", static_cast<double>(x.tokens), static_cast<double>(y.tokens));
  }

  // Structures repeat; only those that are new are hashed and compared in detail.
  void compare_structure(const StepLog& x, const StepLog& y) {
    const auto add = [&](Fingerprint& to, std::optional<StepLog>& last, const StepLog& step) {
      if (last && same_structure(*last, step)) return;
      last = step;
      to.add(fmt::format("from step {}", step.step));
      to.add(encode_structure(step, 0));
    };
    add(structure_.first, last_a_, x);
    add(structure_.second, last_b_, y);
    if (same_structure(x, y)) return;
    structure_.differs(x.step, fmt::format("step {}: {}", x.step, structure_difference(x, y)));
  }

  static void add_bytes(Fingerprint& to, const StepLog& step) {
    for (const RankLog& rank : step.ranks)
      for (const Entry& entry : rank.entries)
        if (const auto* send = std::get_if<Send>(&entry.action)) {
          const uint64_t sizes[] = {send->payload.count, send->sync.count, send->dense.count};
          to.add(sizes, sizeof sizes);
        }
  }

  static void scalar(Part& part, int64_t step, const char* name, double x, double y) {
    part.first.add(x);
    part.second.add(y);
    if (!same(x, y)) part.differs(step, fmt::format("step {}: {} {}, again {}", step, name, x, y));
  }

  // Rows that lie between the steps. Where the first record was stopped, the second may go on: what it
  // holds beyond does not count. `difference`: of two rows in words, "" where they are equal.
  template <typename T, typename Difference>
  void compare_rows(Part& part, const char* what, const std::vector<T>& a, const std::vector<T>& b,
                    Difference difference) {
    const size_t counted = a_.footer ? b.size() : std::min(a.size(), b.size());
    for (const T& row : a) add(part.first, row);
    for (size_t i = 0; i < counted; ++i) add(part.second, b[i]);
    for (size_t i = 0; i < std::min(a.size(), counted); ++i)
      if (std::string d = difference(a[i], b[i]); !d.empty()) part.differs(a[i].step, std::move(d));
    if (a.size() != counted)
      part.differs(last_, fmt::format("{} {}, again {}", a.size(), what, counted));
  }

  void compare_evaluations() {
    compare_rows(evaluation_, "evaluations", a_.evaluations, b_.evaluations,
                 [](const Evaluation& x, const Evaluation& y) -> std::string {
                   if (x.step == y.step && x.tokens == y.tokens &&
                       same(x.validation_loss, y.validation_loss))
                     return "";
                   return fmt::format("after step {}: loss {}, again after step {}: {}", x.step,
                                      x.validation_loss, y.step, y.validation_loss);
                 });
  }
  static void add(Fingerprint& to, const Evaluation& e) {
    to.add(fmt::format("{} {} ", e.step, e.tokens));
    to.add(e.validation_loss);
  }

  void compare_diagnostics() {
    compare_rows(diagnostic_, "rows", a_.diagnostics, b_.diagnostics,
                 [](const Diagnostic& x, const Diagnostic& y) -> std::string {
                   if (x.step == y.step && x.boundary == y.boundary && x.name == y.name &&
                       same(x.value, y.value))
                     return "";
                   return fmt::format("step {}, boundary {}: {} {}, again {} {}", x.step,
                                      x.boundary, x.name, x.value, y.name, y.value);
                 });
  }
  static void add(Fingerprint& to, const Diagnostic& d) {
    to.add(fmt::format("{} {} {} ", d.step, d.boundary, d.name));
    to.add(d.value);
  }

  void compare_footers() {
    if (!a_.footer || !b_.footer) return;
    const auto text = [&](Part& part, const char* what, const std::string& x,
                          const std::string& y) {
      part.first.add(x);
      part.second.add(y);
      if (x != y)
        part.differs(last_, fmt::format("after step {}: {} {}, again {}", last_, what, x, y));
    };
    text(data_, "hash of the data", a_.footer->data_hash, b_.footer->data_hash);
    text(parameters_, "hash of the parameters", a_.footer->parameters_hash,
         b_.footer->parameters_hash);
  }

  RecordComparison result() {
    RecordComparison r;
    r.steps = last_;
    r.complete = a_.footer.has_value();
    r.producer = a_.header.producer;
    for (Part* p : {&header_, &structure_, &bytes_, &loss_, &gradient_, &rest_, &evaluation_,
                    &diagnostic_, &parameters_, &data_}) {
      const std::string first = p->first.text(), second = p->second.text();
      if (first.empty() && second.empty()) continue;
      if (first != second)
        p->differs(-1,
                   "the fingerprints differ, though nothing that is compared piece by piece does");
      r.parts.push_back({p->what, first, second, p->difference, p->step});
    }
    return r;
  }

  Source a_, b_;
  std::optional<StepLog> last_a_, last_b_;
  int64_t last_ = 0;
  Part header_{"what was run"}, structure_{"what every rank did"}, bytes_{"bytes of every message"},
      loss_{"losses"}, gradient_{"gradient norms"}, rest_{"learning rates, tokens"},
      evaluation_{"validation losses"}, diagnostic_{"diagnostics"}, parameters_{"parameters"},
      data_{"data"};
};

}  // namespace

bool RecordComparison::equal() const {
  return std::all_of(parts.begin(), parts.end(),
                     [](const ComparedPart& p) { return p.difference.empty(); });
}

std::string RecordComparison::first_difference() const {
  const ComparedPart* first = nullptr;
  for (const ComparedPart& p : parts)
    if (!p.difference.empty() && (first == nullptr || p.step < first->step)) first = &p;
  return first == nullptr ? "" : first->what + ": " + first->difference;
}

RecordComparison compare_records(const std::filesystem::path& first_run,
                                 const std::filesystem::path& second_run) {
  return Comparison(first_run, second_run).run();
}

}  // namespace strait::cli
