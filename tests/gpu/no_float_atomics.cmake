# Fails if a CUDA source uses an atomic: their order varies, and with it the bits of every sum (docs/determinism.md). The
# rule is for floats; a text search cannot see types and no kernel needs an integer one, so all are refused.
# Use: cmake -DDIRECTORY=kernels/cuda -P no_float_atomics.cmake
set(pattern "atomic(Add|Sub|Exch|Min|Max|Inc|Dec|CAS|And|Or|Xor)(_system|_block)?[ \t]*[(<]|atomic_ref|cuda::(std::)?atomic|[^a-zA-Z_](red|atom)\\.(global|shared)")

# The pattern is checked on lines whose verdict is known before it is trusted.
foreach(bad IN ITEMS "  atomicAdd(&sum, x);" "atomicCAS(p, a, b)" "cuda::atomic_ref<float> r(x);" "asm(\"red.global.add.f32 [%0], %1;\")")
  if(NOT bad MATCHES "${pattern}")
    message(FATAL_ERROR "the search pattern misses: ${bad}")
  endif()
endforeach()
foreach(good IN ITEMS "// Two passes, no atomics." "no float atomics (docs)" "predicated.global")
  if(good MATCHES "${pattern}")
    message(FATAL_ERROR "the search pattern refuses: ${good}")
  endif()
endforeach()

file(GLOB_RECURSE sources "${DIRECTORY}/*.cu" "${DIRECTORY}/*.cuh" "${DIRECTORY}/*.h")
if(NOT sources)
  message(FATAL_ERROR "no CUDA sources below '${DIRECTORY}'")
endif()
set(found "")
foreach(source IN LISTS sources)
  file(STRINGS "${source}" lines REGEX "${pattern}")
  foreach(line IN LISTS lines)
    string(APPEND found "\n  ${source}: ${line}")
  endforeach()
endforeach()
if(found)
  message(FATAL_ERROR "atomics make sums depend on the order of threads; use a fixed-order reduction:${found}")
endif()
