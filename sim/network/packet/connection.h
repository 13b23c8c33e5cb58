// One persistent TCP connection in one direction between two ranks: feeds messages into the
// sender's socket, sees them complete at the receiver, and takes their time apart.
#pragma once

#include <ns3/ipv4-address.h>
#include <ns3/node.h>
#include <ns3/tcp-socket-base.h>

#include <array>
#include <deque>
#include <functional>
#include <vector>

#include "sim/network/network.h"
#include "sim/network/packet/linux_congestion.h"
#include "sim/network/packet/wire.h"

namespace strait::sim {

// What a connection needs to know of its path and transport.
struct ConnectionSettings {
  TransportConfig transport;
  Bytes mtu;                      // smallest on the path, both ways
  Bytes buffer;                   // each socket's
  Bytes bandwidth_delay_product;  // of the path
  Nanoseconds round_trip;         // latencies there and back
  std::vector<Wire*> wires;       // in order from the sender: one, or uplink and downlink
  ns3::Ptr<ns3::Node> sender, receiver;
  ns3::Ipv4Address receiver_address;
  uint16_t port = 0;
};

class Connection {
 public:
  using Deliver = std::function<void(const Delivery&)>;

  Connection(ConnectionSettings settings, const Clock& clock, Deliver deliver);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Opens the connection (before virtual time zero). It is ready() some round trips later.
  void open();
  bool ready() const { return accepted_ && established_ && received_ >= kPrimerBytes; }

  // A message is offered; it enters the socket after the host overhead. `index[i]` is its number on
  // the i-th wire.
  void offer(const Offer& message, Nanoseconds now, std::array<uint64_t, 2> index);

  bool idle() const { return messages_.empty(); }
  Nanoseconds oldest() const { return messages_.front().sent; }  // not idle
  std::string describe() const;                                  // one line a message
  // The rate that bandwidth jitter gives the message to which `sequence` belongs on the given wire.
  BitsPerSecond rate_of(ns3::SequenceNumber32 sequence, size_t wire) const;
  uint16_t port() const { return settings_.port; }

 private:
  // One byte goes over every connection before virtual time zero, as the rendezvous of a training
  // job does: the receiver's window is known in full only from its first acknowledgement, and the
  // first segment of a connection is acknowledged alone, which would put the pairs of the first
  // message out of step (Linux acknowledges quickly there).
  static constexpr uint64_t kPrimerBytes = 1;

  struct Message {
    Offer offer;
    Nanoseconds sent, entered;
    uint64_t end = 0;  // stream offset after its last byte
    std::array<uint64_t, 2> index{};
    Nanoseconds front{-1};  // when it became the first of its connection; -1: not yet
  };
  struct Interval {
    Nanoseconds begin, end;
  };

  void configure(ns3::TcpSocketBase& socket) const;
  void install_congestion_control();
  void enter();
  void feed();
  void on_receive(ns3::Ptr<ns3::Socket> socket);
  void on_state(ns3::TcpSocketState::TcpCongState_t before,
                ns3::TcpSocketState::TcpCongState_t after);
  Delivery take_apart(const Message& message, Nanoseconds now) const;
  Nanoseconds recovering_between(Nanoseconds begin, Nanoseconds end) const;
  Nanoseconds contention(const Message& message, Nanoseconds delivered,
                         Nanoseconds propagation) const;
  Nanoseconds serialisation(const Message& message) const;
  Nanoseconds propagation(Nanoseconds now) const;

  ConnectionSettings settings_;
  const Clock& clock_;
  Deliver deliver_;
  ns3::Ptr<ns3::TcpSocketBase> listener_, socket_, peer_;
  ns3::Ptr<LinuxCongestion> linux_;  // null for bbr and lossless
  bool established_ = false, accepted_ = false;

  std::deque<Message> messages_;  // offered and not delivered, in stream order
  size_t entered_ = 0;            // how many of them have been given to the socket's feeder
  uint64_t offered_bytes_ = kPrimerBytes;  // stream offsets
  uint64_t entered_bytes_ = kPrimerBytes;
  uint64_t written_ = 0;
  uint64_t received_ = 0;
  Nanoseconds last_progress_;
  bool recovering_ = false;
  std::deque<Interval> recovery_;  // the last one is open while recovering_
};

}  // namespace strait::sim
