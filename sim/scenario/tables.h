// The tables: one per object of a scenario file, each field declared once with its key, range,
// default and meaning. A new field is one line in its table and one member in scenario.h; a new
// compression method is one struct in scenario.h and one alternative in tables_compression.cpp.
#pragma once

#include "sim/scenario/kinds.h"
#include "sim/scenario/scenario.h"

namespace strait::scenario {

Object<Model> model_table();        // tables_training.cpp
Object<Data> data_table();          // tables_training.cpp
Object<Training> training_table();  // tables_training.cpp
Object<Parallel> parallel_table();  // tables_training.cpp
Object<Compression> compression_table();
// `none` and the codecs of any tensor.
std::vector<Alternative<PipelineCompression>> baseline_methods();  // tables_compression.cpp
Object<sim::NetworkConfig> network_table();                        // tables_network.cpp
Object<Devices> devices_table();                                   // tables_devices.cpp
Object<Output> output_table();                                     // tables_devices.cpp
const Object<Scenario>& scenario_table();                          // tables.cpp; built once

std::vector<std::string> network_preset_names();  // tables_network.cpp

// What parse_scenario() does with a document that has been read already; `problems` are those of
// its reading.
Result parse_document(Document document, std::span<const std::string> overrides,
                      std::vector<Problem> problems = {});  // scenario.cpp

// Cross-field rules on a document that was read into `scenario`; rules on values that are in
// trouble already are skipped.
void check_rules(const Scenario& scenario, Reader& reader);  // rules.cpp

}  // namespace strait::scenario
