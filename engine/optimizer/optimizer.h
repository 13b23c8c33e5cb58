// Which update rule, learning rate and weight decay each parameter gets, and the update of all of them (docs/optimizers.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "engine/nn/module.h"
#include "engine/optimizer/adamw.h"
#include "engine/optimizer/learning_rate.h"
#include "engine/optimizer/muon.h"

namespace strait {

enum class UpdateRule : uint8_t { adamw, muon };

// What a group of parameters has instead of what the optimizer gives it. `lr` is the peak of the same schedule. `weight_decay` applies
// to the whole group, whether its parameters decay otherwise or not.
struct GroupOptions {
  std::optional<UpdateRule> rule;
  std::optional<double> lr, weight_decay;
};

struct OptimizerOptions {
  // muon: the groups matrix and bottleneck take Muon, all others AdamW, if they do not say otherwise.
  UpdateRule rule = UpdateRule::adamw;
  AdamWOptions adamw;
  MuonOptions muon;
  std::array<GroupOptions, kParameterGroups> groups;  // by ParameterGroup

  const GroupOptions& of(ParameterGroup group) const { return groups[static_cast<size_t>(group)]; }
  GroupOptions& of(ParameterGroup group) { return groups[static_cast<size_t>(group)]; }
  UpdateRule rule_of(ParameterGroup group) const;
  // The rate of a group in `step` (>= 1); `schedule` has AdamW's peak.
  double learning_rate(ParameterGroup group, const LearningRateSchedule& schedule,
                       int64_t step) const;
};

// Throws std::invalid_argument that names the option: a rate or decay below 0, a group of vectors under Muon.
void validate(const OptimizerOptions& options);

class Optimizer {
 public:
  // Decides where each parameter lies, so that those with equal settings lie together, and which moments it keeps. After all have been
  // declared, before they are allocated.
  Optimizer(const OptimizerOptions& options, ParameterList& parameters);

  // One update from the accumulated gradients, scaled by grad_scale (1) S; then the gradients are zero. `step` is 1-based. No host
  // synchronisation.
  void step(Context& ctx, ParameterList& parameters, const LearningRateSchedule& schedule,
            int64_t step, Tensor grad_scale) const;

 private:
  struct Settings {
    ParameterGroup group = ParameterGroup::matrix;  // whose learning rate applies
    UpdateRule rule = UpdateRule::adamw;
    double weight_decay = 0;
    bool row_moments = false;
  };

  OptimizerOptions options_;
  std::vector<Settings> settings_;  // by Parameter::range
};

}  // namespace strait
