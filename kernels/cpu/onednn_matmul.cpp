// The cache of oneDNN matmul primitives (kernels/cpu/onednn_matmul.h).
//
// Bits: with a plain (not transposed) `a` and one thread, oneDNN 2.6 gives a row of y that depends on nothing but that row of
// a and on b, however many rows are multiplied at once. That is undocumented; tests/kernels/matmul_rows_test.cpp pins it.
// It does not hold for a transposed `a` (other kernels for few rows) nor for several threads (sums over K are split), so
// this class offers neither.
#include "kernels/cpu/onednn_matmul.h"

#include <omp.h>

#include <algorithm>

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

// The stride of a matrix with one row is never used; a canonical value keeps equal products in one cache entry.
int64_t row_stride(const Tensor& t) { return t.size(0) == 1 ? t.size(1) : t.stride(0); }

}  // namespace

OneDnnMatmul::OneDnnMatmul(int threads)
    : threads_(threads), engine_(dnnl::engine::kind::cpu, 0), scratch_(static_cast<size_t>(threads)) {
  const Tensor probe(nullptr, DType::bf16, {16, 16});
  try {
    describe({probe, probe, probe, false, false});
    has_bf16_ = true;
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
  }
}

size_t OneDnnMatmul::KeyHash::operator()(const Key& key) const {
  uint64_t h = 0xcbf29ce484222325ull;
  for (int64_t part : key) h = (h ^ static_cast<uint64_t>(part)) * 0x9e3779b97f4a7c15ull + (h >> 29);
  return h;
}

OneDnnMatmul::Key OneDnnMatmul::key_of(const Product& p) {
  const int64_t flags = (p.a.dtype == DType::bf16 ? 1 : 0) | (p.y.dtype == DType::bf16 ? 2 : 0) | (p.transpose_b ? 4 : 0) |
                        (p.accumulate ? 8 : 0);
  return {p.y.size(0), p.y.size(1), p.a.size(1), row_stride(p.y), row_stride(p.a), row_stride(p.b), flags};
}

dnnl::matmul::primitive_desc OneDnnMatmul::describe(const Product& p) const {
  using Desc = dnnl::memory::desc;
  using Dims = dnnl::memory::dims;
  const OneThread one_thread;
  const int64_t M = p.y.size(0), N = p.y.size(1), K = p.a.size(1);
  const Desc a({M, K}, data_type(p.a.dtype), Dims{row_stride(p.a), 1});
  const Desc b({K, N}, data_type(p.b.dtype), p.transpose_b ? Dims{1, row_stride(p.b)} : Dims{row_stride(p.b), 1});
  const Desc y({M, N}, data_type(p.y.dtype), Dims{row_stride(p.y), 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (p.accumulate) {
    dnnl::post_ops post;
    post.append_sum(1.0f);
    attributes.set_post_ops(post);
  }
  return {dnnl::matmul::desc(a, b, y), attributes, engine_};
}

void OneDnnMatmul::prepare(const Product& p) {
  const Key key = key_of(p);
  if (entries_.contains(key)) return;
  const OneThread one_thread;
  const auto description = describe(p);
  Entry entry{dnnl::matmul(description), {}};
  for (auto& bytes : scratch_) {
    const size_t need = std::max<size_t>(description.scratchpad_desc().get_size(), 64);
    if (bytes.size() < need) bytes.resize(need);
    Slot slot{dnnl::stream(engine_),
              dnnl::memory(description.src_desc(), engine_, nullptr),
              dnnl::memory(description.weights_desc(), engine_, nullptr),
              dnnl::memory(description.dst_desc(), engine_, nullptr),
              dnnl::memory(description.scratchpad_desc(), engine_, nullptr),
              {}};
    slot.arguments = {{DNNL_ARG_SRC, slot.a}, {DNNL_ARG_WEIGHTS, slot.b}, {DNNL_ARG_DST, slot.y}, {DNNL_ARG_SCRATCHPAD, slot.scratch}};
    entry.slots.push_back(std::move(slot));
  }
  entries_.emplace(key, std::move(entry));
}

void OneDnnMatmul::run(const Product& p, int thread) {
  Entry& entry = entries_.at(key_of(p));
  Slot& slot = entry.slots[static_cast<size_t>(thread)];
  slot.a.set_data_handle(p.a.data);
  slot.b.set_data_handle(p.b.data);
  slot.y.set_data_handle(p.y.data);
  slot.scratch.set_data_handle(scratch_[static_cast<size_t>(thread)].data());
  const OneThread one_thread;
  entry.primitive.execute(slot.stream, slot.arguments);
  slot.stream.wait();
}

}  // namespace strait::cpu
