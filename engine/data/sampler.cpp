// The order of samples, and copying them out of the token stream.
#include "engine/data/sampler.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/rng.h"

namespace strait {

IndexPermutation::IndexPermutation(int64_t size, uint64_t key)
    : size_(static_cast<uint64_t>(size)), key_(key) {
  STRAIT_CHECK(size >= 1);
  half_bits_ = std::max(1, (static_cast<int>(std::bit_width(size_ - 1)) + 1) / 2);
}

int64_t IndexPermutation::operator()(int64_t index) const {
  constexpr uint64_t kRounds = 8;
  STRAIT_CHECK(index >= 0 && static_cast<uint64_t>(index) < size_);
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  const Philox mix{key_};
  auto value = static_cast<uint64_t>(index);
  do {
    uint64_t left = value >> half_bits_, right = value & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      left ^= mix.word(round, right) & mask;
      std::swap(left, right);
    }
    value = left << half_bits_ | right;
  } while (value >= size_);
  return static_cast<int64_t>(value);
}

Sampler::Sampler(std::shared_ptr<const TokenStream> stream, int64_t begin, int64_t end,
                 int64_t context, uint64_t seed)
    : stream_(std::move(stream)), begin_(begin), end_(end), context_(context), seed_(seed) {
  STRAIT_CHECK(context > 0 && begin >= 0 && begin <= end && end <= stream_->size());
  samples_ = end > begin ? (end - begin - 1) / context : 0;
}

int64_t Sampler::sample_at(int64_t counter) const {
  STRAIT_CHECK(counter >= 0 && samples_ > 0);
  const auto epoch = static_cast<uint64_t>(counter / samples_);
  const uint64_t key = Philox{hash_name("order of samples", seed_)}.word(0, epoch);
  return IndexPermutation(samples_, key)(counter % samples_);
}

void Sampler::fill(int64_t counter, int64_t sequences, int32_t* ids, int32_t* targets) const {
  std::vector<int32_t> sample(static_cast<size_t>(context_) + 1);
  for (int64_t row = 0; row < sequences; ++row) {
    stream_->read(begin_ + sample_at(counter + row) * context_, context_ + 1, sample.data());
    std::copy_n(sample.begin(), context_, ids + row * context_);
    std::copy_n(sample.begin() + 1, context_, targets + row * context_);
  }
}

}  // namespace strait
