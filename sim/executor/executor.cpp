// The executor: virtual time, ranks and the steps under way (sim/executor/executor.h).
#include "sim/executor/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <set>
#include <unordered_map>
#include <utility>

#include "sim/executor/attribution.h"
#include "sim/executor/rank_state.h"
#include "sim/executor/step_run.h"
#include "sim/executor/watchdog.h"

namespace strait::sim {
namespace {

// The network is asked to advance by no more than this at once while messages are in flight, so
// that the executor can look at the host's clock.
constexpr Nanoseconds kSlice{1'000'000'000};
// Virtual time beyond this (146 years) would overflow.
constexpr Nanoseconds kEndOfTime{Nanoseconds::max().count / 2};

}  // namespace

class Executor::Machine {
 public:
  Machine(std::vector<Device> devices, Network& network, Patience patience)
      : devices_(std::move(devices)),
        network_(network),
        silence_(patience),
        ranks_(devices_.size()) {
    if (devices_.empty()) throw std::invalid_argument("a simulation needs at least one rank");
    for (int rank = 0; rank < rank_count(); ++rank) starving_.insert(rank);
  }

  void feed(record::StepLog log) {
    if (input_ended_) throw std::logic_error("a step was fed after finish()");
    if (log.ranks.size() != devices_.size())
      throw std::invalid_argument(fmt::format("step {} has {} ranks; the simulation has {}",
                                              log.step, log.ranks.size(), devices_.size()));
    steps_.emplace_back(std::move(log));
  }

  void finish() { input_ended_ = true; }

  std::optional<StepTiming> next() {
    while (true) {
      if (!ended_.empty()) {
        StepTiming timing = std::move(ended_.front());
        ended_.pop_front();
        return timing;
      }
      if (!starving_.empty()) {
        if (!feed_starving()) return std::nullopt;
      } else if (!ready_.empty()) {
        const auto [rank, queue] = *ready_.begin();
        ready_.erase(ready_.begin());
        run_queue(rank, queue);
      } else if (ranks_done_ == rank_count()) {
        return std::nullopt;
      } else {
        let_time_pass();
      }
    }
  }

  Nanoseconds now() const { return now_; }
  size_t held() const { return steps_.size(); }

 private:
  struct InFlight {
    int64_t step = 0;
    int32_t message = 0;
  };

  int rank_count() const { return static_cast<int>(devices_.size()); }
  StepRun& run(int64_t step) { return steps_[static_cast<size_t>(step - first_step_)]; }
  StepRun& run_of(int rank) { return run(ranks_[rank].step); }
  int32_t entry_at(int rank, int queue) {
    return run_of(rank).queues[rank][queue][ranks_[rank].queues[queue].position];
  }
  EntryTiming& timing_of(int rank, int32_t entry) {
    return run_of(rank).timing.entries[rank][entry];
  }

  // ---- steps ----

  // Lets ranks that wait for a step begin it, or stop if none will come. False while a step must be
  // fed.
  bool feed_starving() {
    const int rank = *starving_.begin();
    const bool there = ranks_[rank].step - first_step_ < static_cast<int64_t>(steps_.size());
    if (!there && !input_ended_) return false;
    starving_.erase(starving_.begin());
    if (there) {
      begin_step(rank);
    } else {
      ++ranks_done_;
    }
    return true;
  }

  void begin_step(int rank) {
    RankState& state = ranks_[rank];
    state.queues.assign(run_of(rank).queues[rank].size(), Queue{});
    state.queues_left = state.queues.size();
    for (int queue = 0; queue < static_cast<int>(state.queues.size()); ++queue)
      ready_.emplace(rank, queue);
  }

  void finish_queue(int rank, int queue) {
    RankState& state = ranks_[rank];
    state.queues[queue].state = QueueState::done;
    if (--state.queues_left > 0) return;
    StepRun& step = run_of(rank);
    step.timing.ranks[rank].end = now_;
    step.timing.ranks[rank].last_entry = state.queues[queue].last;
    if (--step.ranks_left == 0) end_step();
    ++state.step;
    starving_.insert(rank);
  }

  // The oldest step has ended, at this instant.
  void end_step() {
    StepTiming timing = std::move(steps_.front().timing);
    timing.begin = last_end_;
    timing.end = last_end_ = now_;
    for (int rank = 0; rank < rank_count(); ++rank) {
      RankState& state = ranks_[rank];
      state.book_until(now_);
      const TimeBook &book = state.book, &before = state.book_at_last_step_end;
      RankTiming& result = timing.ranks[rank];
      result.compute = book.compute - before.compute;
      result.codec = book.codec - before.codec;
      result.waiting = book.waiting - before.waiting;
      result.idle = book.idle - before.idle;
      state.book_at_last_step_end = book;
    }
    timing.path = attribute(timing);
    timing.links = network_.links();
    ended_.push_back(std::move(timing));
    steps_.pop_front();
    ++first_step_;
  }

  // ---- queues ----

  // Runs a queue as far as it comes at this instant.
  void run_queue(int rank, int queue) {
    Queue& state = ranks_[rank].queues[queue];
    state.state = QueueState::ready;
    while (state.position < run_of(rank).queues[rank][queue].size()) {
      const int32_t index = entry_at(rank, queue);
      EntryTiming& timing = timing_of(rank, index);
      timing.start = now_;
      timing.previous = state.last;
      state.state = run_entry(rank, queue, index);
      if (state.state != QueueState::ready) return;
      pass(rank, queue, index);
    }
    finish_queue(rank, queue);
  }

  // The queue goes past its present entry.
  void pass(int rank, int queue, int32_t index) {
    timing_of(rank, index).end = now_;
    Queue& state = ranks_[rank].queues[queue];
    state.last = index;
    ++state.position;
  }

  // Starts an entry; `ready` if it is done at once.
  QueueState run_entry(int rank, int queue, int32_t index) {
    const record::Action& action = run_of(rank).entry(rank, index).action;
    if (const auto* compute = std::get_if<record::Compute>(&action))
      return ask_for_device(rank, queue, index, *compute);
    if (std::holds_alternative<record::Send>(action)) {
      send(rank, run_of(rank).reference[rank][index]);
      return QueueState::ready;
    }
    if (std::holds_alternative<record::Receive>(action))
      return receive(rank, run_of(rank).reference[rank][index]);
    if (std::holds_alternative<record::Signal>(action)) {
      signal(rank, index);
      return QueueState::ready;
    }
    const int32_t signal_entry = run_of(rank).reference[rank][index];
    return timing_of(rank, signal_entry).end <= now_ ? QueueState::ready : QueueState::at_wait;
  }

  void signal(int rank, int32_t index) {
    timing_of(rank, index).end = now_;
    auto& queues = ranks_[rank].queues;
    for (int queue = 0; queue < static_cast<int>(queues.size()); ++queue) {
      if (queues[queue].state != QueueState::at_wait) continue;
      const int32_t waiting = entry_at(rank, queue);
      if (run_of(rank).reference[rank][waiting] != index) continue;
      timing_of(rank, waiting).previous = index;
      wake(rank, queue);
    }
  }

  // A queue that stood still goes on.
  void wake(int rank, int queue) {
    pass(rank, queue, entry_at(rank, queue));
    ranks_[rank].queues[queue].state = QueueState::ready;
    ready_.emplace(rank, queue);
  }

  // ---- computes ----

  QueueState ask_for_device(int rank, int queue, int32_t index, const record::Compute& compute) {
    RankState& state = ranks_[rank];
    if (state.running || !state.asking.empty()) {
      state.asking.push_back(queue);
      return QueueState::asking_for_device;
    }
    return start_compute(rank, queue, index, compute);
  }

  QueueState start_compute(int rank, int queue, int32_t index, const record::Compute& compute) {
    const Nanoseconds duration = devices_[rank].nanoseconds(compute);
    if (duration.count == 0) return QueueState::ready;
    if (duration > kEndOfTime - now_) throw SimulationError("virtual time has passed 146 years");
    RankState& state = ranks_[rank];
    state.book_until(now_);
    state.running = Running{queue, index, compute.category, now_ + duration};
    computes_.emplace(now_ + duration, rank);
    return QueueState::on_device;
  }

  void end_compute(int rank) {
    RankState& state = ranks_[rank];
    state.book_until(now_);
    const Running done = *state.running;
    state.running.reset();
    wake(rank, done.queue);
    int32_t freed_by = done.entry;
    while (!state.running && !state.asking.empty()) {
      const int queue = state.asking.front();
      state.asking.pop_front();
      const int32_t index = entry_at(rank, queue);
      timing_of(rank, index).start = now_;
      timing_of(rank, index).previous = freed_by;
      const auto& compute = std::get<record::Compute>(run_of(rank).entry(rank, index).action);
      state.queues[queue].state = start_compute(rank, queue, index, compute);
      if (state.running) break;
      wake(rank, queue);
      freed_by = index;
    }
  }

  // ---- messages ----

  void send(int rank, int32_t index) {
    StepRun& step = run_of(rank);
    MessageTiming& message = step.timing.messages[index];
    network_.offer({next_id_, rank, message.to, message.bytes()}, now_);
    in_flight_.emplace(next_id_++, InFlight{ranks_[rank].step, index});
    message.delivery.sent = now_;
    step.message_state[index] = MessageState::in_flight;
    silence_.note_progress(now_);
    if (stands_at(message, ranks_[rank].step) >= 0) {
      ranks_[message.to].book_until(now_);
      ++ranks_[message.to].receives_under_way;
    }
  }

  QueueState receive(int rank, int32_t index) {
    StepRun& step = run_of(rank);
    if (step.message_state[index] == MessageState::delivered) {
      step.timing.messages[index].received = now_;
      return QueueState::ready;
    }
    if (step.message_state[index] == MessageState::in_flight) {
      ranks_[rank].book_until(now_);
      ++ranks_[rank].receives_under_way;
    }
    return QueueState::at_receive;
  }

  // The queue of the receiver that stands at the receive of this message; -1 if none does yet.
  int stands_at(const MessageTiming& message, int64_t step) {
    RankState& receiver = ranks_[message.to];
    if (receiver.step != step) return -1;
    const int queue = run(step).entry(message.to, message.receive_entry).queue;
    if (queue >= static_cast<int>(receiver.queues.size())) return -1;
    const bool stands = receiver.queues[queue].state == QueueState::at_receive &&
                        entry_at(message.to, queue) == message.receive_entry;
    return stands ? queue : -1;
  }

  void deliver(const Delivery& delivery) {
    const auto found = in_flight_.find(delivery.id);
    if (found == in_flight_.end())
      throw std::logic_error("the network delivered a message that was not in flight");
    const InFlight which = found->second;
    in_flight_.erase(found);
    StepRun& step = run(which.step);
    MessageTiming& message = step.timing.messages[which.message];
    check_delivery(delivery, message, now_);
    message.delivery = delivery;
    message.delivery.id = message.id;
    step.message_state[which.message] = MessageState::delivered;
    const int queue = stands_at(message, which.step);
    if (queue < 0) return;
    RankState& receiver = ranks_[message.to];
    receiver.book_until(now_);
    --receiver.receives_under_way;
    message.received = now_;
    timing_of(message.to, message.receive_entry).message = which.message;
    wake(message.to, queue);
  }

  // ---- time ----

  void let_time_pass() {
    const Nanoseconds compute_end =
        computes_.empty() ? Nanoseconds::max() : computes_.begin()->first;
    if (computes_.empty() && in_flight_.empty()) give_up("nothing can go on");
    Nanoseconds until = compute_end;
    if (!in_flight_.empty()) until = std::min(until, now_ + kSlice);
    deliveries_.clear();
    const Nanoseconds reached = network_.advance(until, deliveries_);
    if (reached < now_ || reached > until || (deliveries_.empty() && reached != until))
      throw std::logic_error(fmt::format("the network advanced from {} to {} ns, asked for {} ns",
                                         now_.count, reached.count, until.count));
    now_ = reached;
    if (now_ > kEndOfTime) throw SimulationError("virtual time has passed 146 years");
    for (const Delivery& delivery : deliveries_) deliver(delivery);
    while (!computes_.empty() && computes_.begin()->first == now_) {
      const int rank = computes_.begin()->second;
      computes_.erase(computes_.begin());
      end_compute(rank);
    }
    if (!deliveries_.empty() || in_flight_.empty()) {
      silence_.note_progress(now_);
    } else if (const auto why = silence_.too_long(now_)) {
      give_up(*why);
    }
  }

  [[noreturn]] void give_up(const std::string& why) {
    std::vector<Standing> standing;
    for (int rank = 0; rank < rank_count(); ++rank) {
      const RankState& state = ranks_[rank];
      const bool has_step = state.step - first_step_ < static_cast<int64_t>(steps_.size());
      if (has_step) standing.push_back({rank, &state, &run(state.step)});
    }
    throw SimulationError(describe_standstill(why, now_, standing, network_.describe_in_flight()));
  }

  std::vector<Device> devices_;
  Network& network_;
  Silence silence_;
  std::vector<RankState> ranks_;
  std::deque<StepRun> steps_;
  int64_t first_step_ = 0;  // place of steps_.front()
  std::deque<StepTiming> ended_;
  std::set<int> starving_;                          // ranks that wait for their next step to be fed
  std::set<std::pair<int, int>> ready_;             // (rank, queue) that go on at this instant
  std::set<std::pair<Nanoseconds, int>> computes_;  // (end, rank)
  std::unordered_map<uint64_t, InFlight> in_flight_;  // by the network's id
  std::vector<Delivery> deliveries_;
  uint64_t next_id_ = 0;
  int ranks_done_ = 0;
  bool input_ended_ = false;
  Nanoseconds now_, last_end_;
};

Executor::Executor(std::vector<Device> devices, Network& network, Patience patience)
    : machine_(std::make_unique<Machine>(std::move(devices), network, patience)) {}
Executor::~Executor() = default;
void Executor::feed(record::StepLog step) { machine_->feed(std::move(step)); }
void Executor::finish() { machine_->finish(); }
std::optional<StepTiming> Executor::next() { return machine_->next(); }
Nanoseconds Executor::now() const { return machine_->now(); }
size_t Executor::held() const { return machine_->held(); }

}  // namespace strait::sim
