#include "tests/gpu/on_host/cuda_runtime_api.h"  // one header stands in for both
