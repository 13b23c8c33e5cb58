// The table of the whole scenario file.
#include "sim/scenario/tables.h"

namespace strait::scenario {

const Object<Scenario>& scenario_table() {
  static const Object<Scenario> table = [] {
    const Json on_meta = {{"properties",
                           {{"devices",
                             {{"properties", {{"backend", {{"const", "meta"}}}}},
                              {"required", Json::array({"backend"})}}}}},
                          {"required", Json::array({"devices"})}};
    Object<Scenario> root(
        "", "One run: what is trained, how it is spread and compressed, over which network.");
    root.field("name", &Scenario::name, text("a name"),
               "What the run is called in tables and figures.",
               {.absent = "the file's name", .replayable = true})
        .field("seed", &Scenario::seed, integer<uint64_t>(0, std::numeric_limits<uint64_t>::max()),
               "Seed of the numerics: initial weights and the order of the data.")
        .field("model", &Scenario::model, model_table().kind(), "What is trained.",
               {.required = true})
        .field("data", &Scenario::data, data_table().kind(), "What it is trained on.",
               {.absent = "required, but on the meta backend"})
        .present_if([](const Scenario& scenario) { return !scenario.data.corpus.empty(); })
        .field("training", &Scenario::training, training_table().kind(), "How it is trained.",
               {.required = true})
        .field("parallel", &Scenario::parallel, parallel_table().kind(),
               "How it is spread over ranks.")
        .field("compression", &Scenario::compression, compression_table().kind(),
               "How messages are made smaller.")
        .field("network", &Scenario::network, network_table().kind(), "What joins the ranks.",
               {.replayable = true})
        .field("devices", &Scenario::devices, devices_table().kind(), "What computes.")
        .field("output", &Scenario::output, output_table().kind(), "What is written.")
        .conditions({{"if", on_meta}, {"else", {{"required", {"model", "training", "data"}}}}});
    return root;
  }();
  return table;
}

}  // namespace strait::scenario
