// The executor against schedules computed by hand over the ideal network, where one message takes
// c = bytes * 8 / bandwidth + latency and nothing else happens.
#include "sim/executor/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sim/executor/simulate.h"
#include "tests/sim/log_builder.h"

namespace strait::sim {
namespace {

using namespace strait::testing;
using ::testing::HasSubstr;

// 1000 bytes at 80 Mbps are 100 us; with 20 ms of latency c = 20.1 ms.
constexpr int64_t kTransfer = 20'100'000;
NetworkConfig home() { return ideal_config(80'000'000, 20'000'000); }

std::vector<StepTiming> run(const std::vector<StepLog>& steps, const NetworkConfig& config) {
  const int ranks = static_cast<int>(steps.front().ranks.size());
  const auto network = make_ideal(config, ranks);
  return simulate(make_header(ranks), steps, measured_devices(ranks), *network);
}

TEST(Executor, OneMessageTakesSerialisationAndLatency) {
  StepBuilder builder(2);
  const uint64_t id = builder.send(0, 1, 1000);
  builder.receive(1, id);
  const auto timing = run({builder.log}, home());
  EXPECT_EQ(timing[0].end.count, kTransfer);
  EXPECT_EQ(timing[0].path.serialisation.count, 100'000);
  EXPECT_EQ(timing[0].path.propagation.count, 20'000'000);
}

// GPipe, S stages, M microbatches, links never busy longer than a compute: the last stage has done
// all forwards at (S-1)(f+c) + M f, all backwards M b later, and the last of these reaches stage 0
// after S-1 more hops:
//   T = (M+S-1)(f+b) + 2(S-1)c + u
TEST(Executor, GPipeTakesWhatIsComputedByHand) {
  for (const int stages : {1, 2, 3, 4, 7})
    for (const int microbatches : {1, 2, 5, 8}) {
      const int64_t f = 3'000'000, b = 7'000'000, u = 500'000;
      const StepLog step = pipeline_step(stages, microbatches, {f, b, u, 1000}, gpipe_order);
      const int64_t expected =
          (microbatches + stages - 1) * (f + b) + 2 * (stages - 1) * kTransfer + u;
      const auto timing = run({step}, home());
      EXPECT_EQ(timing[0].end.count, expected)
          << stages << " stages, " << microbatches << " microbatches";
      EXPECT_EQ(timing[0].path.compute.count, (microbatches + stages - 1) * (f + b) + u);
    }
}

// 1F1B of 2 stages and 4 microbatches: stage 0 works F0 F1 B0 F2 B1 F3 B2 B3, stage 1 F0 B0 F1 B1
// F2 B2 F3 B3. By hand: stage 0 ends B0 at 2f+2b+2c and F2 at 3f+2b+2c; stage 1 starts F2 at
// 3f+2b+3c; stage 0 ends F3 at 4f+3b+2c, stage 1 B3 at 5f+4b+3c, which reaches stage 0 at 5f+4b+4c:
//   T = 5(f+b) + 4c + u
// GPipe needs 2c less: with one microbatch in advance 1F1B stands still for a round trip in the
// middle.
TEST(Executor, OneFOneBTakesWhatIsComputedByHand) {
  const int64_t f = 3'000'000, b = 7'000'000, u = 500'000;
  const auto timing = run({pipeline_step(2, 4, {f, b, u, 1000}, one_f_one_b_order)}, home());
  EXPECT_EQ(timing[0].end.count, 5 * (f + b) + 4 * kTransfer + u);
}

// Where messages cost nothing but a nanosecond each way, 1F1B and GPipe take the same:
// (M+S-1)(f+b), and per hop 1 ns.
TEST(Executor, OneFOneBEqualsGPipeWithoutANetwork) {
  const NetworkConfig none = ideal_config(8'000'000'000'000, 0);
  const PipelineTimes times{1'000'000, 2'000'000, 0, 1};
  const auto gpipe = run({pipeline_step(4, 8, times, gpipe_order)}, none);
  const auto one_f_one_b = run({pipeline_step(4, 8, times, one_f_one_b_order)}, none);
  EXPECT_EQ(gpipe[0].end.count, 11 * 3'000'000 + 2 * 3);
  // Every microbatch makes at most S round trips of 2 ns more than without a network.
  EXPECT_NEAR(static_cast<double>(one_f_one_b[0].end.count), 11.0 * 3'000'000, 2 * 4 * 8);
}

// A link that is slower than the computes sets the pace: of GPipe's M forwards over one link of
// serialisation time s > f the last arrives at f + M s + L.
TEST(Executor, ASlowLinkSetsThePace) {
  const int64_t f = 1'000'000, s = 4'000'000, latency = 2'000'000;
  StepBuilder builder(2);
  for (int m = 0; m < 5; ++m) {
    builder.compute(0, f, Phase::forward, m);
    builder.receive(1, builder.send(0, 1, 40'000, MessageKind::forward, m));
    builder.compute(1, f, Phase::forward, m);
  }
  const auto timing = run({builder.log}, ideal_config(80'000'000, latency));
  EXPECT_EQ(timing[0].end.count, f + 5 * s + latency + f);
  EXPECT_EQ(timing[0].path.queue.count, 4 * (s - f));
}

// A rank goes on into the next step as soon as it has finished its own: with f = 1 ms on rank 0 and
// 5 ms on rank 1 and no messages, rank 0 ends step 2 at 2 ms, while step 1 ends at 5 ms.
TEST(Executor, RanksAreNotHeldByABarrier) {
  std::vector<StepLog> steps;
  for (int s = 1; s <= 3; ++s) {
    StepBuilder builder(2, s);
    builder.compute(0, 1'000'000);
    builder.compute(1, 5'000'000);
    steps.push_back(builder.log);
  }
  const auto timing = run(steps, home());
  EXPECT_EQ(timing[0].end.count, 5'000'000);
  EXPECT_EQ(timing[1].end.count, 10'000'000);
  EXPECT_EQ(timing[1].ranks[0].end.count, 2'000'000);
  // Between 0 and 5 ms rank 0 computes all its three steps; later it has nothing to do.
  EXPECT_EQ(timing[0].ranks[0].compute.count, 3'000'000);
  EXPECT_EQ(timing[0].ranks[0].idle.count, 2'000'000);
  EXPECT_EQ(timing[1].ranks[0].idle.count, 5'000'000);
}

// Two queues of one rank may not compute at once: 3 + 4 ms one after the other.
TEST(Executor, ARankComputesOneThingAtATime) {
  StepBuilder builder(1);
  builder.compute(0, 3'000'000, Phase::forward, 0, 0);
  builder.compute(0, 4'000'000, Phase::reduce, 0, 1);
  const auto timing = run({builder.log}, home());
  EXPECT_EQ(timing[0].end.count, 7'000'000);
  EXPECT_EQ(timing[0].entries[0][1].start.count, 3'000'000);
}

// Communication in a second queue runs under the computes of the first: sent at 0, there at c,
// while queue 0 computes 30 ms; queue 0 takes the result over by an event.
TEST(Executor, MessagesTravelUnderComputes) {
  StepBuilder builder(2);
  const uint64_t there = builder.send(0, 1, 1000, MessageKind::sync, -1, 1);
  builder.receive(1, there, 1);
  builder.signal(1, 9, 1);
  builder.compute(1, 30'000'000, Phase::backward, 0, 0);
  builder.wait(1, 9, 0);
  builder.compute(1, 1'000'000, Phase::update, -1, 0);
  const auto timing = run({builder.log}, home());
  EXPECT_EQ(timing[0].end.count, 31'000'000);
  EXPECT_EQ(timing[0].ranks[1].waiting.count, 0);
}

// The other way round: the event comes last, and the path leads through the message.
TEST(Executor, AWaitStandsStillUntilItsSignal) {
  StepBuilder builder(2);
  builder.wait(1, 9, 0);
  builder.compute(1, 1'000'000, Phase::update, -1, 0);
  builder.compute(0, 5'000'000);
  builder.receive(1, builder.send(0, 1, 1000), 1);
  builder.signal(1, 9, 1);
  const auto timing = run({builder.log}, home());
  EXPECT_EQ(timing[0].end.count, 5'000'000 + kTransfer + 1'000'000);
  EXPECT_EQ(timing[0].path.compute.count, 6'000'000);
  EXPECT_EQ(timing[0].ranks[1].waiting.count, kTransfer);
  EXPECT_EQ(timing[0].ranks[1].idle.count, 5'000'000);
}

TEST(Executor, GivesTheSameTimesWhenStepsAreFedEarly) {
  std::mt19937_64 random(11);
  std::vector<StepLog> steps;
  for (int s = 1; s <= 6; ++s) steps.push_back(random_step(random, 4, s, 150));
  const NetworkConfig config = ideal_config(80'000'000, 1'000'000, Topology::access);
  const auto one_by_one = run(steps, config);

  const auto network = make_ideal(config, 4);
  Executor executor(measured_devices(4), *network);
  for (const StepLog& step : steps) executor.feed(step);
  executor.finish();
  for (const StepTiming& expected : one_by_one) {
    const auto timing = executor.next();
    ASSERT_TRUE(timing.has_value());
    EXPECT_EQ(timing->end, expected.end);
    EXPECT_EQ(timing->path, expected.path);
    for (size_t i = 0; i < expected.messages.size(); ++i)
      EXPECT_EQ(timing->messages[i].delivery.delivered, expected.messages[i].delivery.delivered);
  }
  EXPECT_FALSE(executor.next().has_value());
}

TEST(Executor, HoldsNoMoreThanTheStepsUnderWay) {
  const auto network = make_ideal(home(), 4);
  Executor executor(measured_devices(4), *network);
  int ended = 0;
  for (int s = 1; s <= 200; ++s) {
    executor.feed(pipeline_step(4, 4, {1'000'000, 2'000'000, 100'000, 1000}, gpipe_order, s));
    while (executor.next()) ++ended;
    ASSERT_LE(executor.held(), 2u);
  }
  executor.finish();
  while (executor.next()) ++ended;
  EXPECT_EQ(ended, 200);
  EXPECT_EQ(executor.held(), 0u);
}

TEST(Executor, DoesNotLetTimePassWithoutTheNextStep) {
  const auto network = make_ideal(home(), 2);
  Executor executor(measured_devices(2), *network);
  StepBuilder builder(2);
  builder.compute(0, 1'000'000);
  builder.compute(1, 5'000'000);
  executor.feed(builder.log);
  EXPECT_FALSE(executor.next().has_value());
  EXPECT_EQ(executor.now().count, 1'000'000);
}

TEST(Executor, CountsBytesOfTheStep) {
  StepBuilder builder(2);
  builder.receive(1, builder.send(0, 1, 1000, MessageKind::forward, 0, 0, /*sync=*/24));
  builder.receive(0, builder.send(1, 0, 300, MessageKind::backward));
  const auto timing = run({builder.log}, home());
  EXPECT_EQ(timing[0].ranks[0].bytes_sent.count, 1024u);
  EXPECT_EQ(timing[0].ranks[0].bytes_received.count, 300u);
  EXPECT_EQ(timing[0].ranks[1].bytes_received.count, 1024u);
}

// ---- watchdog ----

std::string failure(const StepLog& step, Network& network, Patience patience = {}) {
  Executor executor(measured_devices(static_cast<int>(step.ranks.size())), network, patience);
  executor.feed(step);
  executor.finish();
  try {
    while (executor.next()) continue;
  } catch (const SimulationError& error) {
    return error.what();
  }
  return "";
}

TEST(Watchdog, NamesWhoWaitsForWhomInADeadlock) {
  StepBuilder builder(2, 5);
  // Each rank receives before it sends.
  builder.receive(0, uint64_t{1} << 32);
  builder.compute(1, 2'000'000);
  builder.receive(1, 0);
  builder.send(0, 1, 1000, MessageKind::forward, 3);
  builder.send(1, 0, 70, MessageKind::backward, 2);
  const auto network = make_ideal(home(), 2);
  const std::string text = failure(builder.log, *network);
  EXPECT_THAT(text, HasSubstr("stands still at 0.002000000 s: nothing can go on"));
  EXPECT_THAT(text, HasSubstr("rank 0, step 5, queue 0, entry 0: waits for the backward message of "
                              "microbatch 2 from rank 1 "
                              "(number 0, 70 bytes): not sent yet"));
  EXPECT_THAT(text, HasSubstr("rank 1, step 5, queue 0, entry 1: waits for the forward message of "
                              "microbatch 3 from rank 0 "
                              "(number 0, 1000 bytes): not sent yet"));
  EXPECT_THAT(text, HasSubstr("in flight: nothing"));
}

TEST(Watchdog, NamesTheMessageThatIsNeverDelivered) {
  StepBuilder builder(2);
  builder.compute(0, 1'000'000);
  builder.receive(1, builder.send(0, 1, 1000, MessageKind::forward, 4));
  BlackHole network;
  const std::string text = failure(builder.log, network, {.virtual_time = {60'000'000'000}});
  EXPECT_THAT(text, HasSubstr("no message was delivered for 60 s of virtual time"));
  EXPECT_THAT(text, HasSubstr("rank 1, step 1, queue 0, entry 0: waits for the forward message of "
                              "microbatch 4 from rank 0 "
                              "(number 0, 1000 bytes): sent at 0.001000000 s, not delivered"));
  EXPECT_THAT(text, HasSubstr("message of 1000 bytes lost"));
}

TEST(Watchdog, LosesPatienceInHostTimeToo) {
  StepBuilder builder(2);
  builder.receive(1, builder.send(0, 1, 1000));
  BlackHole network;
  EXPECT_THAT(failure(builder.log, network, {.host_seconds = 0}),
              HasSubstr("for 0 s of host time"));
}

TEST(Watchdog, NamesAnEventThatIsNeverSignalled) {
  StepBuilder builder(1);
  builder.wait(0, 4, 0);
  builder.signal(0, 4, 0);
  const auto network = make_ideal(ideal_config(80'000'000, 0), 2);
  EXPECT_THAT(failure(builder.log, *network),
              HasSubstr("rank 0, step 1, queue 0, entry 0: waits for event 4 of its own"));
}

// ---- contracts ----

TEST(Executor, RefusesRanksThatTheTopologyDoesNotConnect) {
  StepBuilder builder(3);
  builder.receive(2, builder.send(0, 2, 1000));
  EXPECT_THROW(run({builder.log}, home()), std::invalid_argument);
}

TEST(Executor, RefusesMessagesWithoutTheirOtherEnd) {
  StepBuilder unreceived(2), unsent(2);
  unreceived.send(0, 1, 1000);
  unsent.receive(1, 0);
  BlackHole network;
  Executor executor(measured_devices(2), network);
  EXPECT_THROW(executor.feed(unreceived.log), std::invalid_argument);
  EXPECT_THROW(executor.feed(unsent.log), std::invalid_argument);
  EXPECT_THROW(executor.feed(StepBuilder(3).log), std::invalid_argument);
}

// A network whose parts do not add up is a defect, and is named as one.
TEST(Executor, ChecksWhatTheNetworkSays) {
  class Liar : public BlackHole {
   public:
    void offer(const Offer& message, Nanoseconds now) override { id_ = message.id, sent_ = now; }
    Nanoseconds advance(Nanoseconds, std::vector<Delivery>& out) override {
      Delivery delivery{.id = id_, .sent = sent_, .delivered = sent_ + Nanoseconds{10}};
      delivery.queue = Nanoseconds{9};
      out.push_back(delivery);
      return delivery.delivered;
    }

   private:
    uint64_t id_ = 0;
    Nanoseconds sent_;
  };
  StepBuilder builder(2);
  builder.receive(1, builder.send(0, 1, 1000));
  Liar network;
  EXPECT_THROW(failure(builder.log, network), std::logic_error);
}

}  // namespace
}  // namespace strait::sim
