// strait cache list|prune: the finished trainings that runs and sweeps share.
#include <fmt/format.h>

#include <ctime>

#include "sim/cli/commands.h"
#include "sim/cli/progress.h"
#include "sim/scenario/quantity.h"
#include "sim/sweep/cache.h"
#include "sim/sweep/sweep_file.h"

namespace strait::cli {
namespace {

std::string date_text(int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm local{};
  localtime_r(&time, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M", &local);
  return text;
}

// "llama-1m subspace ratio 8, 200 steps, seed 1".
std::string what_text(const nlohmann::ordered_json& scenario) {
  const auto at = [&](const char* pointer) {
    const nlohmann::ordered_json::json_pointer p(pointer);
    if (!scenario.contains(p)) return std::string();
    return sweep::value_text(scenario.at(p));
  };
  std::string model = at("/model/preset");
  if (model.empty()) model = fmt::format("{} x {}", at("/model/layers"), at("/model/width"));
  std::string text = fmt::format("{} {}", model, at("/compression/pipeline/method"));
  for (const char* option : {"rank", "keep", "columns", "ratio", "format", "bits"})
    if (const auto value = at(fmt::format("/compression/pipeline/{}", option).c_str());
        !value.empty())
      text += fmt::format(" {} {}", option, value);
  return text + fmt::format(", {} steps, seed {}", at("/training/steps"), at("/seed"));
}

Bytes parse_size(const std::string& text) {
  const auto parsed = scenario::parse_quantity(text, scenario::Dimension::size);
  if (!parsed.count)
    throw WrongInput{fmt::format("--keep: found \"{}\" ({}); allowed: {}", text, parsed.problem,
                                 scenario::quantity_form(scenario::Dimension::size))};
  return Bytes{*parsed.count};
}

}  // namespace

int cache_list_command() {
  const sweep::RunCache cache(sweep::RunCache::default_root());
  const auto entries = cache.list();
  Bytes size;
  if (!entries.empty())
    fmt::print("{:<12}  {:<20} {:<44} {:<7} {:>10} {:>14}  {:<16}  {}\n", "key", "name", "what",
               "backend", "size", "training took", "last used", "program");
  for (const sweep::CacheEntry& entry : entries) {
    const sweep::TrainingDescription& d = entry.description;
    // The build is long, and tells programs apart by its beginning.
    const size_t build = d.identity.program.rfind(' ');
    fmt::print(
        "{:<12}  {:<20} {:<44} {:<7} {:>10} {:>14}  {:<16}  {}\n", entry.key.substr(0, 12), d.name,
        what_text(d.scenario), d.identity.backend,
        bytes_text(static_cast<double>(entry.size.count)), duration_text(d.host_seconds),
        date_text(entry.last_taken),
        build == std::string::npos ? d.identity.program : d.identity.program.substr(0, build + 9));
    size += entry.size;
  }
  fmt::print("{}: {} trainings, {}\n", cache.root().string(), entries.size(),
             bytes_text(static_cast<double>(size.count)));
  return kDone;
}

int cache_prune_command(const PruneArguments& a) {
  if (!a.all && a.older_than_days < 0 && a.keep.empty())
    throw WrongInput{
        "strait cache prune: nothing says what may go; allowed: --older-than DAYS, --keep SIZE, "
        "--all"};
  constexpr double most_days = 1e6;  // and no number beyond what seconds can count
  if (!(a.older_than_days <= most_days))
    throw WrongInput{
        fmt::format("--older-than {}: allowed: days from 0 to {}", a.older_than_days, most_days)};
  sweep::RunCache::PruneRule rule;
  rule.all = a.all;
  constexpr double day = 86'400;
  if (a.older_than_days >= 0)
    rule.not_taken_since =
        static_cast<int64_t>(static_cast<double>(std::time(nullptr)) - a.older_than_days * day);
  if (!a.keep.empty()) rule.keep_size = parse_size(a.keep);
  sweep::RunCache cache(sweep::RunCache::default_root());
  const sweep::RunCache::Pruned pruned = cache.prune(rule);
  fmt::print("{}: {} trainings removed, {} freed\n", cache.root().string(), pruned.entries,
             bytes_text(static_cast<double>(pruned.size.count)));
  return kDone;
}

}  // namespace strait::cli
