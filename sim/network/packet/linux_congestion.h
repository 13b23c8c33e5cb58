// The congestion controls of the packet model, as subclasses of ns-3's TcpCongestionOps.
//
//   LinuxCongestion   what Linux does around and inside CUBIC and Reno: HyStart, the TCP-friendly
//   region, growth only
//                     while the window is used, decay while it is not, slow start after idle
//                     (docs/network.md)
//   CreditWindow      RDMA-like: a constant window, no slow start, no reaction to anything
//
// Windows are counted in segments, as in Linux; ns-3's socket keeps them in bytes.
#pragma once

#include <ns3/nstime.h>
#include <ns3/tcp-congestion-ops.h>

#include <deque>

namespace strait::sim {

class LinuxCongestion final : public ns3::TcpCongestionOps {
 public:
  static ns3::TypeId GetTypeId();
  LinuxCongestion() = default;

  // Before the connection is opened. `initial_window` in segments.
  void configure(bool cubic, uint32_t initial_window, bool idle_restart);

  // The socket hands a data segment [seq, seq + bytes) to IP: ns-3 tells its congestion control
  // nothing of this, so the owner of the socket connects the socket's "Tx" trace here.
  void on_sent(ns3::SequenceNumber32 sequence, uint32_t bytes);

  std::string GetName() const override { return "LinuxCongestion"; }
  void Init(ns3::Ptr<ns3::TcpSocketState> tcb) override { tcb_ = ns3::PeekPointer(tcb); }
  uint32_t GetSsThresh(ns3::Ptr<const ns3::TcpSocketState> tcb, uint32_t in_flight) override;
  void IncreaseWindow(ns3::Ptr<ns3::TcpSocketState> tcb, uint32_t acked) override;
  void PktsAcked(ns3::Ptr<ns3::TcpSocketState> tcb, uint32_t acked, const ns3::Time& rtt) override;
  void CongestionStateSet(ns3::Ptr<ns3::TcpSocketState> tcb,
                          const ns3::TcpSocketState::TcpCongState_t state) override;
  void CwndEvent(ns3::Ptr<ns3::TcpSocketState> tcb,
                 const ns3::TcpSocketState::TcpCAEvent_t event) override;
  ns3::Ptr<ns3::TcpCongestionOps> Fork() override;

 private:
  struct SentSegment {
    ns3::SequenceNumber32 end;
    ns3::Time at;
  };

  ns3::Time idle_timeout() const;
  void restart_after_idle(ns3::Time idle);
  void judge_window_use();
  bool window_is_used() const;
  ns3::Time acknowledgement_delay() const;
  void sample_delay(ns3::Time delay);
  void start_hystart_round(ns3::Time now);
  void grow_cubic(uint32_t acked);
  void grow_by_one_every(uint32_t count, uint32_t acked);
  uint32_t window() const { return tcb_->m_cWnd.Get() / tcb_->m_segmentSize; }
  void set_window(uint32_t segments) { tcb_->m_cWnd = segments * tcb_->m_segmentSize; }
  uint32_t threshold() const { return tcb_->m_ssThresh.Get() / tcb_->m_segmentSize; }
  void set_threshold(uint32_t segments);
  bool in_slow_start() const { return tcb_->m_cWnd.Get() < tcb_->m_ssThresh.Get(); }

  ns3::TcpSocketState* tcb_ = nullptr;  // owned by the socket, which owns this object
  bool cubic_ = true;
  uint32_t initial_window_ = 10;
  bool idle_restart_ = true;

  // The last batch of segments sent, judged when the next acknowledgement or batch comes.
  bool sent_anything_ = false;
  ns3::Time last_sent_;
  bool batch_unjudged_ = false;
  uint32_t batch_in_flight_ = 0;         // bytes in flight after the batch
  ns3::SequenceNumber32 batch_end_;      // next sequence number after the batch
  ns3::SequenceNumber32 batch_unacked_;  // first unacknowledged byte when it was sent

  // Window use (Linux tcp_cwnd_validate).
  bool limited_ = false;
  uint32_t most_in_flight_ = 0;
  ns3::SequenceNumber32 usage_end_;
  uint32_t used_ = 0;
  ns3::Time last_limited_;

  // HyStart.
  bool found_ = false;
  std::deque<SentSegment> unacked_;
  ns3::SequenceNumber32 highest_sent_;
  ns3::Time least_delay_;
  ns3::SequenceNumber32 round_end_;
  ns3::Time round_start_, last_ack_, round_delay_;
  int round_samples_ = 0;

  // CUBIC and additive increase.
  bool in_epoch_ = false;
  ns3::Time epoch_start_;
  double last_max_ = 0, origin_ = 0, k_seconds_ = 0;
  uint32_t ack_count_ = 0, friendly_window_ = 0, additive_count_ = 0;
};

class CreditWindow final : public ns3::TcpCongestionOps {
 public:
  static ns3::TypeId GetTypeId();
  std::string GetName() const override { return "CreditWindow"; }
  uint32_t GetSsThresh(ns3::Ptr<const ns3::TcpSocketState> tcb, uint32_t) override {
    return tcb->m_cWnd;
  }
  void IncreaseWindow(ns3::Ptr<ns3::TcpSocketState>, uint32_t) override {}
  ns3::Ptr<ns3::TcpCongestionOps> Fork() override { return ns3::CopyObject<CreditWindow>(this); }
};

}  // namespace strait::sim
