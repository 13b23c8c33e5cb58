// TraceWriter: which row goes into which file (sim/trace/trace_writer.h).
#include "sim/trace/trace_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>

#include "sim/trace/names.h"
#include "sim/trace/output_file.h"
#include "sim/trace/summary.h"
#include "sim/trace/timeline.h"

namespace strait::sim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kSteps =
    "step,tokens,loss,grad_norm,learning_rate,time_s,step_s,compute_s,codec_s,host_s,serialisation_"
    "s,propagation_s,"
    "window_s,queue_s,recovery_s,bytes_forward,bytes_backward,bytes_sync";
constexpr std::string_view kRanks =
    "step,rank,compute_s,codec_s,waiting_s,idle_s,bytes_sent,bytes_received";
constexpr std::string_view kLinks = "step,from,to,bytes,busy_s,utilisation";
constexpr std::string_view kEvaluations = "step,tokens,time_s,validation_loss,perplexity";
constexpr std::string_view kMessages =
    "step,from,to,kind,microbatch,bytes,sent_s,delivered_s,bound_by";
constexpr std::string_view kDiagnostics = "step,boundary,name,value";

Json read_reference(const std::string& path) {
  if (path.empty()) return nullptr;
  std::ifstream file(path);
  if (!file) throw RunFileError(fmt::format("cannot read the reference {}", path));
  Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    throw RunFileError(fmt::format("the reference {} is not a JSON object", path));
  return json;
}

}  // namespace

struct TraceWriter::State {
  State(const record::RecordHeader& header, TraceOptions given)
      : options(std::move(given)),
        reference(read_reference(options.reference)),
        steps(path_in_cleared_directory("steps.csv"), kSteps),
        ranks(path("ranks.csv"), kRanks),
        links(path("links.csv"), kLinks),
        evaluations(path("evals.csv"), kEvaluations),
        timeline(static_cast<int>(header.ranks.size())),
        summary(header, options) {
    if (options.messages != MessageRows::none) messages.emplace(path("messages.csv"), kMessages);
  }

  std::string path(const char* file) const {
    return (std::filesystem::path(options.directory) / file).string();
  }

  // Before the first file is emptied, the summary goes: a directory that has one counts as finished.
  std::string path_in_cleared_directory(const char* file) const {
    for (const char* stale : {"summary.json", "timeline.json", "messages.csv", "diagnostics.csv"})
      std::filesystem::remove(path(stale));
    return path(file);
  }

  void write_step_row(const StepTiming& step) {
    const record::StepLog& log = step.log;
    const Attribution& part = step.path;
    Bytes forward, backward, sync;
    for (const MessageTiming& message : step.messages) {
      sync += message.sync;
      switch (message.kind) {
        case record::MessageKind::forward:
          forward += message.payload;
          break;
        case record::MessageKind::backward:
          backward += message.payload;
          break;
        case record::MessageKind::sync:
          sync += message.payload;
          break;
      }
    }
    steps.cell(log.step).cell(tokens).cell(log.loss).cell(log.grad_norm).cell(log.learning_rate);
    steps.cell(step.end).cell(step.step_time()).cell(part.compute).cell(part.codec).cell(part.host);
    steps.cell(part.serialisation)
        .cell(part.propagation)
        .cell(part.window)
        .cell(part.queue)
        .cell(part.recovery);
    steps.cell(forward).cell(backward).cell(sync).end_row();
    steps.flush();
  }

  void write_rank_rows(const StepTiming& step) {
    for (size_t rank = 0; rank < step.ranks.size(); ++rank) {
      const RankTiming& time = step.ranks[rank];
      ranks.cell(step.log.step)
          .cell(static_cast<int64_t>(rank))
          .cell(time.compute)
          .cell(time.codec);
      ranks.cell(time.waiting)
          .cell(time.idle)
          .cell(time.bytes_sent)
          .cell(time.bytes_received)
          .end_row();
    }
    ranks.flush();
  }

  void write_link_rows(const StepTiming& step) {
    last_links.resize(step.links.size());
    for (size_t i = 0; i < step.links.size(); ++i) {
      const LinkUse &now = step.links[i], &before = last_links[i];
      const Nanoseconds busy = now.busy - before.busy;
      const double share =
          step.step_time().count > 0
              ? static_cast<double>(busy.count) / static_cast<double>(step.step_time().count)
              : 0.0;
      links.cell(step.log.step).cell(std::string_view(now.from)).cell(std::string_view(now.to));
      links.cell(now.bytes - before.bytes).cell(busy).cell(share).end_row();
    }
    last_links = step.links;
    links.flush();
  }

  void write_message_rows(const StepTiming& step) {
    if (!messages || (options.messages == MessageRows::first_steps && step.log.step > kFirstSteps))
      return;
    std::vector<const MessageTiming*> rows;
    for (const MessageTiming& message : step.messages) rows.push_back(&message);
    std::stable_sort(rows.begin(), rows.end(), [](const MessageTiming* a, const MessageTiming* b) {
      return a->delivery.sent < b->delivery.sent;
    });
    for (const MessageTiming* m : rows) {
      messages->cell(step.log.step)
          .cell(m->from)
          .cell(m->to)
          .cell(name_of(m->kind))
          .cell(m->microbatch);
      messages->cell(m->bytes())
          .cell(m->delivery.sent)
          .cell(m->delivery.delivered)
          .cell(bound_by(m->delivery))
          .end_row();
    }
    messages->flush();
  }

  // Evaluations are written in the order of the record, each as soon as the step that it follows
  // has ended.
  void write_due_evaluations() {
    while (!pending.empty() && pending.front().step <= static_cast<int64_t>(ends.size())) {
      const record::Evaluation& evaluation = pending.front();
      const Nanoseconds time = evaluation.step == 0 ? Nanoseconds{0} : ends[evaluation.step - 1];
      evaluations.cell(evaluation.step)
          .cell(evaluation.tokens)
          .cell(time)
          .cell(evaluation.validation_loss);
      evaluations.cell(std::exp(evaluation.validation_loss)).end_row();
      summary.add(evaluation, time);
      pending.pop_front();
    }
    evaluations.flush();
  }

  TraceOptions options;
  Json reference;
  CsvFile steps, ranks, links, evaluations;
  std::optional<CsvFile> messages, diagnostics;
  Timeline timeline;
  SummaryBook summary;
  uint64_t tokens = 0;
  std::vector<Nanoseconds> ends;  // of all steps so far
  std::vector<LinkUse> last_links;
  std::deque<record::Evaluation> pending;
};

TraceWriter::TraceWriter(const record::RecordHeader& header, TraceOptions options)
    : state_(std::make_unique<State>(header, std::move(options))) {}
TraceWriter::~TraceWriter() = default;

void TraceWriter::write_step(const StepTiming& step) {
  State& state = *state_;
  state.tokens += step.log.tokens;
  state.ends.push_back(step.end);
  state.write_step_row(step);
  state.write_rank_rows(step);
  state.write_link_rows(step);
  state.write_message_rows(step);
  if (step.log.step >= state.options.timeline_first && step.log.step <= state.options.timeline_last)
    state.timeline.add(step);
  state.summary.add(step);
  state.write_due_evaluations();
}

void TraceWriter::write_evaluation(const record::Evaluation& evaluation) {
  state_->pending.push_back(evaluation);
  state_->write_due_evaluations();
}

void TraceWriter::write_diagnostic(const record::Diagnostic& diagnostic) {
  std::optional<CsvFile>& file = state_->diagnostics;
  if (!file) file.emplace(state_->path("diagnostics.csv"), kDiagnostics);
  file->cell(diagnostic.step)
      .cell(diagnostic.boundary)
      .cell(std::string_view(diagnostic.name))
      .cell(diagnostic.value)
      .end_row();
  file->flush();
}

Json TraceWriter::finish(const std::optional<record::RecordFooter>& footer,
                         double simulation_host_seconds) {
  State& state = *state_;
  if (state.options.timeline_first <= state.options.timeline_last)
    write_whole_file(state.path("timeline.json"), state.timeline.json());
  Json json = state.summary.json(footer, simulation_host_seconds, state.reference);
  write_whole_file(state.path("summary.json"),
                   json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  return json;
}

}  // namespace strait::sim
