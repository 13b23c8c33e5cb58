// simulate(): the executor fed from memory.
#include "sim/executor/simulate.h"

#include "sim/record/validate.h"

namespace strait::sim {

std::vector<StepTiming> simulate(const record::RecordHeader& header,
                                 std::span<const record::StepLog> steps,
                                 const std::vector<Device>& devices, Network& network,
                                 Patience patience) {
  record::validate_header(header);
  Executor executor(devices, network, patience);
  std::vector<StepTiming> timings;
  size_t fed = 0;
  while (timings.size() < steps.size()) {
    if (std::optional<StepTiming> timing = executor.next()) {
      timings.push_back(std::move(*timing));
    } else if (fed < steps.size()) {
      record::validate_structure(steps[fed], header);
      record::validate_values(steps[fed]);
      executor.feed(steps[fed++]);
    } else {
      executor.finish();
    }
  }
  return timings;
}

}  // namespace strait::sim
