// Safetensors files: any bytes end in tensors that lie within the file, or in a SafetensorsError.
#include "engine/checkpoint/safetensors.h"

#include <cstdint>
#include <cstdlib>

#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const strait::fuzz::MemoryFile file(data, size);
  try {
    const strait::SafetensorsFile tensors(file.path());
    for (const auto& [name, entry] : tensors.tensors()) {
      if (entry.offset > size || entry.bytes > size - entry.offset) std::abort();
      try {
        tensors.read_as_double(name);
      } catch (const strait::SafetensorsError&) {  // F16 and BOOL are no numbers to us
      }
    }
  } catch (const strait::SafetensorsError&) {
  }
  return 0;
}
