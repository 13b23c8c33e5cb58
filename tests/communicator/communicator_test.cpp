// Messages and the in-process communicator: sections, memory, tag matching, deadlocks, host slots,
// the all-reduce, and what of all that reaches the logs. Also run under ThreadSanitizer.
#include "engine/communicator.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/in_process.h"

namespace strait {
namespace {

using record::MessageKind;
using ::testing::HasSubstr;

constexpr Tag kForward0{MessageKind::forward, 0, 0};
constexpr Tag kBackward0{MessageKind::backward, 0, 0};

// Everything that a rank of a test owns.
struct Rank {
  Rank(InProcess& hub, MessagePool& message_pool, int rank, bool meta)
      : ops(meta ? make_meta_backend() : make_reference_backend()),
        recorder(rank, *ops),
        pool(message_pool),
        communicator(hub.communicator(rank, recorder)) {
    recorder.begin_step();
  }

  Message message(int32_t value) {
    Message m(pool, *ops, {{DType::i32, {1}}});
    ops->upload(m.section(0), &value);
    return m;
  }
  int32_t value_of(const Message& m) {
    int32_t value = 0;
    ops->download(&value, m.section(0));
    return value;
  }
  double all_reduce_sum(double value, int first, int count, int32_t purpose) {
    const auto memory = ops->allocate(sizeof(double));
    const Tensor sum(memory->data(), DType::f64, {1});
    if (sum.data != nullptr) ops->upload(sum, &value);
    communicator->all_reduce_sum(sum, first, count, purpose, pool, *ops);
    if (sum.data != nullptr) ops->download(&value, sum);
    return value;
  }
  void send(int to, const Tag& tag, int32_t value) { communicator->send(to, tag, message(value)); }
  int32_t receive(int from, const Tag& tag) { return value_of(communicator->receive(from, tag)); }

  std::unique_ptr<Backend> ops;
  RankRecorder recorder;
  MessagePool& pool;
  std::unique_ptr<Communicator> communicator;
};

// Runs `program` on `ranks` ranks and returns their logs.
std::vector<record::RankLog> run(int ranks, int host_threads,
                                 const std::function<void(Rank&)>& program, bool meta = false) {
  MessagePool pool;
  InProcess hub(ranks, host_threads);
  std::vector<record::RankLog> logs(static_cast<size_t>(ranks));
  hub.run([&](int r) {
    Rank rank(hub, pool, r, meta);
    program(rank);
    logs[static_cast<size_t>(r)] = rank.recorder.take();
  });
  return logs;
}

// Takes what a rank computed out of its log, with its measured times, and counts it.
size_t take_computations(record::RankLog& log) {
  return std::erase_if(log.entries, [](const record::Entry& entry) {
    return std::holds_alternative<record::Compute>(entry.action);
  });
}

template <typename Error>
std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Message, LaysSectionsOutWithoutPadding) {
  MessagePool pool;
  const auto ops = make_reference_backend();
  const Message message(
      pool, *ops, {{DType::f64, {2}}, {DType::f32, {3, 1}}, {DType::u16, {5}}, {DType::u8, {1}}});
  EXPECT_EQ(message.bytes().count, 16u + 12 + 10 + 1);
  ASSERT_EQ(message.sections(), 4u);
  const auto* base = static_cast<std::byte*>(message.section(0).data);
  EXPECT_EQ(message.section(1).data, base + 16);
  EXPECT_EQ(message.section(2).data, base + 28);
  EXPECT_EQ(message.section(3).data, base + 38);
  EXPECT_EQ(message.section(1).shape, (Shape{3, 1}));
}

TEST(Message, RefusesASectionThatWouldNotBeAligned) {
  MessagePool pool;
  const auto ops = make_reference_backend();
  EXPECT_THAT(error_of<std::logic_error>([&] {
                Message(pool, *ops, {{DType::u16, {1}}, {DType::f32, {1}}});
              }),
              HasSubstr("put wider dtypes first"));
}

TEST(Message, HasSizeButNoDataOnTheMetaBackend) {
  MessagePool pool;
  const auto ops = make_meta_backend();
  const Message message(pool, *ops, {{DType::f32, {1 << 20, 1 << 20}}, {DType::u16, {7}}});
  EXPECT_EQ(message.bytes().count, (4ull << 40) + 14);
  EXPECT_EQ(message.section(0).data, nullptr);
  EXPECT_EQ(message.section(1).data, nullptr);
}

TEST(MessagePool, ReusesMemoryOfTheSameSizeOnly) {
  MessagePool pool;
  const auto ops = make_reference_backend();
  void* const first = pool.take(*ops, 1000)->data();
  const auto other = pool.take(*ops, 1001);
  EXPECT_NE(other->data(), first);
  EXPECT_EQ(pool.take(*ops, 1000)->data(), first);
}

TEST(MessagePool, MayEndBeforeItsMemory) {
  const auto ops = make_reference_backend();
  std::shared_ptr<DeviceMemory> memory;
  {
    MessagePool pool;
    memory = pool.take(*ops, 64);
  }
  static_cast<std::byte*>(memory->data())[63] = std::byte{1};
  memory.reset();  // under AddressSanitizer: neither leaked nor freed twice
}

TEST(MessagePool, ServesManyThreads) {
  MessagePool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&pool, t] {
      const auto ops = make_reference_backend();
      for (int i = 0; i < 300; ++i) {
        const auto memory = pool.take(*ops, 64 * (1 + static_cast<size_t>(i) % 3));
        auto* value = static_cast<int*>(memory->data());
        *value = t;
        ASSERT_EQ(*value, t);  // nobody else has it
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(InProcess, MatchesMessagesByTagNotByArrival) {
  run(2, 2, [](Rank& rank) {
    if (rank.communicator->rank() == 0) {
      rank.send(1, {MessageKind::forward, 1, 0}, 10);
      rank.send(1, {MessageKind::sync, 0, 0}, 20);
      rank.send(1, {MessageKind::forward, 0, 5}, 30);
      rank.send(1, {MessageKind::forward, 0, 0}, 40);
    } else {
      EXPECT_EQ(rank.receive(0, {MessageKind::forward, 0, 0}), 40);
      EXPECT_EQ(rank.receive(0, {MessageKind::forward, 0, 5}), 30);
      EXPECT_EQ(rank.receive(0, {MessageKind::sync, 0, 0}), 20);
      EXPECT_EQ(rank.receive(0, {MessageKind::forward, 1, 0}), 10);
    }
  });
}

TEST(InProcess, KeepsTheOrderOfMessagesWithOneTag) {
  run(2, 2, [](Rank& rank) {
    for (int i = 0; i < 100; ++i) {
      if (rank.communicator->rank() == 0) rank.send(1, kForward0, i);
      if (rank.communicator->rank() == 1) {
        EXPECT_EQ(rank.receive(0, kForward0), i);
      }
    }
  });
}

TEST(InProcess, KeepsMessagesOfARankThatHasEnded) {
  std::atomic<bool> ended = false;
  run(2, 2, [&](Rank& rank) {
    if (rank.communicator->rank() == 0) {
      rank.send(1, kForward0, 5);
      ended = true;
    } else {
      while (!ended) std::this_thread::yield();
      EXPECT_EQ(rank.receive(0, kForward0), 5);
    }
  });
}

TEST(InProcess, LogsWhatWentOverTheWire) {
  const auto logs = run(2, 2, [](Rank& rank) {
    if (rank.communicator->rank() == 0) {
      Message message(rank.pool, *rank.ops, {{DType::f32, {10}}, {DType::u16, {3}}});
      message.dense = Bytes{400};
      message.sync = Bytes{6};
      rank.communicator->send(1, {MessageKind::forward, 4, 0}, std::move(message));
    } else {
      const Message message = rank.communicator->receive(0, {MessageKind::forward, 4, 0});
      EXPECT_EQ(message.id, 0u);
      EXPECT_EQ(message.bytes().count, 46u);
      EXPECT_EQ(message.dense.count, 400u);
    }
  });
  EXPECT_EQ(std::get<record::Send>(logs[0].entries.at(0).action),
            (record::Send{0, 1, MessageKind::forward, 4, Bytes{40}, Bytes{6}, Bytes{400}}));
  EXPECT_EQ(std::get<record::Receive>(logs[1].entries.at(0).action), (record::Receive{0, 0}));
}

TEST(InProcess, RefusesAPartnerThatIsNotThere) {
  run(2, 2, [](Rank& rank) {
    const int self = rank.communicator->rank();
    EXPECT_THROW(rank.send(2, kForward0, 0), std::logic_error);
    EXPECT_THROW(rank.send(-1, kForward0, 0), std::logic_error);
    EXPECT_THROW(rank.send(self, kForward0, 0), std::logic_error);
    EXPECT_THROW(rank.receive(2, kForward0), std::logic_error);
    EXPECT_THROW(rank.receive(self, kForward0), std::logic_error);
  });
}

TEST(InProcess, SaysWhoWaitsForWhatInADeadlock) {
  for (const int host_threads : {1, 3}) {
    std::atomic<int> aborted = 0;
    const std::string error = error_of<CommunicatorAborted>([&] {
      run(3, host_threads, [&](Rank& rank) {
        const int self = rank.communicator->rank();
        if (self == 0) rank.send(1, {MessageKind::forward, 7, 0}, 0);
        try {
          rank.receive((self + 1) % 3, {MessageKind::sync, -1, 2});
        } catch (const CommunicatorAborted&) {
          ++aborted;
          throw;
        }
      });
    });
    EXPECT_EQ(error,
              "every rank waits for a message that nobody has sent: rank 0 waits for rank 1 (sync, "
              "purpose 2); "
              "rank 1 waits for rank 2 (sync, purpose 2) and has 1 other message, the first from "
              "rank 0 (forward, microbatch 7); "
              "rank 2 waits for rank 0 (sync, purpose 2)");
    EXPECT_EQ(aborted, 3);
  }
}

TEST(InProcess, FindsADeadlockWhenTheLastRankThatComputedEnds) {
  for (const int host_threads : {1, 2}) {
    const std::string error = error_of<CommunicatorAborted>([&] {
      run(2, host_threads, [](Rank& rank) {
        if (rank.communicator->rank() == 1) rank.receive(0, kBackward0);
      });
    });
    EXPECT_THAT(error,
                HasSubstr("rank 0 has ended; rank 1 waits for rank 0 (backward, microbatch 0)"));
  }
}

// A rank that computes for long while all others wait is no deadlock.
TEST(InProcess, DoesNotTakeASlowRankForADeadlock) {
  for (const int host_threads : {1, 4}) {
    run(4, host_threads, [](Rank& rank) {
      const int self = rank.communicator->rank();
      if (self == 3) std::this_thread::sleep_for(std::chrono::milliseconds(30));
      if (self < 3) {
        EXPECT_EQ(rank.receive(self + 1, kBackward0), self + 1);
      }
      if (self > 0) rank.send(self - 1, kBackward0, self);
    });
  }
}

TEST(InProcess, ThrowsWhatTheFailedRankThrewAndWakesTheOthers) {
  std::atomic<int> woken = 0;
  const std::string error = error_of<std::runtime_error>([&] {
    run(4, 2, [&](Rank& rank) {
      const int self = rank.communicator->rank();
      if (self == 2) throw std::runtime_error("no space left on device");
      const std::string reason =
          error_of<CommunicatorAborted>([&] { rank.receive((self + 1) % 4, kForward0); });
      EXPECT_EQ(reason, "rank 2 has failed");
      ++woken;
    });
  });
  EXPECT_EQ(error, "no space left on device");
  EXPECT_EQ(woken, 3);
}

TEST(InProcess, IsAbortedFromOutside) {
  MessagePool pool;
  InProcess hub(2, 2);
  std::atomic<int> arrived = 0;
  std::thread outside([&] {
    while (arrived < 2) std::this_thread::yield();
    hub.abort("interrupted");
    hub.abort("a later reason");
  });
  const std::string error = error_of<CommunicatorAborted>([&] {
    hub.run([&](int r) {
      Rank rank(hub, pool, r, false);
      ++arrived;
      if (r == 0) rank.receive(1, kForward0);
      for (;;) rank.send(0, kBackward0, 1);  // never waits, so only the abort ends it
    });
  });
  outside.join();
  EXPECT_EQ(error, "interrupted");
}

TEST(HostSlots, BoundHowManyRanksComputeAtOnce) {
  for (const int host_threads : {1, 2, 3}) {
    std::atomic<int> computing = 0;
    std::atomic<int> most = 0;
    const auto compute = [&] {
      const int now = ++computing;
      for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      std::this_thread::yield();
      --computing;
    };
    run(6, host_threads, [&](Rank& rank) {
      const int self = rank.communicator->rank();
      for (int i = 0; i < 50; ++i) {
        compute();
        rank.send((self + 1) % 6, kForward0, i);
        EXPECT_EQ(rank.receive((self + 5) % 6, kForward0), i);
      }
    });
    EXPECT_LE(most, host_threads);
    EXPECT_GE(most, 1);
  }
}

// Four stages pass numbers down and back; what each rank logs and computes may not depend on the
// slots.
TEST(HostSlots, ChangeNoResult) {
  std::optional<std::vector<record::RankLog>> expected;
  for (const int host_threads : {1, 2, 4}) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      std::vector<double> sums(4);
      auto logs = run(4, host_threads, [&](Rank& rank) {
        const int self = rank.communicator->rank();
        int total = 0;
        for (int m = 0; m < 8; ++m) {
          const int x = self == 0 ? m : rank.receive(self - 1, {MessageKind::forward, m, 0});
          if (self < 3) rank.send(self + 1, {MessageKind::forward, m, 0}, 3 * x + self);
          total += x;
        }
        sums[static_cast<size_t>(self)] = rank.all_reduce_sum(1.0 / (1 + total), 0, 4, 0);
      });
      for (record::RankLog& log : logs) take_computations(log);
      if (!expected) expected = logs;
      EXPECT_EQ(logs, *expected);
      EXPECT_THAT(sums, testing::Each(sums[0]));
    }
  }
}

// (0.1 + 0.2) + 0.3 and other orders differ in the last bit, so equality shows that ranks are added
// in order.
TEST(AllReduce, AddsInRankOrderToTheSameBitsEverywhere) {
  const std::vector<double> values{0.1, 0.2, 0.3, 1e16, -1e16, 0.7, 1e-9};
  for (int first = 0; first < 3; ++first) {
    for (int count = 1; first + count <= static_cast<int>(values.size()); ++count) {
      double expected = values[static_cast<size_t>(first)];
      for (int i = 1; i < count; ++i) expected += values[static_cast<size_t>(first + i)];
      run(static_cast<int>(values.size()), 3, [&](Rank& rank) {
        const int self = rank.communicator->rank();
        if (self < first || self >= first + count) return;
        EXPECT_EQ(rank.all_reduce_sum(values[static_cast<size_t>(self)], first, count, 1),
                  expected);
      });
    }
  }
}

TEST(AllReduce, SendsEightBytesUpAndDownTheChain) {
  for (const bool meta : {false, true}) {
    auto logs = run(
        3, 3, [](Rank& rank) { rank.all_reduce_sum(1.0, 0, 3, 6); }, meta);
    // Sums and copies: one for the ends' message and one for what comes back, twice that between them.
    EXPECT_EQ(take_computations(logs[0]), 2u);
    EXPECT_EQ(take_computations(logs[1]), 4u);
    EXPECT_EQ(take_computations(logs[2]), 2u);
    const auto send = [](uint64_t rank, uint64_t number, int to) {
      return record::Entry{0, record::Send{(rank << 32) | number, to, MessageKind::sync, -1,
                                           Bytes{8}, Bytes{}, Bytes{8}}};
    };
    const auto receive = [](uint64_t from, uint64_t number) {
      return record::Entry{0, record::Receive{(from << 32) | number, static_cast<int32_t>(from)}};
    };
    EXPECT_EQ(logs[0].entries, (std::vector<record::Entry>{send(0, 0, 1), receive(1, 1)}));
    EXPECT_EQ(logs[1].entries, (std::vector<record::Entry>{receive(0, 0), send(1, 0, 2),
                                                           receive(2, 0), send(1, 1, 0)}));
    EXPECT_EQ(logs[2].entries, (std::vector<record::Entry>{receive(1, 0), send(2, 0, 1)}));
  }
}

TEST(AllReduce, NeedsNoMessagesForOneRank) {
  const auto logs =
      run(1, 1, [](Rank& rank) { EXPECT_EQ(rank.all_reduce_sum(2.5, 0, 1, 0), 2.5); });
  EXPECT_TRUE(logs[0].entries.empty());
}

TEST(Tag, IsReadable) {
  EXPECT_EQ(to_string(kForward0), "forward, microbatch 0");
  EXPECT_EQ(to_string(Tag{MessageKind::sync, -1, 3}), "sync, purpose 3");
  EXPECT_EQ(to_string(Tag{MessageKind::backward, 2, 1}), "backward, microbatch 2, purpose 1");
}

}  // namespace
}  // namespace strait
