// Token shards: any bytes end in tokens below the vocabulary, or in a runtime_error. The first byte chooses the format, the second
// the vocabulary.
#include "engine/data/shard.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <vector>

#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strait;
  if (size < 2) return 0;
  constexpr std::optional<ShardFormat> formats[] = {std::nullopt, ShardFormat::llmc_v1,
                                                    ShardFormat::llmc_v7, ShardFormat::nanogpt};
  const int32_t vocabulary = data[1] < 128 ? 1 << (data[1] % 18) : 50257;
  const fuzz::MemoryFile file(data + 2, size - 2);
  try {
    const Shard shard(file.path(), formats[data[0] % 4]);
    const int64_t count = std::min<int64_t>(shard.tokens(), 1 << 16);
    std::vector<int32_t> tokens(static_cast<size_t>(count));
    shard.read(shard.tokens() - count, count, vocabulary, tokens.data());
    for (const int32_t token : tokens)
      if (token < 0 || token >= vocabulary) std::abort();
  } catch (const std::runtime_error&) {
  }
  return 0;
}
