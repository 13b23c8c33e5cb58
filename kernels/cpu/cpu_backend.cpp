// Chooses the instruction set of the cpu backend (kernels/cpu/cpu_backend.h).
#include "kernels/cpu/cpu_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace strait {
namespace cpu {

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::portable:
      return "portable";
    case InstructionSet::avx2:
      return "avx2";
    case InstructionSet::avx512:
      return "avx512";
  }
  return "?";
}

std::vector<InstructionSet> available_instruction_sets() {
  std::vector<InstructionSet> sets = {InstructionSet::portable};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back(InstructionSet::avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
      sets.push_back(InstructionSet::avx512);
  }
#endif
  return sets;
}

std::unique_ptr<Backend> make_backend(int threads, InstructionSet set) {
  if (threads < 1)
    throw std::invalid_argument(
        fmt::format("the cpu backend was asked for {} threads; at least 1 is needed", threads));
  const auto sets = available_instruction_sets();
  if (std::find(sets.begin(), sets.end(), set) == sets.end())
    throw std::runtime_error(fmt::format("this machine has no {} instructions", name_of(set)));
#if defined(__x86_64__)
  if (set == InstructionSet::avx512) return make_avx512_backend(threads);
  if (set == InstructionSet::avx2) return make_avx2_backend(threads);
#endif
  return make_portable_backend(threads);
}

}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return cpu::make_backend(threads, cpu::available_instruction_sets().back());
}

}  // namespace strait
