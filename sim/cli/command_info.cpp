// strait info: what this build and this machine can do.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <thread>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/device/device.h"
#include "sim/network/presets.h"
#include "strait_version.h"
#ifdef STRAIT_WITH_ENGINE
#include "engine/codec/method.h"
#include "engine/nn/model_shape.h"
#include "engine/schedule/schedule.h"
#include "kernels/backend.h"
#endif

namespace strait::cli {

int info_command() {
  fmt::print("strait {} ({})\n", STRAIT_VERSION, STRAIT_GIT_COMMIT);
  fmt::print("simulator         {}\n", sibling_program("strait-sim"));
  fmt::print("host threads      {}\n", std::thread::hardware_concurrency());
#ifdef STRAIT_WITH_ENGINE
  std::string reason;
  const bool cuda = make_cuda_backend(&reason) != nullptr;
  fmt::print("backends          cpu, meta, cuda ({})\n", cuda ? "available" : reason);
  fmt::print("model presets     {}\n", fmt::join(model_preset_names(), ", "));
  fmt::print("methods           {}\n", fmt::join(method_names(), ", "));
  fmt::print("schedules         {}\n", fmt::join(schedule_names(), ", "));
#else
  fmt::print("backends          none: this build has no engine\n");
#endif
  fmt::print("network presets   {}\n", fmt::join(sim::preset_names(), ", "));
  fmt::print("device models     {}\n", fmt::join(sim::device_names(), ", "));
  return kDone;
}

}  // namespace strait::cli
