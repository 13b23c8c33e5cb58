// What the engine knows of a sweep's trainings before they start: shapes, backend, data, what they will cost.
#pragma once

#include <string>

#include "sim/sweep/plan.h"

namespace strait::cli {

// For sweep::make_plan(). `with_data`: opens (and where need be fetches and tokenises) the data, so that everything is checked
// and the cache can be asked; without, the vocabulary may stay open. `file` is named in errors. It throws WrongInput.
sweep::Resolver training_resolver(const std::string& file, bool with_data, bool quiet);

}  // namespace strait::cli
