#include "engine/optimizer/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <tuple>

namespace strait {
namespace {

void check_not_negative(const std::string& name, double value) {
  if (!(value >= 0))
    throw std::invalid_argument(fmt::format("{} is {}; it must not be negative", name, value));
}

}  // namespace

UpdateRule OptimizerOptions::rule_of(ParameterGroup group) const {
  if (of(group).rule) return *of(group).rule;
  const bool hidden = group == ParameterGroup::matrix || group == ParameterGroup::bottleneck;
  return hidden ? rule : UpdateRule::adamw;
}

double OptimizerOptions::learning_rate(ParameterGroup group, const LearningRateSchedule& schedule,
                                       int64_t step) const {
  LearningRateSchedule own = schedule;
  if (rule_of(group) == UpdateRule::muon) own.peak = muon.lr;
  if (of(group).lr) own.peak = *of(group).lr;
  return own.at(step);
}

void validate(const OptimizerOptions& o) {
  for (const ParameterGroup group : kAllParameterGroups) {
    const std::string name = fmt::format("optimizer group {}", name_of(group));
    if (o.of(group).lr) check_not_negative(name + " lr", *o.of(group).lr);
    if (o.of(group).weight_decay)
      check_not_negative(name + " weight_decay", *o.of(group).weight_decay);
  }
  if (o.rule_of(ParameterGroup::vector) == UpdateRule::muon)
    throw std::invalid_argument(
        "optimizer group vector has the rule muon, which needs matrices; allowed: adamw");
  check_not_negative("muon lr", o.muon.lr);
  check_not_negative("muon weight_decay", o.muon.weight_decay);
  if (!(o.muon.momentum >= 0 && o.muon.momentum < 1))
    throw std::invalid_argument(
        fmt::format("muon momentum is {}; it must be in [0, 1)", o.muon.momentum));
  if (o.muon.steps < 1)
    throw std::invalid_argument(
        fmt::format("muon steps is {}; it must be at least 1", o.muon.steps));
}

Optimizer::Optimizer(const OptimizerOptions& options, ParameterList& parameters)
    : options_(options) {
  // Equal keys, equal settings. AdamW first, because only it has second moments, those an element before those a row; then what decays,
  // then the declared order of groups with rates of their own.
  using Key = std::tuple<UpdateRule, bool, bool, int, double>;
  std::vector<std::pair<Key, Settings>> found;
  const auto settings_of = [&](const Parameter& p) {
    const GroupOptions& own = options_.of(p.group);
    Settings s{p.group, options_.rule_of(p.group), 0, p.row_moments};
    if (p.decay)
      s.weight_decay =
          s.rule == UpdateRule::muon ? options_.muon.weight_decay : options_.adamw.weight_decay;
    if (own.weight_decay) s.weight_decay = *own.weight_decay;
    const int rate = own.lr ? static_cast<int>(p.group) + 1 : 0;
    return std::pair{Key{s.rule, p.row_moments, !p.decay, rate, s.weight_decay}, s};
  };
  for (const Parameter& p : parameters.parameters()) found.push_back(settings_of(p));
  const auto before = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::stable_sort(found.begin(), found.end(), before);
  found.erase(std::unique(found.begin(), found.end(),
                          [](const auto& a, const auto& b) { return a.first == b.first; }),
              found.end());
  for (Parameter& p : parameters.parameters()) {
    const auto own =
        std::lower_bound(found.begin(), found.end(), settings_of(p), before) - found.begin();
    p.range = static_cast<int>(own);
    p.second_moment =
        found[static_cast<size_t>(own)].second.rule == UpdateRule::adamw && !p.row_moments;
  }
  for (const auto& [key, settings] : found) settings_.push_back(settings);
}

void Optimizer::step(Context& ctx, ParameterList& parameters, const LearningRateSchedule& schedule,
                     int64_t step, Tensor grad_scale) const {
  const auto rate = [&](const Settings& s) {
    return options_.learning_rate(s.group, schedule, step);
  };
  for (const ParameterList::Range& range : parameters.ranges()) {
    const Settings& s = settings_.at(static_cast<size_t>(range.id));
    if (s.rule == UpdateRule::adamw && !s.row_moments)
      adamw_step(ctx, parameters, range, options_.adamw, rate(s), s.weight_decay, step, grad_scale);
  }
  for (const Parameter& p : parameters.parameters()) {
    const Settings& s = settings_.at(static_cast<size_t>(p.range));
    const AdamWOptions& a = options_.adamw;
    if (s.rule == UpdateRule::adamw && s.row_moments)
      ctx.ops.adamw_rows(p.master, p.value, p.m, p.v, p.grad, grad_scale,
                         {rate(s), a.beta1, a.beta2, a.eps, s.weight_decay, step});
    if (s.rule == UpdateRule::muon)
      muon_step(ctx, p, options_.muon, rate(s), s.weight_decay, grad_scale);
  }
  ctx.ops.fill(parameters.flat_grad(), 0.0);
}

}  // namespace strait
