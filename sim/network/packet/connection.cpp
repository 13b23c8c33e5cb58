// Sockets, feeding and the anatomy of a message's time; see connection.h and docs/network.md. For a
// message that was offered at o, entered the socket at e = o + host, became the first of its
// connection at f and was delivered at d:
//   serialisation  wire bytes / rate of the slowest link
//   propagation    what the last packet took on the links, jitter included
//   queue          f - e, and the time the links were busy with other packets while it was the
//   first recovery       time the connection spent in fast recovery or waiting for and repairing
//   after a timeout window         the rest: the transport's window was closed
// The parts are cut in the order propagation, serialisation, queue before f, recovery, contention,
// so that none is negative and the sum is d - o.
#include "sim/network/packet/connection.h"

#include <fmt/format.h>
#include <ns3/boolean.h>
#include <ns3/inet-socket-address.h>
#include <ns3/packet.h>
#include <ns3/pointer.h>
#include <ns3/simulator.h>
#include <ns3/tcp-bbr.h>
#include <ns3/tcp-prr-recovery.h>
#include <ns3/tcp-socket-factory.h>
#include <ns3/uinteger.h>

#include <algorithm>
#include <stdexcept>

namespace strait::sim {
namespace {

using ns3::MakeCallback;
using ns3::Ptr;
using ns3::Socket;
using ns3::TcpSocketBase;
using ns3::TcpSocketState;

// Linux: an acknowledgement waits at most 40 ms, and a retransmission timeout is the smoothed round
// trip + 200 ms.
constexpr int64_t kDelayedAckMilliseconds = 40;
constexpr int64_t kLeastTimeoutNanoseconds = 200'000'000;
constexpr uint64_t kFeedBytes = 1 << 20;
constexpr uint64_t kLeastCreditSegments = 16;

Ptr<TcpSocketBase> make_socket(const Ptr<ns3::Node>& node) {
  return ns3::DynamicCast<TcpSocketBase>(
      Socket::CreateSocket(node, ns3::TcpSocketFactory::GetTypeId()));
}

}  // namespace

Connection::Connection(ConnectionSettings settings, const Clock& clock, Deliver deliver)
    : settings_(std::move(settings)), clock_(clock), deliver_(std::move(deliver)) {
  listener_ = make_socket(settings_.receiver);
  socket_ = make_socket(settings_.sender);
  configure(*listener_);
  configure(*socket_);
  install_congestion_control();
  listener_->Bind(ns3::InetSocketAddress(ns3::Ipv4Address::GetAny(), settings_.port));
  listener_->Listen();
  listener_->SetAcceptCallback(
      ns3::MakeNullCallback<bool, Ptr<Socket>, const ns3::Address&>(),
      ns3::Callback<void, Ptr<Socket>, const ns3::Address&>(
          [this](Ptr<Socket> peer, const ns3::Address&) {
            peer_ = ns3::DynamicCast<TcpSocketBase>(peer);
            peer_->SetRecvCallback(MakeCallback(&Connection::on_receive, this));
            accepted_ = true;
          }));
  socket_->SetConnectCallback(
      ns3::Callback<void, Ptr<Socket>>([this](Ptr<Socket>) {
        established_ = true;
        feed();
      }),
      ns3::Callback<void, Ptr<Socket>>([](Ptr<Socket>) {
        throw std::logic_error("packet network: a connection could not be opened");
      }));
  socket_->SetSendCallback(
      ns3::Callback<void, Ptr<Socket>, uint32_t>([this](Ptr<Socket>, uint32_t) { feed(); }));
  socket_->TraceConnectWithoutContext("CongState", MakeCallback(&Connection::on_state, this));
}

void Connection::configure(TcpSocketBase& socket) const {
  const uint32_t segment = static_cast<uint32_t>(segment_payload(settings_.mtu).count);
  const bool lossless = settings_.transport.congestion_control == CongestionControl::lossless;
  const uint64_t credit =
      std::max(2 * settings_.bandwidth_delay_product.count, kLeastCreditSegments * segment);
  const uint64_t buffer =
      lossless ? std::max(settings_.buffer.count, 2 * credit) : settings_.buffer.count;
  const uint64_t window =
      lossless ? credit / segment : static_cast<uint64_t>(settings_.transport.initial_window);
  socket.SetAttribute("SegmentSize", ns3::UintegerValue(segment));
  socket.SetAttribute("SndBufSize", ns3::UintegerValue(buffer));
  socket.SetAttribute("RcvBufSize", ns3::UintegerValue(buffer));
  socket.SetAttribute("InitialCwnd", ns3::UintegerValue(window));
  socket.SetAttribute("TcpNoDelay", ns3::BooleanValue(true));
  socket.SetAttribute("DelAckCount", ns3::UintegerValue(2));
  socket.SetAttribute("DelAckTimeout", ns3::TimeValue(ns3::MilliSeconds(kDelayedAckMilliseconds)));
  socket.SetMinRto(ns3::NanoSeconds(kLeastTimeoutNanoseconds + settings_.round_trip.count));
  socket.SetRecoveryAlgorithm(ns3::CreateObject<ns3::TcpPrrRecovery>());
}

void Connection::install_congestion_control() {
  const TransportConfig& transport = settings_.transport;
  switch (transport.congestion_control) {
    case CongestionControl::lossless:
      socket_->SetCongestionControlAlgorithm(ns3::CreateObject<CreditWindow>());
      return;
    case CongestionControl::bbr: {
      const auto bbr = ns3::CreateObject<ns3::TcpBbr>();
      bbr->SetStream(settings_.port);
      socket_->SetCongestionControlAlgorithm(bbr);
      return;
    }
    case CongestionControl::cubic:
    case CongestionControl::reno:
      linux_ = ns3::CreateObject<LinuxCongestion>();
      linux_->configure(transport.congestion_control == CongestionControl::cubic,
                        static_cast<uint32_t>(transport.initial_window), transport.idle_restart);
      socket_->SetCongestionControlAlgorithm(linux_);
      socket_->TraceConnectWithoutContext(
          "Tx", ns3::Callback<void, Ptr<const ns3::Packet>, const ns3::TcpHeader&,
                              Ptr<const TcpSocketBase>>([this](Ptr<const ns3::Packet> packet,
                                                               const ns3::TcpHeader& header,
                                                               Ptr<const TcpSocketBase>) {
            if (packet->GetSize() > 0)
              linux_->on_sent(header.GetSequenceNumber(), packet->GetSize());
          }));
  }
}

void Connection::open() {
  socket_->Connect(ns3::InetSocketAddress(settings_.receiver_address, settings_.port));
}

void Connection::offer(const Offer& message, Nanoseconds now, std::array<uint64_t, 2> index) {
  offered_bytes_ += message.bytes.count;
  Message m{.offer = message,
            .sent = now,
            .entered = now + settings_.transport.host_overhead,
            .index = index};
  m.end = offered_bytes_;
  messages_.push_back(m);
  const int64_t delay = m.entered.count + clock_.origin - ns3::Simulator::Now().GetNanoSeconds();
  ns3::Simulator::ScheduleWithContext(settings_.sender->GetId(), ns3::NanoSeconds(delay),
                                      &Connection::enter, this);
}

void Connection::enter() {
  Message& message = messages_[entered_++];
  if (entered_ == 1) message.front = message.entered;
  entered_bytes_ += message.offer.bytes.count;
  feed();
}

void Connection::feed() {
  while (established_ && written_ < entered_bytes_) {
    const uint64_t size =
        std::min({entered_bytes_ - written_, uint64_t{socket_->GetTxAvailable()}, kFeedBytes});
    if (size == 0) return;
    written_ += size;  // before Send, which may call back
    if (socket_->Send(ns3::Create<ns3::Packet>(static_cast<uint32_t>(size)), 0) < 0)
      throw std::logic_error("packet network: the socket refused data that it had room for");
  }
}

void Connection::on_receive(Ptr<Socket> socket) {
  while (const Ptr<ns3::Packet> packet = socket->Recv()) {
    if (packet->GetSize() == 0) break;
    received_ += packet->GetSize();
  }
  if (!clock_.started) return;
  const Nanoseconds now = clock_.now();
  while (!messages_.empty() && messages_.front().end <= received_) {
    const Delivery delivery = take_apart(messages_.front(), now);
    messages_.pop_front();
    --entered_;
    if (entered_ > 0)
      messages_.front().front = std::max(messages_.front().entered, now - delivery.propagation);
    while (!recovery_.empty() && !recovering_ &&
           (messages_.empty() || recovery_.front().end < oldest()))
      recovery_.pop_front();
    deliver_(delivery);
  }
}

void Connection::on_state(TcpSocketState::TcpCongState_t, TcpSocketState::TcpCongState_t after) {
  if (after == TcpSocketState::CA_LOSS &&
      settings_.transport.congestion_control == CongestionControl::bbr)
    throw std::runtime_error(
        fmt::format("packet network: a BBR connection timed out at {:.3f} s; ns-3's BBR does not "
                    "recover from that (docs/network.md). "
                    "Use congestion_control cubic or reno, or the fluid model.\n{}",
                    clock_.now().seconds(), describe()));
  const bool recovering = after == TcpSocketState::CA_RECOVERY || after == TcpSocketState::CA_LOSS;
  if (recovering == recovering_ || !clock_.started) return;
  recovering_ = recovering;
  const Nanoseconds now = clock_.now();
  if (!recovering) {
    recovery_.back().end = now;
    return;
  }
  // A timeout has been waited for since the last progress.
  const Nanoseconds wait = after == TcpSocketState::CA_LOSS
                               ? Nanoseconds{socket_->GetMinRto().GetNanoSeconds()}
                               : Nanoseconds{0};
  recovery_.push_back({std::max(now - wait, Nanoseconds{0}), Nanoseconds::max()});
}

Nanoseconds Connection::recovering_between(Nanoseconds begin, Nanoseconds end) const {
  Nanoseconds sum;
  Nanoseconds from = begin;
  for (const Interval& interval : recovery_) {
    const Nanoseconds low = std::max(from, interval.begin), high = std::min(end, interval.end);
    if (high <= low) continue;
    sum += high - low;
    from = high;
  }
  return sum;
}

Nanoseconds Connection::propagation(Nanoseconds now) const {
  Nanoseconds sum = settings_.wires.back()->last_delay();
  if (settings_.wires.size() == 2) sum += settings_.wires[0]->delay_at(now - sum);
  return sum;
}

Nanoseconds Connection::serialisation(const Message& message) const {
  Nanoseconds longest;
  for (size_t hop = 0; hop < settings_.wires.size(); ++hop)
    longest = std::max(longest, time_on_wire(wire_size(message.offer.bytes, settings_.mtu),
                                             settings_.wires[hop]->rate(message.index[hop])));
  return longest;
}

// For how long the busiest of the links carried other packets than this message's while it was the
// first.
Nanoseconds Connection::contention(const Message& message, Nanoseconds delivered,
                                   Nanoseconds delay) const {
  Nanoseconds most;
  const Nanoseconds last = settings_.wires.back()->last_delay();
  for (size_t hop = 0; hop < settings_.wires.size(); ++hop) {
    const bool is_last = hop + 1 == settings_.wires.size();
    const Nanoseconds begin = is_last ? message.front + (delay - last) : message.front;
    const Nanoseconds end = is_last ? delivered - last : delivered - delay;
    const Nanoseconds own = time_on_wire(wire_size(message.offer.bytes, settings_.mtu),
                                         settings_.wires[hop]->rate(message.index[hop]));
    most = std::max(most, settings_.wires[hop]->busy_between(begin, end) - own);
  }
  return most;
}

Delivery Connection::take_apart(const Message& message, Nanoseconds now) const {
  Delivery d{.id = message.offer.id, .sent = message.sent, .delivered = now};
  d.host = message.entered - message.sent;
  Nanoseconds rest = now - message.entered;
  const auto cut = [&rest](Nanoseconds part) {
    const Nanoseconds taken = std::clamp(part, Nanoseconds{0}, rest);
    rest -= taken;
    return taken;
  };
  const Nanoseconds delay = propagation(now);
  d.propagation = cut(delay);
  d.serialisation = cut(serialisation(message));
  d.queue = cut(message.front - message.entered);
  d.recovery = cut(recovering_between(message.front, now));
  d.queue += cut(contention(message, now, delay));
  d.window = rest;
  return d;
}

BitsPerSecond Connection::rate_of(ns3::SequenceNumber32 sequence, size_t wire) const {
  // Sequence numbers start at 1 and wrap; what is on a wire is within 2 GB of what has been
  // received.
  const auto base = static_cast<uint32_t>(received_ + 1);
  const uint64_t offset =
      received_ +
      static_cast<uint64_t>(static_cast<int64_t>(static_cast<int32_t>(sequence.GetValue() - base)));
  for (const Message& message : messages_)
    if (offset < message.end) return settings_.wires[wire]->rate(message.index[wire]);
  return settings_.wires[wire]->link().config.bandwidth;
}

std::string Connection::describe() const {
  std::string text;
  uint64_t begin =
      messages_.empty() ? 0 : messages_.front().end - messages_.front().offer.bytes.count;
  for (const Message& m : messages_) {
    const uint64_t arrived = std::clamp(received_, begin, m.end) - begin;
    const uint64_t written = std::clamp(written_, begin, m.end) - begin;
    text += fmt::format(
        "message {}: {} -> {}, {} bytes, sent at {:.6f} s, {} in the socket, {} arrived{}\n",
        m.offer.id, m.offer.from, m.offer.to, m.offer.bytes.count, m.sent.seconds(), written,
        arrived, recovering_ ? ", recovering from a loss" : "");
    begin = m.end;
  }
  return text;
}

}  // namespace strait::sim
