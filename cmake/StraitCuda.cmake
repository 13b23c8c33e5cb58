# CUDA is found, never required; where nvcc is, the backend is compiled in every build, so that it cannot rot.
set(STRAIT_HAVE_CUDA OFF)
if(STRAIT_ENGINE AND NOT STRAIT_CUDA STREQUAL "OFF")
  find_program(STRAIT_NVCC nvcc HINTS /usr/local/cuda/bin $ENV{CUDA_HOME}/bin)
  if(STRAIT_NVCC)
    set(CMAKE_CUDA_COMPILER ${STRAIT_NVCC})
    set(CMAKE_CUDA_ARCHITECTURES "80;90a-real" CACHE STRING "GPU architectures; newer GPUs compile the PTX of 80")
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    set(STRAIT_HAVE_CUDA ON)
    # CMake 3.25 does not know that nvcc speaks C++20.
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA_STANDARD 20)
    # As on the host, the source alone says where a multiply and an add become one operation (fmaf); and constexpr host
    # code (the random numbers) runs on the device as it stands.
    string(APPEND CMAKE_CUDA_FLAGS " --fmad=false --expt-relaxed-constexpr -Xcompiler=-Werror")
  elseif(STRAIT_CUDA STREQUAL "ON")
    message(FATAL_ERROR "STRAIT_CUDA=ON but no nvcc was found (set CUDA_HOME)")
  endif()
endif()
message(STATUS "Strait: CUDA backend ${STRAIT_HAVE_CUDA}")
