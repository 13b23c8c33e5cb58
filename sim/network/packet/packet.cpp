// The packet network: ns-3's TCP, every packet, over point-to-point links. Builds nodes, links and
// one persistent connection per directed pair, opens them before virtual time zero, and then lets
// ns-3 run from one event of interest to the next. What was added to stock ns-3, and why, is in
// docs/network.md.
//
// Link queues are the devices' own drop-tail queues: no queue disc is installed, so nothing of
// ns-3's default FqCoDel comes in. Virtual time is ns-3's time less a constant.
#include <fmt/format.h>
#include <ns3/boolean.h>
#include <ns3/data-rate.h>
#include <ns3/drop-tail-queue.h>
#include <ns3/internet-stack-helper.h>
#include <ns3/ipv4-header.h>
#include <ns3/ipv4-static-routing-helper.h>
#include <ns3/ipv4.h>
#include <ns3/ppp-header.h>
#include <ns3/simulator.h>
#include <ns3/tcp-header.h>
#include <ns3/uinteger.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <stdexcept>

#include "sim/network/packet/connection.h"
#include "sim/network/packet/next_segment_repair.h"
#include "sim/network/packet/wire.h"
#include "sim/network/path.h"

namespace strait::sim {
namespace {

using ns3::Ptr;
using ns3::Simulator;

constexpr uint32_t kFirstPort = 1024;
constexpr uint64_t kLosslessQueue = 4'000'000'000;

bool simulation_exists = false;

// What would change ns-3 behind the scenario's back.
void require_clean_environment() {
  for (const char* name : {"NS_ATTRIBUTE_DEFAULT", "NS_GLOBAL_VALUE"})
    if (std::getenv(name))
      throw std::invalid_argument(
          fmt::format("packet network: the environment variable {} is set and would change ns-3's "
                      "behaviour; unset it",
                      name));
  if (simulation_exists)
    throw std::logic_error(
        "packet network: one simulation a process; ns-3's simulator is process-wide");
}

class PacketNetwork final : public Network {
 public:
  PacketNetwork(const NetworkConfig& config, int ranks) : config_(config), map_(config, ranks) {
    require_clean_environment();
    require_next_segment_repair();
    simulation_exists = true;
    try {
      build_links();
      build_connections();
      open_connections();
    } catch (...) {
      tear_down();
      throw;
    }
  }

  ~PacketNetwork() override { tear_down(); }

  void offer(const Offer& message, Nanoseconds now) override;
  Nanoseconds advance(Nanoseconds until, std::vector<Delivery>& out) override;
  std::vector<LinkUse> links() const override;
  std::string describe_in_flight() const override;

 private:
  struct Pair {
    std::vector<std::unique_ptr<Connection>> connections;
    uint64_t messages = 0;
  };

  void tear_down();
  void build_links();
  Ptr<ns3::PointToPointNetDevice> build_device(int link, const Ptr<ns3::Node>& node);
  void connect_nodes(int forward, int backward, const Ptr<ns3::Node>& a, const Ptr<ns3::Node>& b);
  void build_connections();
  void open_connections();
  void follow_message_rates(int link, const Ptr<ns3::PointToPointNetDevice>& device);
  void stop_soon();
  void on_delivery(const Delivery& delivery);
  void forget();
  Ptr<ns3::Node> node(int rank) const { return rank < 0 ? core_ : nodes_[rank]; }

  NetworkConfig config_;
  LinkMap map_;
  Clock clock_;
  std::vector<std::unique_ptr<Wire>> wires_;  // as map_.links()
  std::vector<uint64_t> messages_on_link_;
  std::vector<Ptr<ns3::Node>> nodes_;
  Ptr<ns3::Node> core_;
  std::map<std::pair<int, int>, ns3::Ipv4Address>
      address_;  // of `second` as seen by `first`; access: first is -1
  std::map<std::pair<int, int>, Pair> pairs_;
  std::map<uint16_t, Connection*> by_port_;  // only where rates follow messages
  uint32_t next_subnet_ = 0;
  size_t in_flight_ = 0;
  std::vector<Delivery> arrived_;
  ns3::EventId stop_;
  uint64_t deliveries_since_forget_ = 0;
};

void PacketNetwork::tear_down() {
  pairs_.clear();
  nodes_.clear();
  core_ = nullptr;
  Simulator::Destroy();
  simulation_exists = false;
}

void PacketNetwork::build_links() {
  ns3::ObjectFactory scheduler;
  scheduler.SetTypeId("ns3::MapScheduler");
  Simulator::SetScheduler(scheduler);
  for (int r = 0; r < map_.ranks(); ++r) nodes_.push_back(ns3::CreateObject<ns3::Node>());
  ns3::NodeContainer all;
  for (const Ptr<ns3::Node>& n : nodes_) all.Add(n);
  if (config_.topology == Topology::access) {
    core_ = ns3::CreateObject<ns3::Node>();
    all.Add(core_);
  }
  ns3::InternetStackHelper stack;
  stack.SetIpv6StackInstall(false);
  stack.SetRoutingHelper(ns3::Ipv4StaticRoutingHelper());
  stack.Install(all);
  stack.AssignStreams(all, 0);

  const std::vector<Link>& links = map_.links();
  messages_on_link_.resize(links.size());
  for (const Link& link : links)
    wires_.push_back(std::make_unique<Wire>(link, config_.seed, clock_));
  std::map<std::pair<int, int>, int> index;
  for (size_t i = 0; i < links.size(); ++i)
    index[{links[i].from, links[i].to}] = static_cast<int>(i);
  for (const auto& [ends, forward] : index)
    if (ends.first < ends.second)
      connect_nodes(forward, index.at({ends.second, ends.first}), node(ends.first),
                    node(ends.second));
}

Ptr<ns3::PointToPointNetDevice> PacketNetwork::build_device(int link, const Ptr<ns3::Node>& at) {
  const LinkConfig& config = map_.links()[link].config;
  const auto device = ns3::CreateObject<ns3::PointToPointNetDevice>();
  device->SetAddress(ns3::Mac48Address::Allocate());
  device->SetDataRate(ns3::DataRate(config.bandwidth.count));
  device->SetMtu(static_cast<uint16_t>(config.mtu.count));
  const bool lossless = config_.transport.congestion_control == CongestionControl::lossless;
  const uint64_t bytes =
      lossless ? kLosslessQueue : std::min(queue_size(map_, link).count, kLosslessQueue);
  const auto queue = ns3::CreateObject<ns3::DropTailQueue<ns3::Packet>>();
  queue->SetMaxSize(ns3::QueueSize(ns3::QueueSizeUnit::BYTES, static_cast<uint32_t>(bytes)));
  device->SetQueue(queue);
  at->AddDevice(device);
  if (config.bandwidth_jitter > 0) follow_message_rates(link, device);
  return device;
}

void PacketNetwork::connect_nodes(int forward, int backward, const Ptr<ns3::Node>& a,
                                  const Ptr<ns3::Node>& b) {
  const auto channel = ns3::CreateObject<WireChannel>();
  const Ptr<ns3::PointToPointNetDevice> devices[2] = {build_device(forward, a),
                                                      build_device(backward, b)};
  channel->set_wires(wires_[forward].get(), wires_[backward].get());
  const uint32_t subnet = 0x0a000000u + 4 * next_subnet_++;
  ns3::Ipv4Address addresses[2];
  for (int side = 0; side < 2; ++side) {
    devices[side]->Attach(channel);
    // Packets are lost where they arrive: side 0 receives what `backward` carries.
    const int inbound = side == 0 ? backward : forward;
    if (map_.links()[inbound].config.loss > 0) {
      const auto loss = ns3::CreateObject<WireLoss>();
      loss->set_wire(wires_[inbound].get());
      devices[side]->SetReceiveErrorModel(loss);
    }
    const Ptr<ns3::Ipv4> ipv4 = (side == 0 ? a : b)->GetObject<ns3::Ipv4>();
    const uint32_t interface = ipv4->AddInterface(devices[side]);
    addresses[side] = ns3::Ipv4Address(subnet + 1 + static_cast<uint32_t>(side));
    ipv4->AddAddress(interface, ns3::Ipv4InterfaceAddress(addresses[side], ns3::Ipv4Mask("/30")));
    ipv4->SetUp(interface);
  }
  const Link& link = map_.links()[forward];
  address_[{link.from, link.to}] = addresses[1];
  address_[{link.to, link.from}] = addresses[0];
  if (config_.topology != Topology::access) return;
  // `from` is the core (-1), so b is the rank; everything it sends goes to the core.
  const Ptr<ns3::Ipv4> ipv4 = b->GetObject<ns3::Ipv4>();
  ns3::Ipv4StaticRoutingHelper().GetStaticRouting(ipv4)->SetDefaultRoute(
      addresses[0], static_cast<uint32_t>(ipv4->GetInterfaceForDevice(devices[1])));
}

void PacketNetwork::build_connections() {
  uint32_t port = kFirstPort;
  const auto deliver = [this](const Delivery& delivery) { on_delivery(delivery); };
  for (int from = 0; from < map_.ranks(); ++from) {
    for (int to = 0; to < map_.ranks(); ++to) {
      if (from == to || (config_.topology == Topology::chain && std::abs(from - to) != 1)) continue;
      const Path path = map_.path(from, to);
      const Nanoseconds round_trip = map_.round_trip(from, to);
      ConnectionSettings settings{
          .transport = config_.transport,
          .mtu = map_.mtu(from, to),
          .buffer = socket_buffer(config_, map_, from, to),
          .bandwidth_delay_product = bandwidth_delay_product(map_.bottleneck(path), round_trip),
          .round_trip = round_trip,
          .wires = {},
          .sender = nodes_[from],
          .receiver = nodes_[to]};
      for (int hop = 0; hop < path.hops; ++hop)
        settings.wires.push_back(wires_[path.link[hop]].get());
      settings.receiver_address =
          address_.at({config_.topology == Topology::access ? -1 : from, to});
      for (int c = 0; c < config_.transport.connections; ++c) {
        if (port > 65535)
          throw std::invalid_argument(
              "packet network: more than 64,512 connections; use topology \"chain\", fewer ranks "
              "or fewer connections");
        settings.port = static_cast<uint16_t>(port++);
        pairs_[{from, to}].connections.push_back(
            std::make_unique<Connection>(settings, clock_, deliver));
        by_port_[settings.port] = pairs_[{from, to}].connections.back().get();
      }
    }
  }
}

// Every connection is opened, one after the other, before virtual time zero: as a training job does
// before its first step. What a message then meets is a cold window, not a handshake.
void PacketNetwork::open_connections() {
  constexpr int64_t apart = 1'000'000;
  int64_t when = apart;
  for (auto& [ends, pair] : pairs_)
    for (auto& connection : pair.connections) {
      Simulator::Schedule(ns3::NanoSeconds(when), &Connection::open, connection.get());
      when += apart;
    }
  Simulator::Run();
  for (const auto& [ends, pair] : pairs_)
    for (const auto& connection : pair.connections)
      if (!connection->ready())
        throw std::logic_error(fmt::format("packet network: the connection {} -> {} did not open",
                                           ends.first, ends.second));
  clock_.origin = Simulator::Now().GetNanoSeconds();
  clock_.started = true;
}

// Bandwidth jitter: the device takes the rate of the message whose packet it begins to send.
void PacketNetwork::follow_message_rates(int link, const Ptr<ns3::PointToPointNetDevice>& device) {
  const size_t hop = map_.links()[link].from < 0 ? 1 : 0;
  ns3::PointToPointNetDevice* raw = ns3::PeekPointer(device);
  device->TraceConnectWithoutContext(
      "PhyTxBegin",
      ns3::Callback<void, Ptr<const ns3::Packet>>([this, raw, hop](Ptr<const ns3::Packet> packet) {
        if (!clock_.started) return;
        const Ptr<ns3::Packet> copy = packet->Copy();
        ns3::PppHeader ppp;
        ns3::Ipv4Header ip;
        ns3::TcpHeader tcp;
        copy->RemoveHeader(ppp);
        copy->RemoveHeader(ip);
        copy->RemoveHeader(tcp);
        if (copy->GetSize() == 0) return;
        const Connection& connection = *by_port_.at(tcp.GetDestinationPort());
        raw->SetDataRate(ns3::DataRate(connection.rate_of(tcp.GetSequenceNumber(), hop).count));
      }));
}

void PacketNetwork::offer(const Offer& message, Nanoseconds now) {
  const Path path = map_.path(message.from, message.to);
  std::array<uint64_t, 2> index{};
  for (int hop = 0; hop < path.hops; ++hop) index[hop] = messages_on_link_[path.link[hop]]++;
  Pair& pair = pairs_.at({message.from, message.to});
  pair.connections[pair.messages++ % pair.connections.size()]->offer(message, now, index);
  ++in_flight_;
}

void PacketNetwork::on_delivery(const Delivery& delivery) {
  --in_flight_;
  arrived_.push_back(delivery);
  stop_soon();
}

// Stops after what is already scheduled for this instant. Never twice: a second stop would outlive
// this run and end the next one before its time.
void PacketNetwork::stop_soon() {
  if (stop_.IsExpired()) stop_ = Simulator::ScheduleNow(&Simulator::Stop);
}

Nanoseconds PacketNetwork::advance(Nanoseconds until, std::vector<Delivery>& out) {
  if (in_flight_ == 0)
    return until;  // what is left to happen (acknowledgements) happens when time is next looked at
  ns3::EventId limit;
  if (until < Nanoseconds::max()) {
    const int64_t wait = until.count + clock_.origin - Simulator::Now().GetNanoSeconds();
    limit = Simulator::Schedule(ns3::NanoSeconds(wait), &PacketNetwork::stop_soon, this);
  }
  Simulator::Run();
  if (arrived_.empty()) {
    if (until < Nanoseconds::max()) return until;
    throw std::runtime_error(
        "packet network: nothing is left to happen, but messages are in flight:\n" +
        describe_in_flight());
  }
  if (!limit.IsExpired()) Simulator::Remove(limit);
  out.insert(out.end(), arrived_.begin(), arrived_.end());
  arrived_.clear();
  forget();
  return clock_.now();
}

// Drops the wires' history from before the oldest message in flight.
void PacketNetwork::forget() {
  if (++deliveries_since_forget_ < 64) return;
  deliveries_since_forget_ = 0;
  Nanoseconds oldest = clock_.now();
  for (const auto& [ends, pair] : pairs_)
    for (const auto& connection : pair.connections)
      if (!connection->idle()) oldest = std::min(oldest, connection->oldest());
  for (const auto& wire : wires_) wire->forget_before(oldest);
}

std::vector<LinkUse> PacketNetwork::links() const {
  std::vector<LinkUse> uses;
  for (const auto& wire : wires_) uses.push_back(wire->use());
  return uses;
}

std::string PacketNetwork::describe_in_flight() const {
  std::string text;
  for (const auto& [ends, pair] : pairs_)
    for (const auto& connection : pair.connections) text += connection->describe();
  return text;
}

}  // namespace

std::unique_ptr<Network> make_packet(const NetworkConfig& config, int ranks) {
  return std::make_unique<PacketNetwork>(config, ranks);
}

}  // namespace strait::sim
