// The state of a training between two steps, in host memory: every rank's parameters, moments and codec states under their global names,
// so that it fits any grid. What a checkpoint stores, and what one phase of a training hands to the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/codec/method.h"
#include "engine/nn/model_shape.h"
#include "engine/nn/parameter.h"

namespace strait {

struct Snapshot {
  int64_t step = 0;     // steps done
  uint64_t tokens = 0;  // trained on so far
  ModelShape shape;
  ModelConstraint constraint;  // of the method that trained it
  std::string boundaries;      // boundaries_of() the training (engine/training.h)
  std::vector<ParameterState> parameters;

  // What one rank holds; a state that several ranks share, the same on all of them, is kept once.
  void add(std::vector<ParameterState> of_rank);
  const ParameterState* find(const std::string& name) const;  // nullptr if there is none
  ParameterSource source() const;                             // must not outlive the snapshot
};

// What copy `copy` of a rank (Grid::copies_of) calls its own `name`: `name` itself on the first.
std::string copy_name(const std::string& name, int copy);
// The same of a state; `name` itself also where all copies have the same.
std::string name_of_copy(const Buffer& buffer, int copy);

// How many copies of a rank have parameters of their own that differ from the first one's (copy_name()), the first one counted; 1: none.
int copies_that_differ(const Snapshot& snapshot);

// Downloads one rank's parameters and moments, and its saved buffers; of copies other than the first what they have for themselves: with
// `differ` parameters, too.
std::vector<ParameterState> save_parameters(Backend& ops, const ParameterList& parameters,
                                            int copy = 0, bool differ = false);

// Gives every parameter and every saved buffer of a rank its state; the compute copies are rounded from the masters again. With `moments` false the
// optimizer starts afresh. What the source has not and `afresh` names keeps its initial values. Throws std::invalid_argument that names any
// other parameter that is missing, or of another shape or type.
void load_parameters(Backend& ops, ParameterList& parameters, int copy,
                     const ParameterSource& source, bool moments,
                     const std::function<bool(const std::string&)>& afresh);

}  // namespace strait
