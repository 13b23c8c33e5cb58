// Linux's window arithmetic on ns-3's socket; see linux_congestion.h. The constants are Linux's
// (net/ipv4/tcp_cubic.c, tcp_input.c, tcp_output.c describe the behaviour; the code here is our
// own):
//   CUBIC      W(t) = origin + 0.4 (t - K)^3 segments, K = cbrt((W_max - W) / 0.4), after a loss W
//   = 0.7 W_max friendly   at least the window Reno would have with the same losses: +3 (1 - b) /
//   (1 + b) a round trip, b = 0.7 HyStart    leave slow start when a train of acknowledgements
//   lasts half the least delay, or when the delay of a round
//              exceeds the least one by clamp(least / 8, 4 ms, 16 ms)
//   after idle of n timeouts: W / 2^n, not below the initial window; threshold max(threshold, 3/4
//   W)
#include "sim/network/packet/linux_congestion.h"

#include <ns3/simulator.h>

#include <algorithm>
#include <cmath>

namespace strait::sim {
namespace {

using ns3::MicroSeconds;
using ns3::MilliSeconds;
using ns3::Ptr;
using ns3::Seconds;
using ns3::SequenceNumber32;
using ns3::Simulator;
using ns3::TcpSocketState;
using ns3::Time;

constexpr double kBeta = 717.0 / 1024.0;
constexpr double kCubic = 0.4;
constexpr uint32_t kHystartLowWindow = 16;
constexpr int kHystartSamples = 8;
const Time kHystartTrainGap = MilliSeconds(2);
const Time kLeastRetransmissionTimeout = MilliSeconds(200);

}  // namespace

NS_OBJECT_ENSURE_REGISTERED(LinuxCongestion);
NS_OBJECT_ENSURE_REGISTERED(CreditWindow);

ns3::TypeId LinuxCongestion::GetTypeId() {
  static const ns3::TypeId id = ns3::TypeId("strait::LinuxCongestion")
                                    .SetParent<ns3::TcpCongestionOps>()
                                    .AddConstructor<LinuxCongestion>();
  return id;
}

ns3::TypeId CreditWindow::GetTypeId() {
  static const ns3::TypeId id = ns3::TypeId("strait::CreditWindow")
                                    .SetParent<ns3::TcpCongestionOps>()
                                    .AddConstructor<CreditWindow>();
  return id;
}

void LinuxCongestion::configure(bool cubic, uint32_t initial_window, bool idle_restart) {
  cubic_ = cubic;
  initial_window_ = initial_window;
  idle_restart_ = idle_restart;
}

Ptr<ns3::TcpCongestionOps> LinuxCongestion::Fork() {
  auto copy = ns3::CopyObject<LinuxCongestion>(this);
  copy->tcb_ = nullptr;
  return copy;
}

void LinuxCongestion::set_threshold(uint32_t segments) {
  const uint64_t bytes = static_cast<uint64_t>(segments) * tcb_->m_segmentSize;
  tcb_->m_ssThresh = static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX));
}

// Linux's retransmission timeout on a path without much jitter: smoothed round trip + 200 ms.
Time LinuxCongestion::idle_timeout() const {
  return tcb_->m_lastRtt.Get() + kLeastRetransmissionTimeout;
}

void LinuxCongestion::on_sent(SequenceNumber32 sequence, uint32_t bytes) {
  const Time now = Simulator::Now();
  const SequenceNumber32 end = sequence + bytes;
  batch_unjudged_ = true;
  batch_in_flight_ = tcb_->m_bytesInFlight.Get() + bytes;
  batch_end_ = end;
  batch_unacked_ = tcb_->m_lastAckedSeq;
  if (cubic_ && !found_) {
    if (sent_anything_ && end <= highest_sent_) {
      unacked_.clear();  // sent again: what is acknowledged next is ambiguous
    } else {
      unacked_.push_back({end, now});
      highest_sent_ = end;
    }
  }
  sent_anything_ = true;
  last_sent_ = now;
}

void LinuxCongestion::CwndEvent(Ptr<TcpSocketState> tcb, const TcpSocketState::TcpCAEvent_t event) {
  if (event != TcpSocketState::CA_EVENT_TX_START || !sent_anything_ || !tcb_) return;
  (void)tcb;
  judge_window_use();
  const Time idle = Simulator::Now() - last_sent_;
  if (idle_restart_ && idle > idle_timeout()) restart_after_idle(idle);
  if (in_epoch_) epoch_start_ = std::min(epoch_start_ + idle, Simulator::Now());
}

void LinuxCongestion::restart_after_idle(Time idle) {
  const Time timeout = idle_timeout();
  uint32_t segments = window();
  const uint32_t floor = std::min(initial_window_, segments);
  set_threshold(std::max(threshold(), segments - segments / 4));
  for (idle -= timeout; idle.IsStrictlyPositive() && segments > floor; idle -= timeout)
    segments /= 2;
  set_window(std::max(segments, floor));
  last_limited_ = Simulator::Now();
  used_ = 0;
}

// After a batch has been sent: was the window what limited it? If it has not been for a whole
// timeout, it decays towards what was used (RFC 2861).
void LinuxCongestion::judge_window_use() {
  if (!batch_unjudged_) return;
  batch_unjudged_ = false;
  const uint32_t segment = tcb_->m_segmentSize;
  const uint32_t in_flight = (batch_in_flight_ + segment - 1) / segment;
  const bool limited = in_flight >= window();
  if (batch_unacked_ >= usage_end_ || limited || (!limited_ && in_flight > most_in_flight_)) {
    limited_ = limited;
    most_in_flight_ = in_flight;
    usage_end_ = batch_end_;
  }
  if (window_is_used()) {
    used_ = 0;
    last_limited_ = last_sent_;
    return;
  }
  used_ = std::max(used_, in_flight);
  if (!idle_restart_ || last_sent_ - last_limited_ < idle_timeout()) return;
  const uint32_t target = std::max(used_, initial_window_);
  if (tcb_->m_congState.Get() == TcpSocketState::CA_OPEN && target < window()) {
    set_threshold(std::max(threshold(), window() - window() / 4));
    set_window((window() + target) / 2);
  }
  used_ = 0;
  last_limited_ = last_sent_;
}

bool LinuxCongestion::window_is_used() const {
  return limited_ || (in_slow_start() && window() < 2 * most_in_flight_);
}

void LinuxCongestion::PktsAcked(Ptr<TcpSocketState> tcb, uint32_t, const Time&) {
  if (!tcb_) return;
  judge_window_use();
  if (found_ || !cubic_) return;
  Time sent = Time::Min();
  while (!unacked_.empty() && unacked_.front().end <= tcb->m_lastAckedSeq) {
    sent = unacked_.front().at;
    unacked_.pop_front();
  }
  if (sent == Time::Min()) return;
  // Right after a recovery the delay is that of the recovery.
  if (in_epoch_ && Simulator::Now() - epoch_start_ < Seconds(1)) return;
  sample_delay(Simulator::Now() - sent);
}

void LinuxCongestion::start_hystart_round(Time now) {
  round_start_ = last_ack_ = now;
  round_end_ = batch_end_;
  round_delay_ = Time::Max();
  round_samples_ = 0;
}

// What batching may hold acknowledgements back: four bursts of 64 KiB at the pacing rate (two
// windows a round trip).
Time LinuxCongestion::acknowledgement_delay() const {
  const double rate = 2.0 * tcb_->m_cWnd.Get() / std::max(tcb_->m_lastRtt.Get().GetSeconds(), 1e-9);
  return std::min(MilliSeconds(1), Seconds(4.0 * 65536 / rate));
}

void LinuxCongestion::sample_delay(Time delay) {
  const Time now = Simulator::Now();
  if (least_delay_.IsZero() || delay < least_delay_) least_delay_ = delay;
  if (!in_slow_start()) return;
  if (tcb_->m_lastAckedSeq > round_end_) start_hystart_round(now);
  if (window() < kHystartLowWindow) return;
  if (now - last_ack_ <= kHystartTrainGap) {
    last_ack_ = now;
    found_ = now - round_start_ > (least_delay_ + acknowledgement_delay()) / 2;
  }
  round_delay_ = std::min(round_delay_, delay);
  if (round_samples_ < kHystartSamples) {
    ++round_samples_;
  } else if (round_delay_ >
             least_delay_ + std::clamp(least_delay_ / 8, MilliSeconds(4), MilliSeconds(16))) {
    found_ = true;
  }
  if (!found_) return;
  set_threshold(window());
  unacked_.clear();
}

void LinuxCongestion::IncreaseWindow(Ptr<TcpSocketState>, uint32_t acked) {
  if (!tcb_ || !window_is_used()) return;
  if (in_slow_start()) {
    const uint32_t grown = std::min(window() + acked, std::max(threshold(), window() + 1));
    acked -= std::min(acked, grown - window());
    set_window(grown);
  }
  if (acked == 0) return;
  if (cubic_) {
    grow_cubic(acked);
  } else {
    grow_by_one_every(window(), acked);
  }
}

void LinuxCongestion::grow_by_one_every(uint32_t count, uint32_t acked) {
  if (additive_count_ >= count) {
    additive_count_ = 0;
    set_window(window() + 1);
  }
  additive_count_ += acked;
  if (additive_count_ < count) return;
  set_window(window() + additive_count_ / count);
  additive_count_ %= count;
}

void LinuxCongestion::grow_cubic(uint32_t acked) {
  const Time now = Simulator::Now();
  const double segments = window();
  ack_count_ += acked;
  if (!in_epoch_) {
    in_epoch_ = true;
    epoch_start_ = now;
    ack_count_ = acked;
    friendly_window_ = window();
    k_seconds_ = last_max_ <= segments ? 0 : std::cbrt((last_max_ - segments) / kCubic);
    origin_ = std::max(last_max_, segments);
  }
  const double t = (now - epoch_start_ + least_delay_).GetSeconds() - k_seconds_;
  const double target = origin_ + kCubic * t * t * t;
  double every = target > segments ? segments / (target - segments) : 100.0 * segments;
  if (last_max_ == 0)
    every = std::min(every, 20.0);  // the first epoch has nothing to aim at: 5 % a round trip
  // The TCP-friendly region.
  const double per_round = segments * (1.0 + kBeta) / (3.0 * (1.0 - kBeta));
  const auto friendly_count = std::max<uint32_t>(1, static_cast<uint32_t>(per_round));
  friendly_window_ += ack_count_ / friendly_count;
  ack_count_ %= friendly_count;
  if (friendly_window_ > window())
    every = std::min(every, segments / (friendly_window_ - segments));
  grow_by_one_every(std::max<uint32_t>(2, static_cast<uint32_t>(every)), acked);
}

uint32_t LinuxCongestion::GetSsThresh(Ptr<const TcpSocketState> tcb, uint32_t) {
  const uint32_t segment = tcb->m_segmentSize;
  const uint32_t segments = tcb->m_cWnd.Get() / segment;
  in_epoch_ = false;
  if (!cubic_) return std::max<uint32_t>(segments / 2, 2) * segment;
  // Fast convergence: a flow whose window shrinks leaves room for the newcomer that took it.
  last_max_ = segments < last_max_ ? segments * (1.0 + kBeta) / 2.0 : segments;
  return std::max<uint32_t>(static_cast<uint32_t>(segments * kBeta), 2) * segment;
}

void LinuxCongestion::CongestionStateSet(Ptr<TcpSocketState>,
                                         const TcpSocketState::TcpCongState_t state) {
  if (state != TcpSocketState::CA_LOSS || !tcb_) return;
  in_epoch_ = false;
  last_max_ = 0;
  least_delay_ = Time();
  found_ = false;
  unacked_.clear();
  start_hystart_round(Simulator::Now());
}

}  // namespace strait::sim
