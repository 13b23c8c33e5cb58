// The links of the packet model: a point-to-point channel whose two directions have their own
// latency, jitter and loss, and keep packets in order (ns-3's own channel has one constant delay);
// and what went over each direction.
#pragma once

#include <ns3/error-model.h>
#include <ns3/point-to-point-channel.h>
#include <ns3/point-to-point-net-device.h>

#include <deque>

#include "sim/network/link_process.h"
#include "sim/network/path.h"

namespace strait::sim {

// Virtual time zero on ns-3's clock. Before it is started, connections are being opened: nothing is
// lost, nothing jitters.
struct Clock {
  bool started = false;
  int64_t origin = 0;  // ns-3 nanoseconds
  Nanoseconds now() const;
};

// One direction of a link.
class Wire {
 public:
  Wire(const Link& link, uint64_t seed, const Clock& clock);

  // A packet of `bytes` begins to be serialised and takes `duration`. Returns when it arrives, from
  // now.
  Nanoseconds transmit(uint32_t bytes, Nanoseconds duration);
  // Called as a packet arrives that was `delay` under way after its last bit had left.
  void arrived(Nanoseconds delay) { last_delay_ = delay; }
  bool loses_next();

  Nanoseconds last_delay() const { return last_delay_; }  // of the packet that arrived last
  Nanoseconds delay_at(Nanoseconds time) { return delay_.delay(std::max(time, Nanoseconds{0})); }
  BitsPerSecond rate(uint64_t message) const { return rate_.rate(message); }
  bool rate_varies() const { return link_.config.bandwidth_jitter > 0; }
  Nanoseconds busy_between(Nanoseconds begin, Nanoseconds end) const;
  void forget_before(Nanoseconds time);
  const LinkUse& use() const { return use_; }
  const Link& link() const { return link_; }

 private:
  struct Interval {
    Nanoseconds begin, end;
  };

  Link link_;
  const Clock& clock_;
  RateProcess rate_;
  DelayProcess delay_;
  uint64_t loss_key_;
  uint64_t packets_ = 0;
  Nanoseconds last_arrival_;
  Nanoseconds last_delay_;
  LinkUse use_;
  std::deque<Interval> busy_;  // maximal, in order
};

class WireChannel final : public ns3::PointToPointChannel {
 public:
  static ns3::TypeId GetTypeId();
  // `wires[i]` carries what the i-th attached device sends. Both must outlive the simulation.
  void set_wires(Wire* first, Wire* second);
  bool TransmitStart(ns3::Ptr<const ns3::Packet> packet,
                     ns3::Ptr<ns3::PointToPointNetDevice> source, ns3::Time duration) override;

 private:
  Wire* wires_[2] = {nullptr, nullptr};
};

// Loses packets as the wire's own stream says, so that no global generator of ns-3 is involved.
class WireLoss final : public ns3::ErrorModel {
 public:
  static ns3::TypeId GetTypeId();
  void set_wire(Wire* wire) { wire_ = wire; }

 private:
  bool DoCorrupt(ns3::Ptr<ns3::Packet>) override { return wire_->loses_next(); }
  void DoReset() override {}
  Wire* wire_ = nullptr;
};

}  // namespace strait::sim
