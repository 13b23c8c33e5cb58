// The hub of in_process.h. Invariant: a rank whose `waits_for` is set has no such message in its
// mailbox, since a sender clears it when it delivers. So the run is stuck exactly when every rank
// that has not ended has it set.
#include "engine/in_process.h"

#include <algorithm>
#include <exception>
#include <thread>
#include <utility>

#include <fmt/format.h>

namespace strait {

class InProcess::Endpoint final : public Communicator {
 public:
  Endpoint(InProcess& hub, int rank, RankRecorder& recorder)
      : Communicator(recorder), hub_(hub), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return hub_.size(); }

 protected:
  void do_send(int to, const Tag& tag, Message message) override {
    hub_.send(rank_, to, tag, std::move(message));
  }
  Message do_receive(int from, const Tag& tag) override { return hub_.receive(rank_, from, tag); }

 private:
  InProcess& hub_;
  int rank_;
};

InProcess::InProcess(int ranks, int host_threads)
    : slots_(host_threads), ranks_(static_cast<size_t>(std::max(ranks, 0))) {
  STRAIT_CHECK(ranks >= 1, "at least one rank");
}

std::unique_ptr<Communicator> InProcess::communicator(int rank, RankRecorder& recorder) {
  STRAIT_CHECK(rank >= 0 && rank < size(), fmt::format("rank {} of {}", rank, size()));
  return std::make_unique<Endpoint>(*this, rank, recorder);
}

void InProcess::run(const std::function<void(int)>& program) {
  STRAIT_CHECK(!std::exchange(started_, true), "a hub runs once");
  std::mutex failure_mutex;
  std::exception_ptr failure;
  auto run_rank = [&](int rank) {
    slots_.acquire();
    try {
      program(rank);
    } catch (...) {
      {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
      }
      abort(fmt::format("rank {} has failed", rank));
    }
    end(rank);
    slots_.release();
  };
  std::vector<std::thread> threads;
  try {
    for (int rank = 0; rank < size(); ++rank) threads.emplace_back(run_rank, rank);
  } catch (...) {  // no thread for this rank: those that run must not wait for it
    abort("a thread could not be started");
    for (std::thread& thread : threads) thread.join();
    throw;
  }
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

void InProcess::abort(const std::string& reason) {
  const std::lock_guard lock(mutex_);
  abort_locked(reason);
}

void InProcess::send(int from, int to, const Tag& tag, Message message) {
  const std::lock_guard lock(mutex_);
  if (aborted_) throw CommunicatorAborted(*aborted_);
  Rank& receiver = ranks_[static_cast<size_t>(to)];
  const Key key = key_of(from, tag);
  receiver.mailbox[key].push_back(std::move(message));
  if (receiver.waits_for == key) {
    receiver.waits_for.reset();
    receiver.wake.notify_one();
  }
}

Message InProcess::receive(int rank, int from, const Tag& tag) {
  Rank& self = ranks_[static_cast<size_t>(rank)];
  const Key key = key_of(from, tag);
  std::unique_lock lock(mutex_);
  if (!aborted_ && self.mailbox.find(key) == self.mailbox.end()) {
    self.waits_for = key;
    abort_if_all_wait();
    if (!aborted_) {
      slots_.release();
      self.wake.wait(lock, [&] { return aborted_ || !self.waits_for; });
      lock.unlock();
      slots_.acquire();  // without the mutex: whoever holds the slots may need it to send
      lock.lock();
    }
    self.waits_for.reset();
  }
  if (aborted_) throw CommunicatorAborted(*aborted_);
  const auto found = self.mailbox.find(key);
  Message message = std::move(found->second.front());
  found->second.erase(found->second.begin());
  if (found->second.empty()) self.mailbox.erase(found);
  return message;
}

void InProcess::end(int rank) {
  const std::lock_guard lock(mutex_);
  ranks_[static_cast<size_t>(rank)].ended = true;
  abort_if_all_wait();
}

void InProcess::abort_locked(const std::string& reason) {
  if (!aborted_) aborted_ = reason;
  for (Rank& rank : ranks_) rank.wake.notify_one();
}

void InProcess::abort_if_all_wait() {
  const auto stuck = [](const Rank& rank) { return rank.ended || rank.waits_for; };
  const auto ended = [](const Rank& rank) { return rank.ended; };
  if (aborted_ || !std::all_of(ranks_.begin(), ranks_.end(), stuck)) return;
  if (std::all_of(ranks_.begin(), ranks_.end(), ended)) return;
  abort_locked("every rank waits for a message that nobody has sent: " + who_waits_for_what());
}

std::string InProcess::who_waits_for_what() const {
  const auto describe = [](const Key& key) {
    const auto& [from, kind, microbatch, purpose] = key;
    return fmt::format("rank {} ({})", from, to_string(Tag{kind, microbatch, purpose}));
  };
  std::string text;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const Rank& rank = ranks_[i];
    text += fmt::format("{}rank {} ", i == 0 ? "" : "; ", i);
    if (rank.ended) {
      text += "has ended";
      continue;
    }
    text += "waits for " + describe(*rank.waits_for);
    if (!rank.mailbox.empty()) {
      text +=
          fmt::format(" and has {} other message{}, the first from {}", rank.mailbox.size(),
                      rank.mailbox.size() == 1 ? "" : "s", describe(rank.mailbox.begin()->first));
    }
  }
  return text;
}

}  // namespace strait
