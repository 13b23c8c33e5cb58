// Notes ops together with what they cost (kernels/backend.h, "repetition").
#include <string>
#include <utility>

#include "kernels/backend.h"
#include "kernels/check.h"

namespace strait {

void Backend::begin_noting() {
  STRAIT_CHECK(notes_ops(), std::string("the backend ") + name() + " notes no ops");
  do_begin_noting();
  noted_.clear();
  performed_ = std::exchange(sink_, &noted_);
}

std::unique_ptr<OpSequence> Backend::end_noting() {
  sink_ = performed_;
  std::unique_ptr<OpSequence> sequence = do_end_noting();
  sequence->costs = std::move(noted_);
  return sequence;
}

void Backend::abandon_noting() {
  sink_ = performed_;
  try {
    do_end_noting();
  } catch (const std::exception&) {
    // What ended the noting is on its way to the user.
  }
}

void Backend::perform(OpSequence& sequence) {
  do_perform(sequence);
  if (sink_ != nullptr) sink_->insert(sink_->end(), sequence.costs.begin(), sequence.costs.end());
}

}  // namespace strait
