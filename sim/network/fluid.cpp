// The fluid network: TCP as flows. A connection sends its window as one burst at its share of the
// links, waits for the rest of the round trip, and sends the next, larger one; links are shared by
// max-min fairness. With one flow and a link of goodput G, round trip R and windows w_0, w_1 = 2
// w_0, ... this is the closed form
//
//   T = host + sum over k while bytes remain and w_k < G R of R  +  rest / G  +  latency
//
// It ignores queues that overflow, the packets in which acknowledgements travel, and everything
// random but jitter and rates; loss is refused. docs/validation.md says how far it is from the
// packet model.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <map>
#include <queue>
#include <stdexcept>

#include "sim/network/link_process.h"
#include "sim/network/network.h"
#include "sim/network/path.h"
#include "sim/network/window.h"

namespace strait::sim {
namespace {

struct Message {
  Offer offer;
  Nanoseconds sent, entered;
  std::array<BitsPerSecond, 2> rate{};
  double remaining = 0;  // payload bytes not yet serialised
  Nanoseconds front;     // when it became the first of its connection
  Nanoseconds waited;    // for the window, while it was the first
};

// One connection. It is idle (nothing to send), waiting (for its next round) or sending.
struct Flow {
  enum class State { idle, waiting, sending };

  Path path;
  RoundWindow window;
  double wire_per_payload;  // bytes on the wire per byte of payload
  Nanoseconds latency;
  Nanoseconds round_trip;  // with the serialisation of the first segments and their acknowledgement
  Nanoseconds last_hop;    // of one packet on the second link: links store and forward
  std::deque<Message> messages{};  // that have entered, in order
  State state = State::idle;
  bool in_round = false;
  Nanoseconds round_begin, changed, last_send, finish;
  double quota = 0;  // bytes that may still be sent in this round
  double round_sent = 0;
  double round_sending = 0;  // seconds
  double rate = 0;           // payload bytes a second
  Nanoseconds last_delivery;
  uint64_t order = 0;
};

struct Event {
  Nanoseconds at;
  uint64_t order;
  bool operator>(const Event& other) const {
    return at != other.at ? at > other.at : order > other.order;
  }
};

class Fluid final : public Network {
 public:
  Fluid(const NetworkConfig& config, int ranks) : config_(config), map_(config, ranks) {
    for (const Link& link : map_.links()) {
      if (link.config.loss > 0)
        throw std::invalid_argument(
            fmt::format("fluid network: link {} has loss {}; the fluid model knows no losses, use "
                        "the model \"packet\" or "
                        "set loss to 0",
                        link.name(), link.config.loss));
      rates_.emplace_back(link.config, config.seed, link.name());
      delays_.emplace_back(link.config, config.seed, link.name());
      uses_.push_back(empty_use(link));
    }
    messages_on_link_.resize(map_.links().size());
  }

  void offer(const Offer& message, Nanoseconds now) override {
    const Path path = map_.path(message.from, message.to);
    Message m{.offer = message, .sent = now, .entered = now + config_.transport.host_overhead};
    for (int hop = 0; hop < path.hops; ++hop)
      m.rate[hop] = rates_[path.link[hop]].rate(messages_on_link_[path.link[hop]]++);
    m.remaining = static_cast<double>(message.bytes.count);
    const uint64_t number = messages_of_pair_[{message.from, message.to}]++;
    Flow& flow = connection(message.from, message.to, path,
                            static_cast<int>(number % config_.transport.connections));
    entries_.push({{m.entered, next_order_}, &flow});
    pending_.emplace(next_order_++, m);
  }

  Nanoseconds advance(Nanoseconds until, std::vector<Delivery>& out) override {
    const size_t before = out.size();
    for (;;) {
      const Nanoseconds next = next_event();
      if (next > until || next == Nanoseconds::max()) break;
      progress(next);
      while (!deliveries_.empty() && deliveries_.top().first.at == next) {
        const auto arrived = delivered_.find(deliveries_.top().first.order);
        out.push_back(arrived->second.first);
        delivered_.erase(arrived);
        deliveries_.pop();
      }
      step(next);
      if (out.size() > before) return next;
    }
    return until;
  }

  std::vector<LinkUse> links() const override { return uses_; }

  std::string describe_in_flight() const override {
    std::string text;
    const auto line = [&text](const Offer& o, Nanoseconds sent, const std::string& state) {
      text += fmt::format("message {}: {} -> {}, {} bytes, sent at {:.6f} s, {}\n", o.id, o.from,
                          o.to, o.bytes.count, sent.seconds(), state);
    };
    for (const auto& [order, m] : pending_) line(m.offer, m.sent, "in its host");
    for (const auto& [key, flow] : flows_)
      for (const Message& m : flow.messages) {
        const bool first = &m == &flow.messages.front();
        line(m.offer, m.sent,
             fmt::format("{:.0f} bytes left to send{}", m.remaining,
                         !first                               ? ", behind another message"
                         : flow.state == Flow::State::waiting ? ", waiting for its window"
                                                              : ""));
      }
    for (const auto& [order, arrival] : delivered_)
      line(arrival.second, arrival.first.sent, "on its way");
    return text;
  }

 private:
  using Key = std::array<int, 3>;  // from, to, connection

  Flow& connection(int from, int to, const Path& path, int number);
  Nanoseconds next_event() const;
  void progress(Nanoseconds now);
  void step(Nanoseconds now);
  void begin_round(Flow& flow, Nanoseconds now);
  void end_round(Flow& flow);
  void resume(Flow& flow, Nanoseconds now);
  void finish_burst(Flow& flow, Nanoseconds now);
  void finish_message(Flow& flow, Nanoseconds now);
  void share_links(Nanoseconds now);

  NetworkConfig config_;
  LinkMap map_;
  std::vector<RateProcess> rates_;
  std::vector<DelayProcess> delays_;
  std::vector<LinkUse> uses_;
  std::vector<uint64_t> messages_on_link_;
  std::map<std::pair<int, int>, uint64_t> messages_of_pair_;
  std::map<Key, Flow> flows_;
  std::map<uint64_t, Message> pending_;  // offered, not entered, by order of offer
  std::map<uint64_t, std::pair<Delivery, Offer>> delivered_;
  template <class Value>
  using Queue =
      std::priority_queue<std::pair<Event, Value>, std::vector<std::pair<Event, Value>>,
                          decltype([](const auto& a, const auto& b) { return a.first > b.first; })>;
  Queue<Flow*> entries_;
  Queue<int> deliveries_;
  uint64_t next_order_ = 0;
};

Flow& Fluid::connection(int from, int to, const Path& path, int number) {
  const auto found = flows_.find({from, to, number});
  if (found != flows_.end()) return found->second;
  const TransportConfig& transport = config_.transport;
  const Bytes mtu = map_.mtu(from, to);
  const Bytes segment = segment_payload(mtu);
  const Bytes packet{segment.count + kHeaderBytes};
  const BitsPerSecond bottleneck = map_.bottleneck(path);
  const BitsPerSecond back = map_.bottleneck(map_.path(to, from));
  const Bytes product = bandwidth_delay_product(bottleneck, map_.round_trip(from, to));
  uint64_t room = product.count;  // what path and queue hold before packets are dropped
  uint64_t queue = UINT64_MAX;
  for (int hop = 0; hop < path.hops; ++hop)
    queue = std::min(queue, queue_size(map_, path.link[hop]).count);
  room += queue;
  Nanoseconds last_hop;
  if (path.hops == 2) last_hop = time_on_wire(packet, map_.links()[path.link[1]].config.bandwidth);
  // An acknowledgement answers two segments.
  const Nanoseconds answered =
      time_on_wire(Bytes{2 * packet.count}, bottleneck) + time_on_wire(Bytes{kHeaderBytes}, back);
  const Nanoseconds round_trip = map_.round_trip(from, to) + answered + last_hop;
  const double size = static_cast<double>(segment.count);
  RoundWindow::Settings settings{
      .control = transport.congestion_control,
      .idle_restart = transport.idle_restart,
      .segment = size,
      .initial = size * transport.initial_window,
      .limit = static_cast<double>(std::min(room, socket_buffer(config_, map_, from, to).count)),
      .round_trip = round_trip.seconds(),
      .train_gap = time_on_wire(Bytes{2 * packet.count}, bottleneck).seconds()};
  settings.limit = std::max(settings.limit, 2 * size);
  if (transport.congestion_control == CongestionControl::lossless)
    settings.limit = std::max(2.0 * static_cast<double>(product.count), 16 * size);
  Flow flow{.path = path,
            .window = RoundWindow(settings),
            .wire_per_payload = static_cast<double>(packet.count) / size,
            .latency = map_.latency(path),
            .round_trip = round_trip,
            .last_hop = last_hop,
            .order = flows_.size()};
  return flows_.emplace(Key{from, to, number}, std::move(flow)).first->second;
}

Nanoseconds Fluid::next_event() const {
  Nanoseconds next = Nanoseconds::max();
  if (!entries_.empty()) next = std::min(next, entries_.top().first.at);
  if (!deliveries_.empty()) next = std::min(next, deliveries_.top().first.at);
  for (const auto& [key, flow] : flows_)
    if (flow.state != Flow::State::idle) next = std::min(next, flow.finish);
  return next;
}

// Lets every sending flow send at its rate up to `now`, where no flow finishes before it.
void Fluid::progress(Nanoseconds now) {
  for (auto& [key, flow] : flows_) {
    const Nanoseconds passed = now - flow.changed;
    flow.changed = now;
    if (flow.state == Flow::State::waiting) flow.messages.front().waited += passed;
    if (flow.state != Flow::State::sending || passed.count == 0) continue;
    Message& m = flow.messages.front();
    const double target = std::min(flow.quota, m.remaining);
    const double sent =
        now == flow.finish ? target : std::min(target, flow.rate * passed.seconds());
    flow.quota -= sent;
    m.remaining -= sent;
    flow.round_sent += sent;
    flow.round_sending += passed.seconds();
    flow.last_send = now;
  }
}

void Fluid::step(Nanoseconds now) {
  bool changed = false;
  for (auto& [key, flow] : flows_)
    if (flow.state != Flow::State::idle && flow.finish == now) {
      if (flow.state == Flow::State::sending) {
        finish_burst(flow, now);
      } else {
        begin_round(flow, now);
      }
      changed = true;
    }
  while (!entries_.empty() && entries_.top().first.at == now) {
    const auto [event, flow] = entries_.top();
    entries_.pop();
    const auto m = pending_.find(event.order);
    flow->messages.push_back(m->second);
    pending_.erase(m);
    if (flow->messages.size() == 1) {
      flow->messages.front().front = now;
      resume(*flow, now);
      changed = true;
    }
  }
  if (changed) share_links(now);
}

// The first message after a pause: what is left of the round, or a new one.
void Fluid::resume(Flow& flow, Nanoseconds now) {
  flow.changed = now;
  if (flow.in_round && now < flow.round_begin + flow.round_trip) {
    flow.state = flow.quota > 0 ? Flow::State::sending : Flow::State::waiting;
    flow.finish =
        flow.round_begin + flow.round_trip;  // of waiting; share_links sets that of sending
    return;
  }
  begin_round(flow, now);
}

void Fluid::begin_round(Flow& flow, Nanoseconds now) {
  end_round(flow);
  flow.quota = flow.window.begin_round(now.seconds(), flow.state != Flow::State::idle);
  flow.in_round = true;
  flow.round_begin = now;
  flow.state = Flow::State::sending;
}

void Fluid::end_round(Flow& flow) {
  if (!flow.in_round) return;
  flow.window.end_round(flow.round_sent, flow.round_sending, flow.last_send.seconds(),
                        flow.state != Flow::State::idle);
  flow.in_round = false;
  flow.round_sent = flow.round_sending = 0;
}

void Fluid::finish_burst(Flow& flow, Nanoseconds now) {
  if (flow.messages.front().remaining <= 0) finish_message(flow, now);
  if (flow.messages.empty()) {
    flow.state = Flow::State::idle;
    return;
  }
  if (flow.quota > 0) return;  // goes on with the next message
  const Nanoseconds answered = flow.round_begin + flow.round_trip;
  if (now >= answered) {
    begin_round(flow, now);
  } else {
    flow.state = Flow::State::waiting;
    flow.finish = answered;
  }
}

void Fluid::finish_message(Flow& flow, Nanoseconds now) {
  const Message m = flow.messages.front();
  flow.messages.pop_front();
  if (!flow.messages.empty()) flow.messages.front().front = now;
  const Bytes wire = wire_size(m.offer.bytes, map_.mtu(m.offer.from, m.offer.to));
  Delivery d{.id = m.offer.id, .sent = m.sent};
  Nanoseconds at = now;
  for (int hop = 0; hop < flow.path.hops; ++hop) {
    const int link = flow.path.link[hop];
    const Nanoseconds service = time_on_wire(wire, m.rate[hop]);
    uses_[link].bytes += wire;
    uses_[link].busy += service;
    d.serialisation = std::max(d.serialisation, service);
    at += delays_[link].delay(at);
  }
  at = std::max(at + flow.last_hop, flow.last_delivery);
  flow.last_delivery = at;
  d.delivered = at;
  d.host = m.entered - m.sent;
  d.propagation = at - now;
  d.window = m.waited;
  // What the burst lasted beyond the bare serialisation was the other flows' share.
  const Nanoseconds sending = now - m.front - m.waited;
  d.serialisation = std::min(d.serialisation, sending);
  d.queue = (m.front - m.entered) + (sending - d.serialisation);
  deliveries_.push({{at, next_order_}, 0});
  delivered_.emplace(next_order_++, std::pair{d, m.offer});
}

// Max-min fairness by progressive filling: raise all rates together; flows over a link that is full
// keep theirs. The share of a link that a flow takes is its rate over the rate that this link has
// for its message.
void Fluid::share_links(Nanoseconds now) {
  std::vector<Flow*> open;
  for (auto& [key, flow] : flows_)
    if (flow.state == Flow::State::sending) open.push_back(&flow);
  const auto cost = [](const Flow& flow, int hop) {  // share of the link per payload byte a second
    return flow.wire_per_payload * 8.0 / static_cast<double>(flow.messages.front().rate[hop].count);
  };
  std::vector<double> room(uses_.size(), 1.0), demand(uses_.size());
  std::vector<Flow*> sending = open;
  while (!open.empty()) {
    std::fill(demand.begin(), demand.end(), 0.0);
    for (const Flow* flow : open)
      for (int hop = 0; hop < flow->path.hops; ++hop)
        demand[flow->path.link[hop]] += cost(*flow, hop);
    double level = std::numeric_limits<double>::infinity();
    for (size_t l = 0; l < demand.size(); ++l)
      if (demand[l] > 0) level = std::min(level, room[l] / demand[l]);
    const auto is_full = [&](const Flow* flow) {
      for (int hop = 0; hop < flow->path.hops; ++hop) {
        const int l = flow->path.link[hop];
        if (room[l] / demand[l] <= level * (1 + 1e-12)) return true;
      }
      return false;
    };
    std::vector<Flow*> still_open;
    std::vector<Flow*> frozen;
    for (Flow* flow : open) (is_full(flow) ? frozen : still_open).push_back(flow);
    for (Flow* flow : frozen) {
      flow->rate = level;
      for (int hop = 0; hop < flow->path.hops; ++hop) {
        double& left = room[flow->path.link[hop]];
        left = std::max(0.0, left - level * cost(*flow, hop));
      }
    }
    open = std::move(still_open);
  }
  for (Flow* flow : sending) {
    const double seconds = std::min(flow->quota, flow->messages.front().remaining) / flow->rate;
    flow->finish =
        now + Nanoseconds{std::max<int64_t>(1, static_cast<int64_t>(std::ceil(seconds * 1e9)))};
  }
}

}  // namespace

std::unique_ptr<Network> make_fluid(const NetworkConfig& config, int ranks) {
  return std::make_unique<Fluid>(config, ranks);
}

}  // namespace strait::sim
