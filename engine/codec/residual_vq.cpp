#include "engine/codec/residual_vq.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "engine/codec/projection.h"

namespace strait {
namespace {

void check(bool condition, const std::string& text) {
  if (!condition) throw std::invalid_argument("mapl vq: " + text);
}

// 0 … count-1 in an order drawn from the stream.
std::vector<int32_t> permutation(uint64_t seed, uint64_t stream, int count) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  const Philox rng{seed};
  for (size_t i = ids.size(); i > 1; --i)  // Fisher & Yates
    std::swap(ids[i - 1], ids[rng.word(stream, i) % i]);
  return ids;
}

}  // namespace

ResidualVq::ResidualVq(const MethodContext& c, const BatchShape& batch,
                       const ResidualVqOptions& options, const std::string& name, int64_t rank,
                       DType wire, bool sender)
    : o_(options),
      r_(rank),
      microbatches_(std::max(batch.microbatches, 1)),
      first_step_(batch.first_step),
      seed_(hash_name("residual vq", c.seed)),
      wire_(wire) {
  if (o_.groups == 0) o_.groups = static_cast<int>(std::max(r_ / 4, int64_t{1}));
  check(o_.groups >= 1 && r_ % o_.groups == 0,
        fmt::format("groups is {}; it must divide the rank {}", o_.groups, r_));
  check(o_.codes >= 2 && o_.codes <= 65536,
        fmt::format("codes is {}; 2 to 65536 are allowed", o_.codes));
  check(o_.rounds >= 1, fmt::format("rounds is {}; it must be positive", o_.rounds));
  check(o_.sync == "mirror" || o_.sync == "stale",
        fmt::format("sync is \"{}\"; allowed: mirror, stale", o_.sync));
  check(o_.sync_fraction >= 0 && o_.sync_fraction <= 1,
        fmt::format("sync_fraction is {}; 0 to 1 are allowed", o_.sync_fraction));
  check(o_.threshold > 0, "threshold must be positive");
  sync_codes_ =
      std::max(int64_t{1}, static_cast<int64_t>(std::llround(o_.sync_fraction * o_.codes)));
  bits_ = std::max(1, static_cast<int>(std::bit_width(static_cast<unsigned>(o_.codes - 1))));
  const DType s = statistics_of(c.parameters.dtype());
  const int64_t rows = int64_t{books()} * o_.codes;
  codes_ =
      c.parameters.declare_state(name + ".codes", {rows, r_}, s,
                                 normal(c.seed, name.substr(0, name.rfind('.')) + ".codes", 1.0));
  codes_->local = true;
  if (!sender) return;
  counts_ = c.parameters.declare_state(name + ".counts", {rows, o_.groups}, s, ones());
  sums_ =
      c.parameters.declare_state(name + ".sums", {rows, r_}, s,
                                 normal(c.seed, name.substr(0, name.rfind('.')) + ".codes", 1.0));
  counts_->local = sums_->local = true;
}

Tensor ResidualVq::slab(const Buffer* b, int book) const {
  return b->value.slice(0, int64_t{book} * o_.codes, o_.codes);
}
Tensor ResidualVq::wire_codebook(int round) const {
  return slab(codes_, o_.share_rounds ? 0 : round);
}

bool ResidualVq::is_first(const Frame& frame) const {
  return frame.training && frame.step == first_step_ && frame.microbatch == 0;
}
int64_t ResidualVq::position(const Frame& frame) const {
  if (!frame.training) return 0;  // what it brings is not used
  return (frame.step - first_step_) * microbatches_ + frame.microbatch;
}

Message::Section ResidualVq::code_section(bool first) const {
  return {wire_, {books() * (first ? int64_t{o_.codes} : sync_codes_), r_}};
}
Message::Section ResidualVq::index_section(int64_t rows) const {
  return {DType::u8, {(rows * o_.groups * o_.rounds * bits_ + 7) / 8}};
}

std::vector<int32_t> ResidualVq::synchronised(int64_t position) const {
  const int64_t sweep_length = (o_.codes + sync_codes_ - 1) / sync_codes_,
                sweep = position / sweep_length, first = position % sweep_length * sync_codes_;
  const auto order =
      permutation(seed_, o_.fixed_order ? 0 : static_cast<uint64_t>(sweep), o_.codes);
  std::vector<int32_t>
      ids;  // the last of a sweep begins over, so that all messages are of one size
  for (int64_t i = 0; i < sync_codes_; ++i)
    ids.push_back(order[static_cast<size_t>((first + i) % o_.codes)]);
  return ids;
}

Tensor ResidualVq::upload(Context& ctx, const std::vector<int32_t>& ids) const {
  Tensor t = ctx.scratch.take({static_cast<int64_t>(ids.size())}, DType::i32);
  if (t.data != nullptr) ctx.ops.upload(t, ids.data());
  return t;
}

Tensor ResidualVq::live(Context& ctx, int book, const std::vector<int32_t>& ids) {
  Tensor y = ctx.scratch.take({static_cast<int64_t>(ids.size()), r_}, sums_->dtype);
  ctx.ops.vq_centroids(y, slab(sums_, book), slab(counts_, book), upload(ctx, ids));
  return y;
}

// The codebook as the wire rounds latents of this batch, evenly spaced: what the first message brings whole. Every book has rows of its
// own: what a row has left where it was a code of the book before is nothing.
void ResidualVq::begin(Context& ctx, int book, Tensor residual, Tensor codes) {
  ArenaScope scope(ctx.scratch);
  std::vector<int32_t> rows(static_cast<size_t>(o_.codes));
  for (int k = 0; k < o_.codes; ++k)
    rows[static_cast<size_t>(k)] =
        static_cast<int32_t>((k * residual.size(0) + book * residual.size(0) / books()) / o_.codes);
  ctx.ops.gather_rows(slab(sums_, book), residual, upload(ctx, rows));
  const Tensor out = codes.slice(0, int64_t{book} * o_.codes, o_.codes);
  ctx.ops.cast(out, slab(sums_, book));
  ctx.ops.cast(slab(codes_, book), out);
  // Of no weight: what this message does not use begins anew with it.
  ctx.ops.fill(slab(counts_, book), o_.threshold);
  ctx.ops.scale(slab(sums_, book), o_.threshold);
}

void ResidualVq::learn(Context& ctx, const Frame& frame, int book, Tensor residual, Tensor index) {
  ArenaScope scope(ctx.scratch);
  const DType s = sums_->dtype;
  Tensor count = ctx.scratch.take({o_.codes, o_.groups}, s),
         sum = ctx.scratch.take({o_.codes, r_}, s), donors = ctx.scratch.take({o_.codes, r_}, s);
  ctx.ops.vq_statistics(count, sum, residual, index);
  std::vector<int32_t> rows(static_cast<size_t>(o_.codes));
  const Philox rng{seed_ + 1};
  for (size_t k = 0; k < rows.size(); ++k)
    rows[k] = static_cast<int32_t>(rng.word(static_cast<uint64_t>(position(frame)), k) %
                                   static_cast<uint64_t>(residual.size(0)));
  ctx.ops.gather_rows(donors, residual, upload(ctx, rows));
  ctx.ops.vq_update(slab(counts_, book), slab(sums_, book), count, sum, donors, o_.decay,
                    o_.threshold);
}

// Both ends, after the message: its codes are those of the next one.
void ResidualVq::install(Context& ctx, const Frame& frame, Tensor codes) {
  ArenaScope scope(ctx.scratch);
  const Tensor ids = upload(ctx, synchronised(position(frame)));
  for (int b = 0; b < books(); ++b) {
    Tensor rounded = ctx.scratch.take({sync_codes_, r_}, codes_->dtype);
    ctx.ops.cast(rounded, codes.slice(0, b * sync_codes_, sync_codes_));
    ctx.ops.put_rows(slab(codes_, b), rounded, ids);
  }
}

void ResidualVq::encode(Context& ctx, const Frame& frame, Tensor q, Tensor z, Tensor codes,
                        Tensor packed) {
  ArenaScope scope(ctx.scratch);
  const bool first = is_first(frame);
  Tensor residual = ctx.scratch.take(z.shape, z.dtype);
  ctx.ops.cast(residual, z);
  ctx.ops.fill(q, 0.0);
  Tensor index = ctx.scratch.take({o_.rounds * z.size(0), o_.groups}, DType::u16);
  std::vector<int32_t> all(static_cast<size_t>(o_.codes));
  std::iota(all.begin(), all.end(), 0);
  for (int round = 0; round < o_.rounds; ++round) {
    const int book = o_.share_rounds ? 0 : round;
    if (first && (round == 0 || !o_.share_rounds)) begin(ctx, book, residual, codes);
    const Tensor here = index.slice(0, round * z.size(0), z.size(0));
    const Tensor codebook = o_.sync == "stale" ? live(ctx, book, all) : slab(codes_, book);
    ctx.ops.vq_encode(here, residual, codebook);
    if (frame.training) learn(ctx, frame, book, residual, here);
    ctx.ops.vq_decode(residual, here, codebook, -1.0);
    ctx.ops.vq_decode(q, here, codebook, 1.0);
  }
  ctx.ops.pack_bits(packed, index, bits_);
  if (first) return;
  const std::vector<int32_t> ids = synchronised(position(frame));
  for (int b = 0; b < books(); ++b)
    ctx.ops.cast(codes.slice(0, b * sync_codes_, sync_codes_), live(ctx, b, ids));
  if (frame.training) install(ctx, frame, codes);
}

void ResidualVq::decode(Context& ctx, const Frame& frame, Tensor q, Tensor codes, Tensor packed) {
  ArenaScope scope(ctx.scratch);
  const bool first = is_first(frame);
  if (first) ctx.ops.cast(codes_->value, codes);
  Tensor index = ctx.scratch.take({o_.rounds * q.size(0), o_.groups}, DType::u16);
  ctx.ops.unpack_bits(index, packed, bits_);
  ctx.ops.fill(q, 0.0);
  for (int round = 0; round < o_.rounds; ++round)
    ctx.ops.vq_decode(q, index.slice(0, round * q.size(0), q.size(0)), wire_codebook(round), 1.0);
  if (frame.training && !first) install(ctx, frame, codes);
}

uint64_t ResidualVq::hash(Backend& ops, uint64_t seed) const {
  return hash_tensor(ops, codes_->value,
                     hash_name(fmt::format("vq {} {} {} {} {} {} {} {} {} {}", o_.groups, o_.codes,
                                           o_.rounds, o_.share_rounds, sync_codes_, o_.sync,
                                           o_.fixed_order, seed_, microbatches_, first_step_),
                               seed));
}

std::pair<uint64_t, uint64_t> ResidualVq::expected_bytes(int64_t rows) const {
  return {static_cast<uint64_t>((rows * o_.groups * o_.rounds * bits_ + 7) / 8),
          static_cast<uint64_t>(sync_codes_ * r_ * books()) * size_of(wire_)};
}

Diagnosis ResidualVq::diagnose(Backend& ops) const {
  const std::vector<double> n = host_values(ops, slab(counts_, 0));
  if (n.empty()) return {};  // the meta backend
  double used = 0, perplexity = 0;
  for (int g = 0; g < o_.groups; ++g) {
    double total = 0, entropy = 0;
    const auto of = [&](int k) { return n[static_cast<size_t>(k * o_.groups + g)]; };
    for (int k = 0; k < o_.codes; ++k) total += of(k);
    for (int k = 0; k < o_.codes; ++k) {
      used += of(k) >= 10 * o_.threshold ? 1.0 : 0.0;
      entropy -= of(k) / total * std::log(of(k) / total);
    }
    perplexity += std::exp(entropy);
  }
  return {{"code_use", used / (static_cast<double>(o_.codes) * o_.groups)},
          {"code_perplexity", perplexity / (static_cast<double>(o_.codes) * o_.groups)}};
}

}  // namespace strait
