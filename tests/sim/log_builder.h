// Builds logs for tests: single entries, whole pipeline schedules with given times and sizes, and
// random logs that cannot deadlock. Also networks that misbehave on purpose.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "sim/device/device.h"
#include "sim/network/network.h"
#include "sim/record/log.h"

namespace strait::testing {

using namespace strait::record;

inline RecordHeader make_header(int pipeline, int context = 1, int data = 1) {
  RecordHeader header;
  header.producer = "test";
  header.backend = "cpu";
  header.precision = "fp32";
  header.record_hash = "0123";
  header.seed = 7;
  header.pipeline = pipeline;
  header.context = context;
  header.data = data;
  header.op_names = {"matmul", "add", "softmax"};
  for (int rank = 0; rank < pipeline * context * data; ++rank) {
    RankInfo info{rank % pipeline, rank / pipeline % context, rank / pipeline / context};
    info.layers = "layer " + std::to_string(rank);
    info.parameters = 1000;
    info.persistent = Bytes{4000};
    info.frames = Bytes{500};
    info.scratch = Bytes{60};
    header.ranks.push_back(info);
  }
  return header;
}

// Appends one frame. (Out of line, and used instead of lists of frames: when it sanitizes, GCC 12
// takes the alternatives of an inlined, moved variant for uninitialised.)
template <typename Content>
[[gnu::noinline]] void add_frame(std::vector<Frame>& frames, const Content& content) {
  frames.emplace_back(std::in_place_type<Content>, content);
}

// A record of a header and whatever follows it.
template <typename... Contents>
std::vector<Frame> record_of(const RecordHeader& header, const Contents&... contents) {
  std::vector<Frame> frames;
  add_frame(frames, header);
  (add_frame(frames, contents), ...);
  return frames;
}

// Appends entries to a step; message numbers count up per sender.
class StepBuilder {
 public:
  explicit StepBuilder(int ranks, int64_t step = 1) : numbers_(ranks) {
    log.step = step;
    log.tokens = 100;
    log.loss = 3.0 / static_cast<double>(step);
    log.grad_norm = 1;
    log.learning_rate = 0.001;
    log.ranks.resize(ranks);
  }

  void compute(int rank, int64_t nanoseconds, Phase phase = Phase::forward, int microbatch = 0,
               int queue = 0, Category category = Category::compute) {
    Compute compute{category, phase, microbatch, {}, Nanoseconds{nanoseconds}};
    compute.ops.push_back(
        {0, OpClass::matrix, false, static_cast<uint64_t>(nanoseconds) * 10, 100});
    add(rank, queue, compute);
  }
  uint64_t send(int from, int to, uint64_t payload, MessageKind kind = MessageKind::forward,
                int microbatch = 0, int queue = 0, uint64_t sync = 0) {
    const uint64_t id = static_cast<uint64_t>(from) << 32 | numbers_[from]++;
    const uint64_t dense = kind == MessageKind::sync ? 0 : payload * 8;
    add(from, queue, Send{id, to, kind, microbatch, Bytes{payload}, Bytes{sync}, Bytes{dense}});
    return id;
  }
  void receive(int rank, uint64_t id, int queue = 0) {
    add(rank, queue, Receive{id, static_cast<int32_t>(id >> 32)});
  }
  void signal(int rank, uint32_t event, int queue) { add(rank, queue, Signal{event}); }
  void wait(int rank, uint32_t event, int queue) { add(rank, queue, Wait{event}); }

  StepLog log;

 private:
  template <typename Alternative>
  void add(int rank, int queue, Alternative action) {
    Entry& entry = log.ranks[rank].entries.emplace_back();
    entry.queue = static_cast<uint8_t>(queue);
    entry.action.template emplace<Alternative>(std::move(action));
  }
  std::vector<uint64_t> numbers_;
};

// A stage's order of work: true is a forward, false a backward, each microbatch in turn.
inline std::vector<bool> gpipe_order(int, int, int microbatches) {
  std::vector<bool> order(microbatches, true);
  order.insert(order.end(), microbatches, false);
  return order;
}
inline std::vector<bool> one_f_one_b_order(int stage, int stages, int microbatches) {
  const int warmup = std::min(stages - stage - 1, microbatches);
  std::vector<bool> order(warmup, true);
  for (int i = warmup; i < microbatches; ++i) order.insert(order.end(), {true, false});
  order.insert(order.end(), warmup, false);
  return order;
}

struct PipelineTimes {
  int64_t forward = 0, backward = 0, update = 0;
  uint64_t bytes = 1;
  int64_t codec = 0;  // before every send
};

// One step of a pipeline. Message numbers: forward microbatch m of a stage is m, its backward M +
// m.
template <typename Order>
StepLog pipeline_step(int stages, int microbatches, const PipelineTimes& times, Order order_of,
                      int64_t step = 1) {
  StepBuilder builder(stages, step);
  const auto id = [&](int from, bool forward, int m) {
    return static_cast<uint64_t>(from) << 32 |
           static_cast<uint64_t>(forward ? m : microbatches + m);
  };
  for (int stage = 0; stage < stages; ++stage) {
    int done[2] = {0, 0};
    for (const bool forward : order_of(stage, stages, microbatches)) {
      const int m = done[forward]++;
      const int source = forward ? stage - 1 : stage + 1, target = forward ? stage + 1 : stage - 1;
      if (source >= 0 && source < stages) builder.receive(stage, id(source, forward, m));
      builder.compute(stage, forward ? times.forward : times.backward,
                      forward ? Phase::forward : Phase::backward, m);
      if (target < 0 || target >= stages) continue;
      if (times.codec > 0)
        builder.compute(stage, times.codec, forward ? Phase::encode : Phase::encode_grad, m, 0,
                        Category::codec);
      builder.send(stage, target, times.bytes,
                   forward ? MessageKind::forward : MessageKind::backward, m);
      std::get<Send>(builder.log.ranks[stage].entries.back().action).id = id(stage, forward, m);
    }
    builder.compute(stage, times.update, Phase::update, -1);
  }
  return builder.log;
}

// A step in which everything may happen: several queues, messages between all ranks, events.
// Entries are made in an order in which they could run, so it never deadlocks.
inline StepLog random_step(std::mt19937_64& random, int ranks, int64_t step, int length) {
  const auto below = [&](uint64_t n) { return static_cast<int>(random() % n); };
  StepBuilder builder(ranks, step);
  std::vector<std::pair<int, uint64_t>> sent;       // (receiver, id) not received yet
  std::vector<std::pair<int, uint32_t>> signalled;  // (rank, event) not waited for yet
  uint32_t next_event = 0;
  const auto receive_one = [&] {
    const size_t which = random() % sent.size();
    builder.receive(sent[which].first, sent[which].second, below(2));
    sent.erase(sent.begin() + static_cast<long>(which));
  };
  for (int i = 0; i < length; ++i) {
    const int rank = below(ranks), kind = below(10);
    if (kind < 4) {
      builder.compute(rank, below(5) == 0 ? 0 : below(3'000'000), Phase::forward, i, below(2),
                      below(3) == 0 ? Category::codec : Category::compute);
    } else if (kind < 7 && ranks > 1) {
      const int to = (rank + 1 + below(ranks - 1)) % ranks;
      sent.emplace_back(to, builder.send(rank, to, 1 + below(30'000),
                                         static_cast<MessageKind>(below(3)), i, below(2)));
    } else if (kind < 9 && !sent.empty()) {
      receive_one();
    } else if (below(2) == 0) {
      builder.signal(rank, next_event, below(2));
      signalled.emplace_back(rank, next_event++);
    } else if (!signalled.empty()) {
      const auto [waiter, event] = signalled.back();
      signalled.pop_back();
      builder.wait(waiter, event, below(2));
    }
  }
  while (!sent.empty()) receive_one();
  return builder.log;
}

inline sim::NetworkConfig ideal_config(uint64_t bits_per_second, int64_t latency_ns,
                                       sim::Topology topology = sim::Topology::chain) {
  sim::NetworkConfig config;
  config.model = sim::NetworkModel::ideal;
  config.topology = topology;
  config.links.bandwidth = {bits_per_second};
  config.links.latency = {latency_ns};
  return config;
}

inline std::vector<sim::Device> measured_devices(int ranks) {
  return {static_cast<size_t>(ranks), sim::Device::measured()};
}

// Takes messages and never gives them back.
class BlackHole : public sim::Network {
 public:
  void offer(const sim::Offer& message, Nanoseconds) override {
    text_ += "message of " + std::to_string(message.bytes.count) + " bytes lost\n";
  }
  Nanoseconds advance(Nanoseconds until, std::vector<sim::Delivery>&) override { return until; }
  std::vector<sim::LinkUse> links() const override { return {}; }
  std::string describe_in_flight() const override { return text_; }

 private:
  std::string text_;
};

}  // namespace strait::testing
