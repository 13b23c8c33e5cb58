// The ideal network: a message takes bytes * 8 / bandwidth + latency, first in first out per
// direction, and nothing else happens. No headers, no windows, no host overhead, no loss: what
// emulators that sleep do.
//
//   one link        start = max(sent, link free); delivered = start + S + L, S = 8 bytes / rate
//   access          the downlink starts when the head of the message reaches it and cannot finish
//   before its tail has
//                   come: alone, delivered = sent + max(S_up, S_down) + L_up + L_down (cut-through,
//                   never added up)
//   serialised      the latency occupies the link, too: free = delivered (latency_mode)
//   shared_inbound  the link's clock is replaced by one clock per receiving rank (chain and mesh;
//   the downlink of
//                   `access` is such a clock already). With serialised latency:
//                   arrive = max(previous arrival at this rank, sent) + S + L
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <queue>

#include "sim/network/link_process.h"
#include "sim/network/network.h"
#include "sim/network/path.h"

namespace strait::sim {
namespace {

struct Transit {
  uint64_t order = 0;  // of the offer
  Offer offer;
  Path path;
  Nanoseconds sent;
  Nanoseconds tail;                 // when the last byte reaches the second clock (two-clock paths)
  std::array<uint64_t, 2> index{};  // of the message on each of its links, in the order of offers
  Nanoseconds serialisation;        // of the slowest link
  Nanoseconds propagation;
  bool waits_at_second_clock = false;
  Nanoseconds delivered;
};

struct LinkState {
  RateProcess rate;
  DelayProcess delay;
  uint64_t messages = 0;
  Nanoseconds free;  // the link's clock
  LinkUse use;
};

struct Event {
  Nanoseconds at;
  uint64_t order;
  Transit* transit;
  bool operator>(const Event& other) const {
    return at != other.at ? at > other.at : order > other.order;
  }
};

class Ideal final : public Network {
 public:
  Ideal(const NetworkConfig& config, int ranks)
      : map_(config, ranks),
        serialised_(config.ideal.serialised_latency),
        shared_inbound_(config.ideal.shared_inbound && config.topology != Topology::access),
        inbound_free_(ranks) {
    for (const Link& link : map_.links())
      states_.push_back({RateProcess(link.config, config.seed, link.name()),
                         DelayProcess(link.config, config.seed, link.name()), 0, Nanoseconds{0},
                         empty_use(link)});
  }

  void offer(const Offer& message, Nanoseconds now) override {
    const Path path = map_.path(message.from, message.to);
    auto transit = std::make_unique<Transit>(
        Transit{.order = next_order_, .offer = message, .path = path, .sent = now});
    Transit* t = transit.get();
    in_flight_.emplace(next_order_++, std::move(transit));
    for (int hop = 0; hop < path.hops; ++hop) t->index[hop] = states_[path.link[hop]].messages++;
    if (path.hops == 2) {
      cross_uplink(*t);
    } else if (shared_inbound_) {
      cross_inbound(*t);
    } else {
      cross_link(*t, states_[path.link[0]].free);
    }
  }

  Nanoseconds advance(Nanoseconds until, std::vector<Delivery>& out) override {
    while (!events_.empty() && events_.top().at <= until) {
      const Nanoseconds now = events_.top().at;
      const size_t before = out.size();
      while (!events_.empty() && events_.top().at == now) {
        const Event event = events_.top();
        events_.pop();
        handle(event, out);
      }
      if (out.size() > before) return now;
    }
    return until;
  }

  std::vector<LinkUse> links() const override {
    std::vector<LinkUse> uses;
    for (const LinkState& state : states_) uses.push_back(state.use);
    return uses;
  }

  std::string describe_in_flight() const override {
    std::string text;
    for (const auto& [order, t] : in_flight_)
      text += fmt::format("message {}: {} -> {}, {} bytes, sent at {:.6f} s\n", t->offer.id,
                          t->offer.from, t->offer.to, t->offer.bytes.count, t->sent.seconds());
    return text;
  }

 private:
  // Counts the message on its hop-th link and returns how long that link serialises it.
  Nanoseconds serialise(const Transit& t, int hop) {
    LinkState& state = states_[t.path.link[hop]];
    const Nanoseconds time = time_on_wire(t.offer.bytes, state.rate.rate(t.index[hop]));
    state.use.bytes += t.offer.bytes;
    state.use.busy += time;
    return time;
  }

  void schedule(Transit& t, Nanoseconds at) { events_.push({at, t.order, &t}); }

  // `at` is when the message would arrive; jitter may not let it overtake an earlier one of the
  // same pair.
  void deliver_at(Transit& t, Nanoseconds at) {
    Nanoseconds& last = last_delivery_[{t.offer.from, t.offer.to}];
    last = std::max(last, at);
    t.propagation += last - at;
    t.delivered = last;
    t.waits_at_second_clock = false;
    schedule(t, last);
  }

  void cross_link(Transit& t, Nanoseconds& clock) {
    LinkState& link = states_[t.path.link[0]];
    t.serialisation = serialise(t, 0);
    const Nanoseconds sent_whole = std::max(t.sent, clock) + t.serialisation;
    t.propagation = link.delay.delay(sent_whole);
    clock = serialised_ ? sent_whole + t.propagation : sent_whole;
    deliver_at(t, sent_whole + t.propagation);
  }

  void cross_inbound(Transit& t) {
    if (serialised_) return cross_link(t, inbound_free_[t.offer.to]);
    t.propagation = states_[t.path.link[0]].delay.delay(t.sent);
    t.waits_at_second_clock = true;
    schedule(t, t.sent + t.propagation);
  }

  void cross_uplink(Transit& t) {
    LinkState& up = states_[t.path.link[0]];
    t.serialisation = serialise(t, 0);
    const Nanoseconds start = std::max(t.sent, up.free);
    const Nanoseconds delay = up.delay.delay(start + t.serialisation);
    up.free = start + t.serialisation + (serialised_ ? delay : Nanoseconds{0});
    t.tail = start + t.serialisation + delay;
    t.propagation = delay;
    t.waits_at_second_clock = true;
    schedule(t, start + delay);
  }

  void cross_second_clock(Transit& t, Nanoseconds head) {
    if (t.path.hops ==
        1) {  // shared inbound: the wire is at the receiver, the latency lies behind the message
      t.serialisation = serialise(t, 0);
      Nanoseconds& clock = inbound_free_[t.offer.to];
      clock = std::max(head, clock) + t.serialisation;
      deliver_at(t, clock);
      return;
    }
    LinkState& down = states_[t.path.link[1]];
    const Nanoseconds service = serialise(t, 1);
    const Nanoseconds done = std::max(std::max(head, down.free) + service, t.tail);
    const Nanoseconds delay = down.delay.delay(done);
    down.free = serialised_ ? done + delay : done;
    t.serialisation = std::max(t.serialisation, service);
    t.propagation += delay;
    deliver_at(t, done + delay);
  }

  void handle(const Event& event, std::vector<Delivery>& out) {
    Transit& t = *event.transit;
    if (t.waits_at_second_clock) return cross_second_clock(t, event.at);
    Delivery d{.id = t.offer.id, .sent = t.sent, .delivered = t.delivered};
    d.serialisation = t.serialisation;
    d.propagation = t.propagation;
    d.queue = t.delivered - t.sent - t.serialisation - t.propagation;
    out.push_back(d);
    in_flight_.erase(event.order);
  }

  LinkMap map_;
  bool serialised_;
  bool shared_inbound_;
  std::vector<LinkState> states_;
  std::vector<Nanoseconds> inbound_free_;
  std::map<std::pair<int, int>, Nanoseconds> last_delivery_;
  std::map<uint64_t, std::unique_ptr<Transit>> in_flight_;  // by order of offer
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  uint64_t next_order_ = 0;
};

}  // namespace

std::unique_ptr<Network> make_ideal(const NetworkConfig& config, int ranks) {
  return std::make_unique<Ideal>(config, ranks);
}

}  // namespace strait::sim
