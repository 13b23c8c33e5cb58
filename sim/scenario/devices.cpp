#include "sim/scenario/devices.h"

#include <stdexcept>

namespace strait::scenario {

std::vector<sim::Device> make_devices(const Scenario& scenario,
                                      const record::RecordHeader& header) {
  const Timing& timing = scenario.devices.timing;
  std::vector<sim::Device> devices;
  for (int rank = 0; rank < static_cast<int>(header.ranks.size()); ++rank) {
    RankDevice own{.rank = rank};
    for (const RankDevice& other : scenario.devices.ranks) {
      if (other.rank == rank) own = other;
    }
    if (timing.measured && !own.device) {
      if (header.meta) {
        throw std::invalid_argument(
            "/devices/timing: \"measured\", but the record was made on the meta backend, which "
            "measures nothing; allowed: {\"device\": name}");
      }
      devices.push_back(sim::Device::measured(own.slowdown));
    } else {
      const DeviceModel model = own.device.value_or(timing.device);
      const sim::Card& card = model.calibrated ? *model.calibrated : sim::find_card(model.name);
      devices.push_back(sim::Device::roofline(card, own.slowdown, timing.efficiency));
    }
  }
  return devices;
}

}  // namespace strait::scenario
