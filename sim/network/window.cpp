// Window arithmetic in rounds; see window.h.
#include "sim/network/window.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace strait::sim {
namespace {

constexpr double kLeastTimeout = 0.2;             // seconds above the round trip, as Linux
constexpr double kDelayedAcknowledgement = 0.04;  // seconds, as the packet model's receiver
constexpr double kTrainGapLimit =
    2e-3;  // HyStart sees no train where acknowledgements are further apart
constexpr double kLowWindowSegments = 16;
constexpr double kCubicFirstEpoch = 20;  // acknowledged segments per segment of growth

}  // namespace

RoundWindow::RoundWindow(const Settings& settings)
    : settings_(settings),
      window_(std::min(settings.initial, settings.limit)),
      threshold_(std::numeric_limits<double>::infinity()),
      smoothed_round_trip_(settings.round_trip) {
  if (settings_.control == CongestionControl::lossless) window_ = settings_.limit;
}

double RoundWindow::timeout() const { return smoothed_round_trip_ + kLeastTimeout; }

double RoundWindow::begin_round(double now, bool clocked) {
  clocked_ = clocked;
  if (first_) last_limited_ = now;
  const bool may_restart = settings_.idle_restart && settings_.control != CongestionControl::bbr &&
                           settings_.control != CongestionControl::lossless;
  if (!clocked && !first_ && may_restart && now - last_send_ > timeout())
    restart(now - last_send_, now);
  return window_;
}

void RoundWindow::restart(double idle, double now) {
  const double floor = std::min(settings_.initial, window_);
  threshold_ = std::max(threshold_, 0.75 * window_);
  for (idle -= timeout(); idle > 0 && window_ > floor; idle -= timeout()) window_ /= 2;
  window_ = std::max(window_, floor);
  last_limited_ = now;
  used_ = 0;
}

void RoundWindow::end_round(double sent, double sending, double last_send, bool more) {
  if (sent <= 0) return;
  // What acknowledgements release, they release because the window was closed.
  const bool limited = clocked_ || sent >= window_ - settings_.segment;
  const bool used = limited || (window_ < threshold_ && window_ < 2 * sent);
  first_ = false;
  if (settings_.control == CongestionControl::lossless) return;
  if (used) grow(sent, sending, more);
  const double round_trip = round_trip_at_end(sent, sending);
  smooth(round_trip, sent);
  last_send -= round_trip - settings_.round_trip;
  last_send_ = last_send;
  if (used) {
    used_ = 0;
    last_limited_ = last_send;
    return;
  }
  used_ = std::max(used_, sent);
  if (!settings_.idle_restart || settings_.control == CongestionControl::bbr) return;
  if (last_send - last_limited_ < timeout()) return;
  const double target = std::max(used_, settings_.initial);
  if (target < window_) {
    threshold_ = std::max(threshold_, 0.75 * window_);
    window_ = (window_ + target) / 2;
  }
  used_ = 0;
  last_limited_ = last_send;
}

// The round trip of the last packets: those of a burst queue behind the whole burst, those that acknowledgements
// release behind what the window, as it is by then, holds beyond the path, or behind half their burst if it holds less.
double RoundWindow::round_trip_at_end(double sent, double sending) const {
  if (!clocked_) return settings_.round_trip + sending;
  const double drained = window_ * sending / sent;
  return drained >= settings_.round_trip ? drained : settings_.round_trip + sending / 2;
}

// Every acknowledgement (of two segments) moves the smoothed round trip by an eighth of the difference (RFC 6298); that of a
// lone segment comes after the delayed acknowledgement's timer.
void RoundWindow::smooth(double round_trip, double sent) {
  if (sent <= settings_.segment) round_trip += kDelayedAcknowledgement;
  const double samples = std::max(1.0, sent / (2 * settings_.segment));
  smoothed_round_trip_ =
      round_trip + (smoothed_round_trip_ - round_trip) * std::pow(7.0 / 8.0, samples);
}

// HyStart: a train of acknowledgements longer than half the round trip and what batching may hold
// them back (four bursts of 64 KiB at the pacing rate of two windows a round trip, at most 1 ms).
bool RoundWindow::ends_slow_start(double sending) const {
  if (settings_.control != CongestionControl::cubic || found_ ||
      settings_.train_gap > kTrainGapLimit || window_ < kLowWindowSegments * settings_.segment)
    return false;
  const double batching = std::min(1e-3, 4.0 * 65536 * smoothed_round_trip_ / (4 * window_));
  return sending - settings_.train_gap > (settings_.round_trip + batching) / 2;
}

void RoundWindow::grow(double sent, double sending, bool more) {
  if (window_ < threshold_) {
    if (ends_slow_start(sending)) {
      found_ = true;
      window_ += sent / sending * settings_.round_trip / 2;
      threshold_ = window_;
    } else {
      // Without more to send, growth ends at twice what was in flight.
      const double most = clocked_ || more ? window_ + sent : std::max(window_, 2 * sent);
      window_ = std::min(most, std::min(window_ + sent, threshold_));
    }
  } else if (settings_.control == CongestionControl::reno) {
    window_ += settings_.segment * sent / window_;
  } else {
    window_ += sent / kCubicFirstEpoch;
  }
  window_ = std::min(window_, settings_.limit);
}

}  // namespace strait::sim
