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

// The same for both places that may name a card.
const Object<sim::Card>& card_table() {
  static const Object<sim::Card> built = [] {
    constexpr Range rate{1, 1e21}, share{0, 1, true, false};
    Object<sim::Card> table(
        "devices.timing.device",
        "A machine as `strait calibrate` measured it; what it reaches of its own "
        "best rates is in the efficiencies.");
    table
        .field("name", &sim::Card::name, text("a name"), "What it is called.",
               {.required = true, .replayable = true})
        .field("fp32_flops", &sim::Card::fp32_flops, number(rate), "FLOP/s in fp32.",
               {.required = true, .replayable = true})
        .field("bf16_matrix_flops", &sim::Card::bf16_matrix_flops, number(rate),
               "FLOP/s of bf16 matrix products.", {.required = true, .replayable = true})
        .field("memory_bytes", &sim::Card::memory_bytes, number(rate), "Bytes/s of its memory.",
               {.required = true, .replayable = true})
        .field("compute_efficiency", &sim::Card::compute_efficiency, number(share),
               "Share of the FLOP/s that training reaches.", {.required = true, .replayable = true})
        .field("memory_efficiency", &sim::Card::memory_efficiency, number(share),
               "Share of the bytes/s that training reaches.",
               {.required = true, .replayable = true})
        .field("launch", &sim::Card::launch, duration(Nanoseconds{1'000'000'000}),
               "What an op takes beside that.", {.required = true, .replayable = true})
        .field("source", &sim::Card::source, text("a text"), "How it was measured.",
               {.required = true, .replayable = true});
    return table;
  }();
  return built;
}

// The machine in a file of `strait calibrate`.
bool read_device_file(const std::string& path, DeviceModel& model, Reader& reader) {
  const Kind<sim::Card> card = card_table().kind();
  const LoadedText loaded = load_text(path);
  if (!loaded.text)
    return reader.report(fmt::format("the device file {}: {}", path, loaded.problem),
                         "a file that `strait calibrate` wrote");
  std::vector<Problem> problems;
  std::optional<Document> document = read_document(*loaded.text, path, problems);
  if (document && (!document->root.is_object() || !document->root.contains("device"))) {
    problems.push_back(
        document->problem({}, describe(document->root), "an object with \"device\""));
  } else if (document) {
    Reader inside(*document, card.info.objects.front().get());
    const Reader::Scope scope(inside, "device");
    model.calibrated.emplace();
    card.read(document->root["device"], *model.calibrated, inside);
    problems.insert(problems.end(), inside.problems().begin(), inside.problems().end());
  }
  for (const Problem& p : problems)
    reader.report(fmt::format("the device file {}{}: {}", p.file, p.pointer, p.found), p.allowed);
  return problems.empty();
}

// A card's name, a device file, which becomes the machine in it, or that machine.
Kind<DeviceModel> device_kind() {
  const auto names = name_of(card_names());
  Kind<DeviceModel> plain{
      {fmt::format("{}, or a file of `strait calibrate` (*.json)", names.info.form),
       {{"anyOf", {names.info.schema, {{"type", "string"}, {"pattern", "\\.json$"}}}}},
       {},
       false},
      [names](const Json& json, DeviceModel& model, Reader& reader) {
        model.calibrated.reset();
        if (json.is_string() && json.get_ref<const std::string&>().ends_with(".json"))
          return read_device_file(json.get<std::string>(), model, reader);
        return names.read(json, model.name, reader);
      },
      [](const DeviceModel& model, WriteScope) { return Json(model.name); }};
  const auto card = card_table().kind();
  const Kind<DeviceModel> object{card.info,
                                 [card](const Json& json, DeviceModel& model, Reader& reader) {
                                   return card.read(json, model.calibrated.emplace(), reader);
                                 },
                                 [card](const DeviceModel& model, WriteScope scope) {
                                   return card.write(*model.calibrated, scope);
                                 }};
  return plain_or_object<DeviceModel>(plain, object,
                                      [](const DeviceModel& model) { return !model.calibrated; });
}

// "measured" or {"device": name, "efficiency": share}.
Kind<Timing> timing_kind() {
  Object<Timing> table("devices.timing",
                       "A model of a card: compute takes as long as its peak and bandwidth allow.");
  table
      .field("device", &Timing::device, device_kind(), "The card, the same on every rank.",
             {.replayable = true})
      .field("efficiency", &Timing::efficiency, number({0, 1, true, false}),
             "Share of the card's peak that is reached.",
             {.absent = "the card's own", .replayable = true})
      .field("link_free_step", &Timing::link_free_step, duration(Nanoseconds{600'000'000'000}),
             "What a training step takes where links take no time, as somebody measured or "
             "published it: all times of the card are scaled by the one factor that makes the "
             "record's first step take this long.",
             {.absent = "the card's times as they are", .replayable = true})
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
      .field("device", &RankDevice::device, device_kind(), "Its card.",
             {.absent = "as in timing", .replayable = true})
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
