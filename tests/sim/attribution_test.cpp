// The critical path: exact sums over random logs on all topologies, and the cut at the previous
// step's end by hand.
#include "sim/executor/attribution.h"

#include <gtest/gtest.h>

#include "sim/executor/simulate.h"
#include "tests/sim/log_builder.h"

namespace strait::sim {
namespace {

using namespace strait::testing;

// attribute() itself throws unless the path adds up; this test adds the ranks' books and the order
// of times.
void check_sums(const std::vector<StepTiming>& timings) {
  Nanoseconds previous_end;
  for (const StepTiming& step : timings) {
    EXPECT_EQ(step.begin, previous_end);
    EXPECT_EQ(step.path.total(), step.step_time());
    for (const RankTiming& rank : step.ranks) {
      EXPECT_EQ(rank.compute + rank.codec + rank.waiting + rank.idle, step.step_time());
      EXPECT_LE(rank.end, step.end);
    }
    for (const MessageTiming& message : step.messages)
      EXPECT_GE(message.received, message.delivery.delivered);
    previous_end = step.end;
  }
}

TEST(Attribution, AddsUpExactlyOverRandomLogs) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    const int ranks = 1 + static_cast<int>(random() % 5);
    std::vector<StepLog> steps;
    for (int s = 1; s <= 5; ++s)
      steps.push_back(random_step(random, ranks, s, 20 + static_cast<int>(random() % 120)));
    const auto topology = trial % 2 == 0 ? Topology::mesh : Topology::access;
    NetworkConfig config =
        ideal_config(80'000'000, static_cast<int64_t>(random() % 5'000'000), topology);
    config.ideal.shared_inbound = trial % 3 == 0;
    const int nodes = std::max(ranks, 2);  // a network connects at least two
    const auto ideal = make_ideal(config, nodes);
    check_sums(simulate(make_header(ranks), steps, measured_devices(ranks), *ideal));
    const auto fluid = make_fluid(config, nodes);
    check_sums(simulate(make_header(ranks), steps, measured_devices(ranks), *fluid));
  }
}

// All computing of a rank is booked somewhere: over the whole run its books hold exactly its
// entries.
TEST(Attribution, BooksEveryComputeOfARank) {
  std::mt19937_64 random(2);
  std::vector<StepLog> steps;
  for (int s = 1; s <= 4; ++s) steps.push_back(random_step(random, 3, s, 100));
  const auto network = make_ideal(ideal_config(80'000'000, 1'000'000, Topology::mesh), 3);
  const auto timings = simulate(make_header(3), steps, measured_devices(3), *network);
  for (size_t rank = 0; rank < 3; ++rank) {
    Nanoseconds compute, codec, booked_compute, booked_codec;
    for (const StepLog& step : steps)
      for (const Entry& entry : step.ranks[rank].entries)
        if (const auto* c = std::get_if<Compute>(&entry.action))
          (c->category == Category::codec ? codec : compute) += c->measured;
    for (const StepTiming& timing : timings) {
      booked_compute += timing.ranks[rank].compute;
      booked_codec += timing.ranks[rank].codec;
    }
    EXPECT_EQ(booked_compute, compute);
    EXPECT_EQ(booked_codec, codec);
  }
}

// Rank 0 sends at 1 ms and is done; rank 1 of step 1 ends at 10 ms. In step 2 rank 0 sends again at
// 2 ms, 8 ms before the cut; its message is there at 2 + c. Only the last c - 8 ms of it count, the
// propagation first.
TEST(Attribution, ClipsAMessageThatStraddlesTheCut) {
  std::vector<StepLog> steps;
  for (int s = 1; s <= 2; ++s) {
    StepBuilder builder(2, s);
    builder.compute(0, 1'000'000);
    if (s == 1) builder.compute(1, 10'000'000);
    if (s == 2) builder.receive(1, builder.send(0, 1, 100'000));
    steps.push_back(builder.log);
  }
  // 100,000 bytes at 80 Mbps are 10 ms; latency 3 ms: delivered at 2 + 13 = 15 ms, 5 ms behind the
  // cut.
  const auto network = make_ideal(ideal_config(80'000'000, 3'000'000), 2);
  const auto timings = simulate(make_header(2), steps, measured_devices(2), *network);
  EXPECT_EQ(timings[0].end.count, 10'000'000);
  EXPECT_EQ(timings[1].end.count, 15'000'000);
  EXPECT_EQ(timings[1].path.propagation.count, 3'000'000);
  EXPECT_EQ(timings[1].path.serialisation.count, 2'000'000);
  EXPECT_EQ(timings[1].path.compute.count, 0);
}

// Rank 0 computes from 1 to 13 ms for step 2; the cut at 10 ms leaves 3 ms of it.
TEST(Attribution, ClipsAComputeThatStraddlesTheCut) {
  std::vector<StepLog> steps;
  for (int s = 1; s <= 2; ++s) {
    StepBuilder builder(2, s);
    builder.compute(0, s == 1 ? 1'000'000 : 12'000'000, Phase::forward, 0, 0,
                    s == 1 ? Category::compute : Category::codec);
    if (s == 1) builder.compute(1, 10'000'000);
    steps.push_back(builder.log);
  }
  const auto network = make_ideal(ideal_config(80'000'000, 3'000'000), 2);
  const auto timings = simulate(make_header(2), steps, measured_devices(2), *network);
  EXPECT_EQ(timings[1].step_time().count, 3'000'000);
  EXPECT_EQ(timings[1].path.codec.count, 3'000'000);
}

// The phases of one whole message, in a log where nothing else takes time.
TEST(Attribution, CountsEveryPhaseOfAMessage) {
  class OneDelivery : public BlackHole {
   public:
    void offer(const Offer& message, Nanoseconds) override { delivery.id = message.id; }
    Nanoseconds advance(Nanoseconds, std::vector<Delivery>& out) override {
      out.push_back(delivery);
      return delivery.delivered;
    }
    Delivery delivery;
  };
  OneDelivery network;
  network.delivery.delivered = {63};
  network.delivery.host = {1};
  network.delivery.serialisation = {2};
  network.delivery.propagation = {4};
  network.delivery.queue = {8};
  network.delivery.recovery = {16};
  network.delivery.window = {32};
  StepBuilder builder(2);
  builder.receive(1, builder.send(0, 1, 100));
  const std::vector<StepLog> steps = {builder.log};
  const auto timings = simulate(make_header(2), steps, measured_devices(2), network);
  const Attribution& path = timings[0].path;
  EXPECT_EQ(path.host.count, 1);
  EXPECT_EQ(path.serialisation.count, 2);
  EXPECT_EQ(path.propagation.count, 4);
  EXPECT_EQ(path.queue.count, 8);
  EXPECT_EQ(path.recovery.count, 16);
  EXPECT_EQ(path.window.count, 32);
}

}  // namespace
}  // namespace strait::sim
