// The parameters and buffers of one rank: declared by name, then laid out in flat buffers with the same offsets (compute
// copy, gradient, master, first and second moment), so that AdamW, clipping, zeroing and hashing are few ops a buffer.
// Initial values depend on (seed, global name) only, never on the rank (design, section 6).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/arena.h"
#include "kernels/backend.h"

namespace strait {

// Fills a host buffer of `shape.elements()` doubles. Runs once, at set-up; must be a pure function of the seed and names.
using Initialiser = std::function<void(std::vector<double>& values)>;
Initialiser zeros();
Initialiser ones();
// stddev * N(0,1) from stream hash_name(name) of Philox{seed}.
Initialiser normal(uint64_t seed, std::string name, double stddev);

// What a parameter is for the optimizer: which of its rules and rates apply (optimizer groups of the scenario).
enum class ParameterGroup : uint8_t {
  matrix,      // 2-D, hidden: attention and FFN
  embedding,   // the token table, or its trainable part
  head,        // the LM head
  vector,      // 1-D: norm gains
  bottleneck,  // encoders and decoders at the boundaries
  anchor       // token tables at the boundaries
};
inline constexpr size_t kParameterGroups = 6;
inline constexpr std::array<ParameterGroup, kParameterGroups> kAllParameterGroups = {
    ParameterGroup::matrix, ParameterGroup::embedding,  ParameterGroup::head,
    ParameterGroup::vector, ParameterGroup::bottleneck, ParameterGroup::anchor};
const char* name_of(ParameterGroup group);

// One trainable tensor. `value` (T) is what the modules read, `grad` (S) what they accumulate into; bound by allocate().
struct Parameter {
  std::string name;  // global, e.g. "model.layers.3.mlp.down_proj.weight"
  Shape shape;
  ParameterGroup group = ParameterGroup::matrix;
  bool decay = true;  // weight decay applies
  Initialiser init;
  // For optimizers that see matrices: the rows of each, where several are stacked in one tensor (empty: it is one), and whether it is
  // stored (in, out) instead of (out, in).
  std::vector<int64_t> stacked;
  bool input_first = false;
  // One second moment a row of a matrix, v (rows), instead of one an element (Backend::adamw_rows). Set before allocate().
  bool row_moments = false;
  // Set by the optimizer before allocate(): parameters of one range lie together, in ascending order; whether there is a `v` with a
  // moment an element. Those without one must have the last ranges.
  int range = 0;
  bool second_moment = true;
  Tensor value, grad, master, m, v;  // v undefined without any second moment
};

// One tensor that is not trained. A constant (a frozen basis, a token table) is what its initialiser makes; a state (a projector, a
// codebook) changes from step to step by its owner's rule and belongs to every checkpoint; a sum lives within a step and is zero
// between two.
struct Buffer {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
  Initialiser init;
  bool saved = false;
  bool moment = false;  // of an update rule: begins afresh where the optimizer does
  // A state that depends on what this copy of the rank has seen (Grid::copies_of); all others are equal on all copies.
  bool local = false;
  Tensor value;
};

class ParameterList {
 public:
  // `dtype` T is the compute type: f32, bf16, or f64 on the reference backend.
  explicit ParameterList(DType dtype) : dtype_(dtype) {}

  // Weight decay applies to everything but vectors, where `decay` does not say otherwise.
  Parameter* declare(std::string name, Shape shape, ParameterGroup group, Initialiser init);
  Parameter* declare(std::string name, Shape shape, ParameterGroup group, bool decay,
                     Initialiser init);
  // Declaring a name twice gives the same buffer; the second time also after allocate().
  Buffer* declare_constant(std::string name, Shape shape, DType dtype, Initialiser init);
  Buffer* declare_state(std::string name, Shape shape, DType dtype, Initialiser init);
  Buffer* declare_sum(std::string name, Shape shape, DType dtype);

  // Binds every tensor into memory of `ops` and, unless it is the meta backend, fills in the initial values.
  void allocate(Backend& ops);
  // What allocate() took, in one piece.
  size_t bytes() const { return bytes_; }

  DType dtype() const { return dtype_; }
  std::deque<Parameter>& parameters() { return parameters_; }
  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::deque<Buffer>& buffers() { return buffers_; }
  const std::deque<Buffer>& buffers() const { return buffers_; }
  int64_t trainable() const;  // elements, without padding

  // Elements [begin, end) of the flat buffers: the parameters whose range is `id`.
  struct Range {
    int id = 0;
    int64_t begin = 0, end = 0;
  };
  const std::vector<Range>& ranges() const { return ranges_; }

  // The flat buffers; flat_v() ends where the parameters without a second moment an element begin. Padding between tensors is zero and
  // stays it.
  Tensor flat_value() const { return value_; }
  Tensor flat_grad() const { return grad_; }
  Tensor flat_master() const { return master_; }
  Tensor flat_m() const { return m_; }
  Tensor flat_v() const { return v_; }

  Parameter& find(const std::string& name);  // throws std::out_of_range

 private:
  Buffer* declare_buffer(std::string name, Shape shape, DType dtype, Initialiser init, bool saved);
  void lay_out();
  void bind(Arena& region);

  DType dtype_;
  std::deque<Parameter> parameters_;
  std::deque<Buffer> buffers_;
  std::vector<int64_t> offsets_;
  std::vector<Range> ranges_;
  int64_t elements_ = 0, second_moments_ = 0;
  Tensor value_, grad_, master_, m_, v_;
  std::unique_ptr<DeviceMemory> memory_;
  size_t bytes_ = 0;
};

}  // namespace strait
