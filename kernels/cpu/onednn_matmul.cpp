// The cache of oneDNN matmul primitives (kernels/cpu/onednn_matmul.h).
//
// Bits: oneDNN 2.6's "brg" kernels (AVX-512; bf16 needs AVX512_BF16), given dense operands, a plain
// `a` and one thread, compute a row of y from that row of a and from b alone, however many rows are
// multiplied at once. That is undocumented; tests/kernels/matmul_test.cpp pins it. Its "gemm"
// kernels do not, nor do transposed or strided operands or several threads, so this class offers
// none of them.
#include "kernels/cpu/onednn_matmul.h"

#include <omp.h>

#include <algorithm>
#include <string_view>
#include <utility>

namespace strait::cpu {
namespace {

// oneDNN takes its thread count from the calling thread's OpenMP setting.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

dnnl::memory::data_type data_type(DType t) {
  return t == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

dnnl::matmul::primitive_desc describe(const OneDnnMatmul::Shape& s, const dnnl::engine& engine) {
  using Desc = dnnl::memory::desc;
  using Dims = dnnl::memory::dims;
  const Desc a({s.M, s.K}, data_type(s.dtype), Dims{s.K, 1});
  const Desc b({s.K, s.N}, data_type(s.dtype), s.transpose_b ? Dims{1, s.K} : Dims{s.N, 1});
  const Desc y({s.M, s.N}, data_type(s.y_dtype), Dims{s.N, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (s.accumulate) {
    dnnl::post_ops post;
    post.append_sum(1.0f);
    attributes.set_post_ops(post);
  }
  return {dnnl::matmul::desc(a, b, y), attributes, engine};
}

}  // namespace

OneDnnMatmul::OneDnnMatmul(int threads)
    : threads_(threads), engine_(dnnl::engine::kind::cpu, 0), scratch_(threads) {}

size_t OneDnnMatmul::KeyHash::operator()(const Key& key) const {
  uint64_t h = 0xcbf29ce484222325ull;
  for (int64_t part : key)
    h = (h ^ static_cast<uint64_t>(part)) * 0x9e3779b97f4a7c15ull + (h >> 29);
  return h;
}

OneDnnMatmul::Key OneDnnMatmul::key_of(const Shape& s) {
  const int64_t flags = (s.dtype == DType::bf16 ? 1 : 0) | (s.y_dtype == DType::bf16 ? 2 : 0) |
                        (s.transpose_b ? 4 : 0) | (s.accumulate ? 8 : 0);
  return {s.M, s.N, s.K, flags};
}

OneDnnMatmul::Entry OneDnnMatmul::make(const Shape& shape) {
  Entry entry;
  dnnl::matmul::primitive_desc description;
  try {
    description = describe(shape, engine_);
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return entry;
  }
  if (!std::string_view(description.impl_info_str()).starts_with("brg")) return entry;
  entry.primitive = dnnl::matmul(description);
  scratch_.reserve(std::max(description.scratchpad_desc().get_size(), size_t{64}));
  for (int thread = 0; thread < threads_; ++thread) {
    Slot slot{dnnl::stream(engine_),
              dnnl::memory(description.src_desc(), engine_, nullptr),
              dnnl::memory(description.weights_desc(), engine_, nullptr),
              dnnl::memory(description.dst_desc(), engine_, nullptr),
              dnnl::memory(description.scratchpad_desc(), engine_, nullptr),
              {}};
    slot.arguments = {{DNNL_ARG_SRC, slot.a},
                      {DNNL_ARG_WEIGHTS, slot.b},
                      {DNNL_ARG_DST, slot.y},
                      {DNNL_ARG_SCRATCHPAD, slot.scratch}};
    entry.slots.push_back(std::move(slot));
  }
  return entry;
}

bool OneDnnMatmul::prepare(const Shape& shape) {
  const Key key = key_of(shape);
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    const OneThread one_thread;
    found = entries_.emplace(key, make(shape)).first;
  }
  return !found->second.slots.empty();
}

void OneDnnMatmul::run(const Shape& shape, void* y, void* a, void* b, int thread) {
  Entry& entry = entries_.at(key_of(shape));
  Slot& slot = entry.slots[static_cast<size_t>(thread)];
  slot.a.set_data_handle(a);
  slot.b.set_data_handle(b);
  slot.y.set_data_handle(y);
  slot.scratch.set_data_handle(scratch_.of_thread<std::byte>(thread));
  const OneThread one_thread;
  entry.primitive.execute(slot.stream, slot.arguments);
  slot.stream.wait();
}

}  // namespace strait::cpu
