// The cpu backend's choice of instructions. Every op exists once, as a template over sixteen float
// lanes (simd_*.h), compiled once per instruction set; the best one that the machine has is chosen
// at run time.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"

namespace strait::cpu {

enum class InstructionSet { portable, avx2, avx512 };
const char* name_of(InstructionSet set);

// Those that this machine can run, best last.
std::vector<InstructionSet> available_instruction_sets();

// The cpu backend with a given instruction set; throws std::runtime_error if the machine lacks it.
// Matrix products run on oneDNN under avx512 (bf16: where the machine has AVX512_BF16), else on
// own_matmul.h.
std::unique_ptr<Backend> make_backend(int threads, InstructionSet set);

// One per isa_*.cpp.
std::unique_ptr<Backend> make_portable_backend(int threads);
std::unique_ptr<Backend> make_avx2_backend(int threads);
std::unique_ptr<Backend> make_avx512_backend(int threads);

}  // namespace strait::cpu
