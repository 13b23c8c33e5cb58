// Replays the logs of all ranks over a network on devices, in virtual time, in integer nanoseconds.
// A compute occupies its rank, a send enters the network and its queue goes on, a receive stands
// still until its message is delivered, a wait until its event is signalled: that is all, and it
// serves every schedule and method, because none is known here.
//
//   queues     each is a sequence; one compute at a time per rank, given in the order of asking,
//   then of queue numbers steps      a rank begins step s+1 when all its queues have finished step
//   s; other ranks are not waited for step end   when its last rank has finished its update ties by
//   time; at one time: deliveries, then ends of computes by rank, then queues by (rank, queue)
//
// The executor is pulled: it asks for the next step only when a rank has nothing left to do, and
// does not let time pass until it has it, so results do not depend on when steps are fed. It holds
// the steps between its slowest and its fastest rank; in training that is two, because an update
// depends on all ranks.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "sim/device/device.h"
#include "sim/executor/patience.h"
#include "sim/executor/timing.h"
#include "sim/network/network.h"
#include "sim/record/log.h"

namespace strait::sim {

// The simulation cannot go on: a deadlock, or a network that delivers nothing. The text lists which
// rank waits for which message, whether that was sent, and what is in flight.
class SimulationError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Executor {
 public:
  // `devices`: one a rank. `network` must outlive the executor and carry no other traffic.
  Executor(std::vector<Device> devices, Network& network, Patience patience = {});
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Adds the next step. It must keep the rules of record/validate.h (a record that was read does).
  // Throws std::invalid_argument for another number of ranks or messages and events without their
  // other end.
  void feed(record::StepLog step);

  // No step will be fed any more: the ranks stop after the last one.
  void finish();

  // Runs until the next step ends and returns it; nullopt if a step must be fed first, or, after
  // finish(), when all is done. Throws SimulationError; std::invalid_argument from the network for
  // ranks that it does not connect; std::logic_error for a network whose deliveries do not add up.
  std::optional<StepTiming> next();

  Nanoseconds now() const;
  // Steps fed and not yet ended.
  size_t held() const;

 private:
  class Machine;
  std::unique_ptr<Machine> machine_;
};

}  // namespace strait::sim
