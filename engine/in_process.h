// All ranks in one process, one thread each: a mailbox per rank, messages matched by sender and
// tag. Detects exactly when nobody can go on, and then says who waits for what.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/communicator.h"
#include "engine/host_slots.h"

namespace strait {

// The hub that `ranks` ranks share. All methods may be called from any thread. One mutex guards
// every mailbox, so that "all ranks wait" is a fact and not a guess; it is held for a map look-up,
// never while anybody computes.
class InProcess {
 public:
  // At most `host_threads` (>= 1) ranks compute at once.
  InProcess(int ranks, int host_threads);

  int size() const { return static_cast<int>(ranks_.size()); }

  // The end of `rank`. Hub and recorder must outlive it; it is used inside run() by the rank's
  // thread.
  std::unique_ptr<Communicator> communicator(int rank, RankRecorder& recorder);

  // Runs program(rank) for every rank, each on a thread of its own, and returns when all have
  // ended. Throws what the first rank to fail threw; the others are then aborted. When every rank
  // that has not ended waits for a message that nobody has sent, throws CommunicatorAborted that
  // says who waits for what. A hub runs once: what was sent and never received ends with it.
  void run(const std::function<void(int rank)>& program);

  // Every send and receive, also those that wait, throws CommunicatorAborted(reason) from now on.
  // The first reason stays.
  void abort(const std::string& reason);

 private:
  class Endpoint;

  using Key =
      std::tuple<int, record::MessageKind, int32_t, int32_t>;  // from, kind, microbatch, purpose
  struct Rank {
    std::map<Key, std::vector<Message>> mailbox;  // no empty lists
    std::optional<Key> waits_for;  // set while blocked; the sender of that message clears it
    std::condition_variable wake;
    bool ended = false;
  };

  static Key key_of(int from, const Tag& tag) {
    return {from, tag.kind, tag.microbatch, tag.purpose};
  }
  void send(int from, int to, const Tag& tag, Message message);
  Message receive(int rank, int from, const Tag& tag);
  void end(int rank);
  // The following are called with the mutex held.
  void abort_locked(const std::string& reason);
  void abort_if_all_wait();
  std::string who_waits_for_what() const;

  HostSlots slots_;
  std::mutex mutex_;
  std::vector<Rank> ranks_;
  std::optional<std::string> aborted_;
  bool started_ = false;
};

}  // namespace strait
