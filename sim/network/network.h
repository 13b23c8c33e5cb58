// The one interface behind which a network lives. It is pulled: the executor owns the clock, offers messages at the
// time at which a rank sends them, and asks the network to advance. A network knows messages as sizes, never content.
//
//   model   what it approximates                                             cost
//   ideal   bytes * 8 / bandwidth + latency, FIFO per direction               O(1) a message
//   fluid   TCP as flows: slow-start rounds, max-min sharing, idle restart    O(rounds + flows) a message
//   packet  ns-3 TCP, every packet                                            about 30 ms host time a simulated MB
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "sim/network/config.h"
#include "sim/record/units.h"

namespace strait::sim {

// A message as the network sees it. `id` is unique among the messages in flight. bytes >= 1; from != to.
struct Offer {
  uint64_t id = 0;
  int from = 0;
  int to = 0;
  Bytes bytes;
};

// A message that has arrived completely, with its time taken apart. The parts are >= 0 and add up to delivered - sent exactly.
struct Delivery {
  uint64_t id = 0;
  Nanoseconds sent, delivered;
  Nanoseconds host;           // host overhead before the first byte
  Nanoseconds serialisation;  // wire bytes (payload and headers) / bottleneck rate
  Nanoseconds propagation;    // latency, jitter included
  Nanoseconds queue;          // behind other messages
  Nanoseconds recovery;       // after a loss
  Nanoseconds
      window;  // the rest: the transport's window was closed (slow start, restart after idle)
};

// One directed link and what has gone over it since the start: cumulative counters, wire bytes (headers included).
struct LinkUse {
  std::string from, to;  // rank numbers as text; "core" for the inner end of an access link
  Bytes bytes;
  Nanoseconds busy;  // time the link was serialising
  BitsPerSecond bandwidth;
};

class Network {
 public:
  virtual ~Network() = default;

  // A rank hands a message over at virtual time `now`, which is never earlier than the time the last advance() reached.
  // Messages of one directed pair are delivered in the order offered (one connection each, unless transport.connections > 1).
  // Throws std::invalid_argument for a pair that the topology does not connect.
  virtual void offer(const Offer& message, Nanoseconds now) = 0;

  // Lets virtual time pass up to `until` at most, but returns as soon as something is delivered. Appends the deliveries of
  // that one instant to `out` and returns the time reached: that instant, or `until` if nothing was delivered before it
  // (deliveries at exactly `until` are made). With until = Nanoseconds::max() and nothing in flight it returns max().
  virtual Nanoseconds advance(Nanoseconds until, std::vector<Delivery>& out) = 0;

  virtual std::vector<LinkUse> links() const = 0;

  // What is in flight, for the watchdog: one line a message.
  virtual std::string describe_in_flight() const = 0;
};

std::unique_ptr<Network> make_ideal(const NetworkConfig& config, int ranks);
std::unique_ptr<Network> make_fluid(const NetworkConfig& config, int ranks);
// Defined in sim/network/packet/ (target strait::packet, ns-3). One simulation per process: ns-3 is a process-wide singleton.
std::unique_ptr<Network> make_packet(const NetworkConfig& config, int ranks);

}  // namespace strait::sim
