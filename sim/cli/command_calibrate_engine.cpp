// strait calibrate: this machine as a device file, for devices.timing (docs/calibration.md).
#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>

#include "engine/calibration.h"
#include "engine/trainer.h"
#include "sim/cli/commands.h"
#include "sim/cli/engine_bridge.h"
#include "sim/trace/output_file.h"
#include "strait_version.h"

namespace strait::cli {
namespace {

BackendKind backend_of(const std::string& name) {
  if (name == "auto") return to_backend(scenario::Backend::automatic);
  if (name == "cpu") return BackendKind::cpu;
  if (name == "cuda") return to_backend(scenario::Backend::cuda);
  throw std::invalid_argument(fmt::format("found \"{}\"; allowed: auto, cpu, cuda", name));
}

void print_table(const Calibration& c) {
  fmt::print("fp32              {:.4g} TFLOP/s\n", c.fp32_flops * 1e-12);
  fmt::print("bf16              {:.4g} TFLOP/s\n", c.bf16_matrix_flops * 1e-12);
  fmt::print("memory            {:.4g} GB/s\n", c.memory_bytes * 1e-9);
  fmt::print("an op at least    {:.3g} us\n\n", c.launch_seconds * 1e6);
  fmt::print("{:<42} {:>12} {:>10}   {}\n", "op", "time", "share", "of");
  for (const MeasuredOp& op : c.ops)
    fmt::print("{:<42} {:>9.1f} us {:>9.0f}%   {}\n", op.name, op.seconds * 1e6, 100 * op.share,
               op.compute_bound ? "FLOP/s" : "bytes/s");
  fmt::print("\nefficiency        {:.2f} of the FLOP/s, {:.2f} of the bytes/s\n",
             c.compute_efficiency, c.memory_efficiency);
}

double rounded(double x) {  // to four digits: nobody measures more
  return std::stod(fmt::format("{:.4g}", x));
}

nlohmann::ordered_json device_json(const Calibration& c, const std::string& name,
                                   const std::string& how) {
  nlohmann::ordered_json ops = nlohmann::ordered_json::array();
  for (const MeasuredOp& op : c.ops)
    ops.push_back({{"op", op.name},
                   {"seconds", rounded(op.seconds)},
                   {"flops", op.flops},
                   {"bytes", op.bytes},
                   {"share", rounded(op.share)},
                   {"bound_by", op.compute_bound ? "flops" : "bytes"}});
  return {{"format", "strait device 1"},
          {"device",
           {{"name", name},
            {"fp32_flops", rounded(c.fp32_flops)},
            {"bf16_matrix_flops", rounded(c.bf16_matrix_flops)},
            {"memory_bytes", rounded(c.memory_bytes)},
            {"compute_efficiency", rounded(c.compute_efficiency)},
            {"memory_efficiency", rounded(c.memory_efficiency)},
            {"launch", fmt::format("{}ns", std::llround(c.launch_seconds * 1e9))},
            {"source", how}}},
          {"ops", ops}};
}

}  // namespace

int calibrate_command(const CalibrateArguments& a) {
  BackendKind kind{};
  try {
    kind = backend_of(a.backend);
  } catch (const std::invalid_argument& e) {
    throw WrongInput{fmt::format("--backend: {}", e.what())};
  }
  if (!a.out.ends_with(".json"))
    throw WrongInput{fmt::format(
        "--out: found \"{}\"; allowed: a file *.json, by which scenarios know a device file",
        a.out)};
  if (!std::ofstream(a.out, std::ios::app))  // before a minute of measuring
    throw WrongInput{fmt::format("--out: {} cannot be written: {}", a.out, std::strerror(errno))};
  const int threads = a.threads > 0
                          ? a.threads
                          : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const std::unique_ptr<Backend> ops = make_backend(kind, threads);
  const std::string how = fmt::format(
      "strait calibrate {}, backend {}{}", STRAIT_VERSION, name_of(kind),
      kind == BackendKind::cpu ? fmt::format(", {} thread{}", threads, threads == 1 ? "" : "s")
                               : "");
  const Calibration c = calibrate(*ops, a.seconds);
  print_table(c);
  sim::write_whole_file(a.out, device_json(c, ops->device_name(), how).dump(2) + "\n");
  fmt::print("\n{}  for --set devices.timing.device={}\n", a.out, a.out);
  return kDone;
}

}  // namespace strait::cli
