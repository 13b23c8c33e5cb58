// What the tables of the compression methods share. A method's table is an Alternative of "compression.pipeline", in a file of its own
// where it is long.
#pragma once

#include <string>
#include <type_traits>
#include <vector>

#include "sim/scenario/tables.h"

namespace strait::scenario {

// Where a method stands in a scenario.
template <class Owner>
constexpr const char* place_of() {
  if constexpr (std::is_same_v<Owner, BackwardCompression>) return "compression.pipeline.backward";
  if constexpr (std::is_same_v<Owner, ContextCompression>) return "compression.context";
  return "compression.pipeline";
}

// The alternative of a method whose options are `Options`, of Owner: PipelineCompression, BackwardCompression or ContextCompression.
template <class Owner, class Options>
Alternative<Owner> method_of(const std::string& name, const std::string& help) {
  Owner sample;
  sample.options = Options{};
  const auto selected = [](const Owner& c) { return std::holds_alternative<Options>(c.options); };
  const auto select = [selected](Owner& c) {
    if (!selected(c)) c.options = Options{};
  };
  Object<Owner> table(place_of<Owner>(), help, sample);
  return {name, select, selected, table};
}

// The number format, where a method has the choice.
template <class Owner>
void add_wire(Alternative<Owner>& a,
              std::vector<Choice<Precision>> formats = {{"fp32", Precision::fp32},
                                                        {"bf16", Precision::bf16}},
              const std::string& more = "") {
  a.table.field("wire", &Owner::wire, one_of<Precision>(std::move(formats)),
                "Number format of what is sent." + more,
                {.absent = std::is_same_v<Owner, BackwardCompression> ? "that of the activations"
                                                                      : "devices.precision"});
}

// A method for both directions, with its number format.
template <class Options>
Alternative<PipelineCompression> method_table(const std::string& name, const std::string& help) {
  auto result = method_of<PipelineCompression, Options>(name, help);
  add_wire(result);
  return result;
}

// A member of the options struct of a method, as a member of its owner.
template <class Options, class V>
auto option(V Options::*member) {
  return [member](auto& owner) -> auto& { return std::get<Options>(owner.options).*member; };
}

// One of several words, kept as it is.
inline Kind<std::string> one_word(const std::vector<std::string>& words) {
  std::vector<Choice<std::string>> choices;
  for (const std::string& word : words) choices.push_back({word, word});
  return one_of<std::string>(std::move(choices));
}

// Options of quantisers: 8 or 4 bits, and groups of an even number of neighbours (tables_baselines.cpp).
Kind<int> eight_or_four();
Kind<int> even_group();

Alternative<PipelineCompression> mapl_method();                  // tables_mapl.cpp
std::vector<Alternative<ContextCompression>> context_methods();  // tables_context.cpp

}  // namespace strait::scenario
