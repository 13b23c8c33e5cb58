#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>

#include "sim/cli/prediction.h"
#include "sim/executor/simulate.h"
#include "sim/network/cost.h"
#include "sim/scenario/devices.h"

namespace strait::cli {

namespace {

void add(StepBytes& b, const record::Send& send) {
  ++b.messages;
  KindBytes& kind = send.kind == record::MessageKind::forward    ? b.forward
                    : send.kind == record::MessageKind::backward ? b.backward
                                                                 : b.control;
  kind.payload += send.payload.count;
  kind.sections += send.sync.count;
  kind.dense += send.dense.count;
}

// book(from, send) for every message.
template <class Book>
void for_each_send(const record::StepLog& step, const Book& book) {
  for (size_t rank = 0; rank < step.ranks.size(); ++rank)
    for (const record::Entry& e : step.ranks[rank].entries)
      if (const auto* send = std::get_if<record::Send>(&e.action))
        book(static_cast<int>(rank), *send);
}

}  // namespace

StepBytes bytes_of(const record::StepLog& step) {
  StepBytes b;
  for_each_send(step, [&](int, const record::Send& send) { add(b, send); });
  return b;
}

StepTraffic traffic_of(const record::StepLog& step, const Grid& grid) {
  StepTraffic t;
  for_each_send(step, [&](int from, const record::Send& send) {
    add(grid.replica(from) != grid.replica(send.to) ? t.data
        : grid.shard(from) != grid.shard(send.to)   ? t.context
                                                    : t.pipeline,
        send);
  });
  return t;
}

KindBytes& KindBytes::operator+=(const KindBytes& other) {
  payload += other.payload;
  sections += other.sections;
  dense += other.dense;
  return *this;
}

KindBytes StepBytes::exchange() const {
  KindBytes sum = forward;
  return sum += backward;
}

KindBytes StepBytes::combined() const {
  KindBytes sum = exchange();
  return sum += control;
}

double flops_of(const record::StepLog& step) {
  double flops = 0;
  for (const record::RankLog& rank : step.ranks) {
    for (const record::Entry& e : rank.entries) {
      if (const auto* c = std::get_if<record::Compute>(&e.action)) {
        for (const record::OpWork& op : c->ops) flops += static_cast<double>(op.flops);
      }
    }
  }
  return flops;
}

StepPrediction predict_step(const scenario::Scenario& s, const record::RecordHeader& header,
                            const record::StepLog& step) {
  const int ranks = s.parallel.ranks();
  const auto network = s.network.model == sim::NetworkModel::ideal
                           ? sim::make_ideal(s.network, ranks)
                           : sim::make_fluid(s.network, ranks);
  std::vector<record::StepLog> steps(3, step);
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = static_cast<int64_t>(i) + 1;
  record::RecordHeader h = header;
  h.meta = true;
  const auto devices = scenario::make_devices(s, h, scenario::link_free_factor(s, h, step));
  auto timings = sim::simulate(h, steps, devices, *network);
  return {std::move(timings.front()), std::move(timings.back())};
}

double predict_training_seconds(const TrainingConfig& config, const record::StepLog& step,
                                int host_threads) {
  // A 256^3 product, best of five: what the machine gives on one thread right now.
  auto ops = make_cpu_backend(1);
  constexpr int64_t n = 256;
  auto memory = ops->allocate(3 * n * n * 4);
  auto matrix = [&](int i) {
    return Tensor(static_cast<std::byte*>(memory->data()) + i * n * n * 4, config.dtype, {n, n});
  };
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ops->matmul(matrix(0), matrix(1), false, matrix(2), true, false);
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const double rate = 2.0 * n * n * n / best;
  // Small models spend about as much time between the products as in them.
  return 2.0 * flops_of(step) * static_cast<double>(config.steps) /
         (rate * std::min(host_threads, config.grid().ranks()));
}

double predict_packet_seconds(const scenario::Scenario& s, const record::StepLog& step) {
  const StepBytes b = bytes_of(step);
  const auto steps = static_cast<uint64_t>(s.training.steps);
  return sim::predicted_host_seconds(s.network, s.parallel.ranks(), Bytes{b.all() * steps},
                                     static_cast<uint64_t>(b.messages) * steps);
}

}  // namespace strait::cli
