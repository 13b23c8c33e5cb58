// Tables of "devices" and "output".
#include "sim/device/device.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {
namespace {

std::vector<std::string> card_names() {
  std::vector<std::string> names;
  for (const std::string_view name : sim::device_names()) names.emplace_back(name);
  return names;
}

// "measured" or {"device": name, "efficiency": share}.
Kind<Timing> timing_kind() {
  Object<Timing> table("devices.timing",
                       "A model of a card: compute takes as long as its peak and bandwidth allow.");
  table
      .field("device", &Timing::device, name_of(card_names()), "The card, the same on every rank.",
             {.replayable = true})
      .field("efficiency", &Timing::efficiency, number({0, 1, true, false}),
             "Share of the card's peak that is reached.",
             {.absent = "the card's own", .replayable = true})
      .then([](Timing& timing) { timing.measured = false; });
  const auto measured = word<Timing>("measured", [](Timing& timing) { timing.measured = true; });
  return plain_or_object<Timing>(measured, table.kind(),
                                 [](const Timing& timing) { return timing.measured; });
}

Object<RankDevice> rank_table() {
  Object<RankDevice> table("devices.ranks[]", "A rank that differs from the others.");
  table
      .field("rank", &RankDevice::rank, integer(0, 4095), "Which.",
             {.required = true, .replayable = true})
      .field("device", &RankDevice::device, name_of(card_names()), "Its card.",
             {.absent = "as in timing", .replayable = true})
      .present_if([](const RankDevice& rank) { return !rank.device.empty(); })
      .field("slowdown", &RankDevice::slowdown, number({0.001, 1e6}),
             "Factor on all its computing times; 2 is half as fast.", {.replayable = true});
  return table;
}

}  // namespace

Object<Devices> devices_table() {
  Object<Devices> table("devices", "What computes, and where its seconds come from.");
  table
      .field("backend", &Devices::backend,
             one_of<Backend>({{"auto", Backend::automatic},
                              {"cpu", Backend::cpu},
                              {"cuda", Backend::cuda},
                              {"meta", Backend::meta}}),
             "What the training runs on here. `auto`: cuda where there is one, else cpu. `meta`: "
             "no numerics, only sizes and "
             "operation counts.")
      .field("precision", &Devices::precision,
             one_of<Precision>({{"bf16", Precision::bf16}, {"fp32", Precision::fp32}}),
             "Storage and matrix products; master weights, statistics and accumulation are fp32 in "
             "both.")
      .field("timing", &Devices::timing, timing_kind(),
             "Where computing times come from. `measured`: this machine's clock, which makes all "
             "times measurements.",
             {.replayable = true})
      .field("ranks", &Devices::ranks, list_of(rank_table().kind()), "Ranks that differ.",
             {.replayable = true})
      .field("host_threads", &Devices::host_threads, integer(0, 4096),
             "Threads of this machine; results do not depend on it. 0: all.", {.replayable = true});
  return table;
}

Object<Output> output_table() {
  constexpr int64_t most_steps = 1'000'000'000;
  Object<Output> table("output", "What is written beside the standard files.");
  table
      .field("messages", &Output::messages,
             one_of<MessageLog>({{"none", MessageLog::none},
                                 {"first_steps", MessageLog::first_steps},
                                 {"all", MessageLog::all}}),
             "Which messages messages.csv lists.", {.replayable = true})
      .field("timeline_steps", &Output::timeline_steps, pair_of(integer<int64_t>(1, most_steps)),
             "First and last step in timeline.json, counted from 1 as in steps.csv.",
             {.replayable = true})
      .field("diagnose_every", &Output::diagnose_every, integer<int64_t>(0, most_steps),
             "Steps between rows on the state of the compression method. 0: never.");
  table.field(
      "compare_networks", &Output::compare_networks, list_of(name_of(network_preset_names())),
      "Network presets for which the closing table says, beside the run's own network, how long "
      "this run and its uncompressed form would have taken.",
      {.replayable = true});
  return table;
}

}  // namespace strait::scenario
