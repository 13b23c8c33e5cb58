// The CUDA backend of a build without one.
#include "kernels/backend.h"

namespace strait {

std::unique_ptr<Backend> make_cuda_backend(std::string* reason) {
  if (reason != nullptr)
    *reason = "this build has no CUDA backend (nvcc was not found when it was configured)";
  return nullptr;
}

}  // namespace strait
