// Which tokens a training step sees. Sample i of a range of tokens is [i*T, i*T + T], T + 1 tokens
// with stride T: the T inputs and, one further, the T targets. The samples of an epoch come in the
// order of a permutation that is a function of (seed, epoch), so the state of the loader is one
// integer: the number of samples drawn so far, over all replicas.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/data/shard.h"

namespace strait {

// A permutation of [0, size) that needs no memory: a Feistel network of eight rounds over the next
// even number of bits (Luby and Rackoff 1988), walked until it falls below `size` (Black and
// Rogaway 2002). Keyed; the same on every machine.
class IndexPermutation {
 public:
  IndexPermutation(int64_t size, uint64_t key);  // size >= 1
  int64_t operator()(
      int64_t index) const;  // index in [0, size); four network passes on average at most

 private:
  uint64_t size_, key_;
  int half_bits_;
};

// Immutable: sampling is a pure function of a counter, safe from any thread, independent of
// microbatches and of the grid.
class Sampler {
 public:
  Sampler() = default;  // no samples
  // Samples from tokens [begin, end) of the stream, `context` = T tokens each. There are (end -
  // begin - 1) / T of them.
  Sampler(std::shared_ptr<const TokenStream> stream, int64_t begin, int64_t end, int64_t context,
          uint64_t seed);

  int64_t samples() const { return samples_; }  // in one epoch
  int64_t tokens() const { return end_ - begin_; }
  int64_t context() const { return context_; }
  int64_t begin() const { return begin_; }
  int64_t end() const { return end_; }

  // The sample in [0, samples()) that is drawn as number `counter` >= 0; epoch = counter /
  // samples().
  int64_t sample_at(int64_t counter) const;

  // The samples numbered counter, ..., counter + sequences - 1: ids (sequences, T), targets
  // (sequences, T), row-major. Step s of a batch of B sequences starts at counter s*B; a replica or
  // a microbatch at an offset into that. Precondition: samples() > 0. Throws std::runtime_error for
  // a token outside of the vocabulary, with file and offset.
  void fill(int64_t counter, int64_t sequences, int32_t* ids, int32_t* targets) const;

 private:
  std::shared_ptr<const TokenStream> stream_;
  int64_t begin_ = 0, end_ = 0, context_ = 0, samples_ = 0;
  uint64_t seed_ = 0;
};

}  // namespace strait
