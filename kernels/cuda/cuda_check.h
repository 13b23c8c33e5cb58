// The check around every call of the CUDA runtime: a failure is a std::runtime_error that names the
// call, the place and what the runtime says. Errors of a kernel surface at the next check, or at
// the next wait for the stream.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace strait {

inline void cuda_check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status) + " (" +
                           cudaGetErrorName(status) + ") in " + call + ", " + file + ":" +
                           std::to_string(line));
}

}  // namespace strait

#define CUDA_CHECK(call) ::strait::cuda_check((call), #call, __FILE__, __LINE__)
