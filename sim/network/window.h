// The congestion window of one connection as the fluid model sees it: whole rounds instead of
// acknowledgements. The rules are those of the packet model (Linux; docs/network.md), applied once
// a round.
//
//   slow start  w <- w + sent                         while the window is used
//   HyStart     a round whose burst lasts longer than R/2 ends slow start at w + rate * R/2, about
//   one
//               bandwidth-delay product or more (CUBIC, windows of 16 segments and more)
//   avoidance   w <- w + sent/20 (CUBIC before any loss), w <- w + segment * sent/w (Reno)
//   idle        after n = floor(idle/timeout) > 0 timeouts w <- max(w0, w / 2^n), threshold <-
//   max(threshold, 3/4 w) not used    for a timeout: w <- (w + max(w0, most used)) / 2
#pragma once

#include "sim/network/config.h"

namespace strait::sim {

class RoundWindow {
 public:
  struct Settings {
    CongestionControl control = CongestionControl::cubic;
    bool idle_restart = true;
    double segment = 1440;     // payload bytes
    double initial = 14400;    // bytes
    double limit = 6e6;        // bytes: socket buffer, or what path and queue hold
    double round_trip = 0.05;  // seconds, serialisation of the first segments included
    double train_gap = 0;      // seconds between acknowledgements when the link is busy
  };

  explicit RoundWindow(const Settings& settings);

  // The bytes that may be sent in a round that starts now (seconds). `clocked`: acknowledgements release them; else nothing is in
  // flight.
  double begin_round(double now, bool clocked);
  // A round ends in which `sent` bytes went out in bursts of `sending` seconds altogether, the last
  // at `last_send`.
  void end_round(double sent, double sending, double last_send, bool more);

  double bytes() const { return window_; }

 private:
  double timeout() const;
  void restart(double idle, double now);
  double round_trip_at_end(double sent, double sending) const;
  void smooth(double round_trip, double sent);
  bool ends_slow_start(double sending) const;
  void grow(double sent, double sending, bool more);

  Settings settings_;
  double window_;
  double threshold_;
  bool first_ = true;
  bool clocked_ = false;
  bool found_ = false;
  double last_send_ = 0;
  double last_limited_ = 0;
  double used_ = 0;
  double smoothed_round_trip_;
};

}  // namespace strait::sim
