#include "sim/scenario/devices.h"

#include <stdexcept>

#include "sim/executor/simulate.h"
#include "sim/network/network.h"

namespace strait::scenario {

double link_free_factor(const Scenario& scenario, const record::RecordHeader& header,
                        const record::StepLog& step) {
  const std::optional<Nanoseconds> wanted = scenario.devices.timing.link_free_step;
  if (!wanted) return 1.0;
  sim::NetworkConfig config;
  config.model = sim::NetworkModel::ideal;
  config.topology = sim::Topology::mesh;
  config.links.bandwidth = BitsPerSecond{uint64_t{1} << 62};  // 1 ns a message, as times round up
  config.links.latency = Nanoseconds{0};
  Scenario equal = scenario;
  equal.devices.ranks.clear();
  std::vector<record::StepLog> steps(3, step);
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = static_cast<int64_t>(i) + 1;
  double factor = 1.0;
  // The second time takes off what rounding to nanoseconds, messages included, has left of short steps.
  for (int i = 0; i < 2; ++i) {
    const auto network = sim::make_ideal(config, static_cast<int>(header.ranks.size()));
    const auto devices = make_devices(equal, header, factor);
    const Nanoseconds found = sim::simulate(header, steps, devices, *network).back().step_time();
    if (found.count <= 0)
      throw std::invalid_argument(
          "/devices/timing/link_free_step: the step computes nothing that could take this long");
    factor *= wanted->seconds() / found.seconds();
  }
  return factor;
}

std::vector<sim::Device> make_devices(const Scenario& scenario, const record::RecordHeader& header,
                                      double factor) {
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
      devices.push_back(sim::Device::roofline(
          card, own.device ? own.slowdown : own.slowdown * factor, timing.efficiency));
    }
  }
  return devices;
}

}  // namespace strait::scenario
