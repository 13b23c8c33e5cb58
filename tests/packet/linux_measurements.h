// Reads tests/bench/network/linux_measurements.csv: what Linux's own TCP took, the yardstick of the
// packet model.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace strait::sim {

struct LinuxMeasurement {
  std::string set;
  double rate_mbps, round_trip_ms, bytes;
  std::vector<double> gaps, seconds;
  double spread;
};

// Both directions at once: `linux_reference 80 20 2000000 0.15,0.15,0.15,2 cubic 1500 both`,
// medians of three runs whose extremes differ by less than 1 %; seconds of the slower message of
// each pair.
struct BothWays {
  static constexpr double rate_mbps = 80, round_trip_ms = 20, bytes = 2e6;
  static constexpr double gaps[] = {0.15, 0.15, 0.15, 2};
  static constexpr double seconds[] = {0.3374, 0.2684, 0.2596, 0.2491, 0.3208};
};

inline std::vector<double> split_numbers(const std::string& text) {
  std::vector<double> numbers;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, ';');) numbers.push_back(std::stod(part));
  return numbers;
}

inline std::vector<LinuxMeasurement> read_linux_measurements(const std::string& source_dir) {
  const std::string path = source_dir + "/tests/bench/network/linux_measurements.csv";
  std::ifstream in(path);
  if (!in) throw std::runtime_error("cannot read " + path);
  std::vector<LinuxMeasurement> rows;
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#' || line.starts_with("set,")) continue;
    std::vector<std::string> f;
    std::stringstream fields(line);
    for (std::string part; std::getline(fields, part, ',');) f.push_back(part);
    if (f.size() != 8) throw std::runtime_error(path + ": a row has not 8 fields: " + line);
    rows.push_back({f[0], std::stod(f[1]), std::stod(f[2]), std::stod(f[3]), split_numbers(f[4]),
                    split_numbers(f[6]), std::stod(f[7])});
  }
  return rows;
}

}  // namespace strait::sim
