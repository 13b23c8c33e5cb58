// Delay with order kept, loss and counters of one direction of a link; see wire.h.
#include "sim/network/packet/wire.h"

#include <ns3/node.h>
#include <ns3/packet.h>
#include <ns3/simulator.h>

#include <algorithm>

namespace strait::sim {

NS_OBJECT_ENSURE_REGISTERED(WireChannel);
NS_OBJECT_ENSURE_REGISTERED(WireLoss);

Nanoseconds Clock::now() const { return {ns3::Simulator::Now().GetNanoSeconds() - origin}; }

Wire::Wire(const Link& link, uint64_t seed, const Clock& clock)
    : link_(link),
      clock_(clock),
      rate_(link.config, seed, link.name()),
      delay_(link.config, seed, link.name()),
      loss_key_(stream_key(seed, link.name(), StreamPurpose::loss)),
      use_(empty_use(link)) {}

Nanoseconds Wire::transmit(uint32_t bytes, Nanoseconds duration) {
  if (!clock_.started) return duration + link_.config.latency;
  const Nanoseconds begin = clock_.now();
  const Nanoseconds end = begin + duration;
  use_.bytes += Bytes{bytes};
  use_.busy += duration;
  if (!busy_.empty() && busy_.back().end >= begin) {
    busy_.back().end = end;
  } else {
    busy_.push_back({begin, end});
  }
  // The clamp keeps order where the delay falls faster than time passes.
  last_arrival_ = std::max(last_arrival_, end + delay_.delay(end));
  return last_arrival_ - begin;
}

bool Wire::loses_next() {
  return clock_.started && stream_uniform(loss_key_, packets_++) < link_.config.loss;
}

Nanoseconds Wire::busy_between(Nanoseconds begin, Nanoseconds end) const {
  Nanoseconds sum;
  for (auto i = busy_.rbegin(); i != busy_.rend() && i->end > begin; ++i) {
    const Nanoseconds overlap = std::min(end, i->end) - std::max(begin, i->begin);
    if (overlap.count > 0) sum += overlap;
  }
  return sum;
}

void Wire::forget_before(Nanoseconds time) {
  while (!busy_.empty() && busy_.front().end < time) busy_.pop_front();
}

ns3::TypeId WireChannel::GetTypeId() {
  static const ns3::TypeId id = ns3::TypeId("strait::WireChannel")
                                    .SetParent<ns3::PointToPointChannel>()
                                    .AddConstructor<WireChannel>();
  return id;
}

void WireChannel::set_wires(Wire* first, Wire* second) {
  wires_[0] = first;
  wires_[1] = second;
}

bool WireChannel::TransmitStart(ns3::Ptr<const ns3::Packet> packet,
                                ns3::Ptr<ns3::PointToPointNetDevice> source, ns3::Time duration) {
  const uint32_t direction = GetSource(0) == source ? 0 : 1;
  Wire* wire = wires_[direction];
  const ns3::Ptr<ns3::PointToPointNetDevice> destination = GetDestination(direction);
  const Nanoseconds serialising{duration.GetNanoSeconds()};
  const Nanoseconds arrival = wire->transmit(packet->GetSize(), serialising);
  const Nanoseconds delay = arrival - serialising;
  ns3::Simulator::ScheduleWithContext(destination->GetNode()->GetId(),
                                      ns3::NanoSeconds(arrival.count),
                                      [wire, destination, delay, copy = packet->Copy()] {
                                        wire->arrived(delay);
                                        destination->Receive(copy);
                                      });
  return true;
}

ns3::TypeId WireLoss::GetTypeId() {
  static const ns3::TypeId id =
      ns3::TypeId("strait::WireLoss").SetParent<ns3::ErrorModel>().AddConstructor<WireLoss>();
  return id;
}

}  // namespace strait::sim
