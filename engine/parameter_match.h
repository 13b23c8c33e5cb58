// Models of equal size: the FFN width that makes up for the parameters that a compression method adds or saves, as the authors of
// Subspace Networks do in their public comparison (specs/subspace_models.md, section 6.4).
#pragma once

#include "engine/training.h"

namespace strait {

// The FFN width, a multiple of `multiple` (>= 1), with which the model under config.method has as nearly as possible the trainable
// parameters that method none has at config.shape.ffn_width; of two equally near the narrower. Method none keeps its width. The
// parameters are counted as the modules and codecs of all ranks declare them. Throws std::invalid_argument where the narrowest FFN
// leaves more parameters than the uncompressed model has.
int matched_ffn_width(const TrainingConfig& config, int multiple);

}  // namespace strait
