// A compression method for pipeline boundaries: a codec for each boundary and, where it constrains the model, its own
// embedding and output projections. One method, one file; the registry in method.cpp has one line for each
// (subspace.cpp is the example to start from).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/codec/direction_options.h"
#include "engine/codec/mapl_options.h"
#include "engine/message.h"
#include "engine/nn/module.h"
#include "engine/nn/parameter_state.h"

namespace strait {

// What the scenario says of a method: "compression.pipeline", resolved.
struct MethodOptions : DirectionOptions {
  std::optional<DirectionOptions>
      backward;  // baselines: of the gradients; unset: as the activations
  BatchShape batch;
  std::string embedding_init =
      "projected";  // subspace: "projected" (E0 = T_fixed U), "normal" (N(0,1)), "small" (N(0, 0.02^2))
  std::string z_init = "small";  // subspace: "zero", "small" (N(0, 0.02^2 / (2 (layer+1))))
  // subspace: what is stored and how it is kept in the subspace (specs/subspace_models.md 0.3, 4): "reparametrised" (C),
  // "projected_gradient" (A), "projected_weights" (B).
  std::string variant = "reparametrised";
  // subspace: how the basis moves (section 5).
  int64_t update_every = 0;           // steps; 0: never
  double update_step = 0.1;           // of the scale-free step, (0, 1]
  double max_angle = 0.05;            // radians, (0, pi/2)
  std::string transport = "project";  // of what is held to the basis: "project", "keep"
  // resbm (specs/resbm.md, section 7); its c is `rank`.
  std::string form = "mlp";                  // "mlp", "linear", "iota_v1"
  std::optional<int> hidden;                 // m of the mlp; default max(4 c, 64)
  Activation activation = Activation::silu;  // of the mlp
  std::string skip = "both";                 // "both", "encoder", "decoder", "none"
  std::string encoder_norm = "none";  // "none", "rms": of what the encoder's learned part reads
  std::string bottleneck_init = "normal002";  // "normal002", "trunc001", "zero_out", "orth"
  bool bottleneck_decay = true;               // weight decay applies to encoders and decoders
  MaplOptions mapl;
};

struct CodecTraits {
  bool exact_adjoint = false;     // encode_grad/decode_grad are the exact adjoints of decode/encode
  bool needs_ids = false;         // token ids travel with the forward message
  bool local_ids = false;         // every stage reads them from the data
  bool constrains_model = false;  // gradients are exact only because the model is constrained
};

// What a method holds the parameters to: the same numbers under another constraint are another model. Default: to nothing, they
// are those of a plain LLaMA.
struct ModelConstraint {
  std::string method = "none";
  int rank = 0;
  uint64_t basis_seed = 0;
  DType dtype = DType::f32;  // to which frozen tables are rounded
  std::string variant;       // how the parameters are stored, where the method has several ways
  bool operator==(const ModelConstraint&) const = default;
};

using Diagnosis = std::vector<std::pair<std::string, double>>;

// The other end of a boundary, for control traffic: real messages of kind sync, in the record and in bytes_sync.
class ControlLink {
 public:
  virtual ~ControlLink() = default;
  // Messages of one `purpose` arrive in order. send() returns at once.
  virtual void send(int32_t purpose, Message message) = 0;
  virtual Message receive(int32_t purpose) = 0;
  // Does `work` and books it as the codec's. No send or receive inside.
  virtual void compute(const std::function<void()>& work) = 0;
  // value, any float type, becomes its sum over the copies of this rank (Grid::copies_of), the same bits on all of them; with one copy
  // nothing happens. Called on all copies alike, not inside compute().
  virtual void sum_over_copies(Tensor value) = 0;
  // The same of a gradient, any float type of the backend's ops: where each copy steps by its own mean loss, the sum is that of all of them, their mean.
  virtual void sum_gradient(Tensor value) = 0;
  // value, any float type, is what make() writes into it on the first copy, the same bits on all of them: for what is dear to make and
  // would be the same everywhere. Called on all copies alike, not inside compute().
  virtual void from_first_copy(Tensor value, const std::function<void()>& make) = 0;
};

// The end of an optimizer step, as a codec sees it.
struct StepEnd {
  int64_t step = 0;          // 1-based
  double learning_rate = 0;  // of hidden matrices
};

// Both ends of one boundary. What it codes is x (N, C), the residual stream, or, with Method::boundary_parts() 2, two such tensors one behind
// the other, (2N, C). A rank makes one for each boundary that it touches; the two ends must agree bit for bit on
// whatever they share, which handshake() proves.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual CodecTraits traits() const = 0;
  // Sender, forward: x (N, C) T of the frame's microbatch.
  virtual Message encode(Context& ctx, Frame& frame, Tensor x) = 0;
  // Receiver, forward: x (N, C) T; sets frame.ids where ids travel.
  virtual void decode(Context& ctx, Frame& frame, Tensor x, const Message& message) = 0;
  // Receiver, backward: dx (N, C) T = gradient of what decode() gave.
  virtual Message encode_grad(Context& ctx, Frame& frame, Tensor dx) = 0;
  // Sender, backward: dx (N, C) T = gradient of what encode() was given.
  virtual void decode_grad(Context& ctx, Frame& frame, Tensor dx, const Message& message) = 0;
  // Once a step, on both ends, when the gradients of all microbatches are there and before the parameters move: sends what the other
  // end needs of them. Does not receive.
  virtual void begin_synchronise(Context&, ControlLink&) {}
  // Once a step, after the parameters have moved: first at the boundary behind a rank, then at the one before it, so that something
  // may travel from the last stage to the first. Whatever the two ends share is equal afterwards.
  virtual void end_synchronise(Context&, ControlLink&, const StepEnd&) {}
  // Hash of everything that both ends must share (method, rank, dtypes, constants, version). Equal on both ends or refused.
  virtual uint64_t handshake(Backend& ops) const = 0;
  // What a researcher wants to see of this boundary, by name, from what is about to be encoded: x (N, C) on the sender, its
  // gradient on the receiver. Not part of the step: nothing of it is recorded.
  virtual Diagnosis diagnose(Context& ctx, Frame& frame, Tensor x) = 0;
  virtual Diagnosis diagnose_grad(Context& ctx, Frame& frame, Tensor dx) = 0;
  // Forward and backward bytes of a message for N rows, from the specification: what the tests compare with.
  virtual std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const = 0;
  // The same of a step's control traffic in both directions, what rides along on messages included; of a step that has any.
  virtual uint64_t expected_sync_bytes(int64_t /*rows*/, int64_t /*microbatches*/) const {
    return 0;
  }
};

// What a method needs to make the parts of one rank.
struct MethodContext {
  const ModelShape& shape;
  uint64_t seed;
  ParameterList& parameters;
  MessagePool& pool;
  int boundaries = 1;  // of the pipeline
};

// Forward messages go from the sender to the receiver of a boundary, gradients back.
enum class BoundaryEnd { sender, receiver };

class Method {
 public:
  virtual ~Method() = default;
  // Declares the codec's parameters: those of its end of the boundary.
  virtual std::unique_ptr<Codec> make_codec(const MethodContext& c, int boundary,
                                            BoundaryEnd end) const = 0;
  // Defaults: those of a plain LLaMA.
  virtual std::unique_ptr<Embedding> make_embedding(const MethodContext& c) const;
  // `name` is the global name without ".weight"; `crosses`: what it writes into the residual stream will cross a boundary
  // (every layer but those of the last stage).
  virtual std::unique_ptr<Projection> make_projection(const MethodContext& c,
                                                      const std::string& name, int layer, int in,
                                                      bool crosses) const;
  // Tensors of (N, C) that meet a codec: 1, the residual stream; 2 where the layers beside a boundary are part of the method: behind the
  // sender's last layer [x1; what the FFN adds to it], before the receiver's first [residual stream; what attention reads] (BlockParts).
  virtual int boundary_parts() const { return 1; }
  // The rank that was picked, if the method has one.
  virtual std::optional<int> rank() const { return std::nullopt; }
  virtual ModelConstraint constraint() const { return {}; }
  // The step of a training from which on messages have the sizes that they keep.
  virtual int64_t steady_step() const { return 1; }
  // Whether a plain LLaMA has nothing of this parameter or state: where training goes on from one, it begins afresh. So it does where
  // boundaries() differs: what the added parameters mean, in words.
  virtual bool adds(const std::string& /*name*/) const { return false; }
  virtual std::string boundaries() const { return ""; }
  // The parameter `name` of a plain LLaMA from this method's, and this method's from those of a plain LLaMA. nullopt where it is
  // the same in both, or the source has not what it is made of. Throws std::invalid_argument where that has another shape.
  virtual std::optional<ParameterState> to_plain(const std::string& /*name*/,
                                                 const ParameterSource& /*own*/) const {
    return std::nullopt;
  }
  virtual std::optional<ParameterState> from_plain(const std::string& /*name*/,
                                                   const ParameterSource& /*plain*/) const {
    return std::nullopt;
  }
};

// Throws std::invalid_argument for an unknown name or options that do not fit the shape.
std::unique_ptr<Method> make_method(const MethodOptions& options, const ModelShape& shape,
                                    DType compute);
std::vector<std::string> method_names();
// The method that holds parameters to `constraint`. Throws as above.
std::unique_ptr<Method> make_method(const ModelConstraint& constraint, const ModelShape& shape);
// Parameters of a model held to `from` as those of `to`, by way of a plain LLaMA: `stored` has them as `from` has. What both
// constrain alike is passed on as it is. `from` outlives the result, and so does `to`.
ParameterSource converted(ParameterSource stored, const Method& from, const Method& to);

// The initial standard deviation of an output projection of a plain LLaMA: 0.02 / sqrt(2 L) (Radford et al. 2019).
double output_projection_stddev(const ModelShape& shape);

// The power of two next to the number of tokens of a step, 1 / loss_scale, which both ends know. Gradients of a mean over many tokens are tiny
// beside 6e-8, the smallest number of fp16: they are multiplied by it before they are rounded to fp16, and divided by it after.
double fp16_gradient_factor(const Frame& frame);

// Throws std::runtime_error where `message` was encoded with another version of the codec's state than `version`.
void check_version(const Message& message, uint64_t version, const char* method);

// sum x^2, on the host.
double sum_of_squares(Context& ctx, const Tensor& x);

// A contiguous f32 or f64 tensor on the host; empty on the meta backend. host_upload() rounds to the tensor's type. For set-up,
// diagnostics and what happens every few hundred steps: both wait for the device.
std::vector<double> host_values(Backend& ops, const Tensor& t);
void host_upload(Backend& ops, const Tensor& t, const std::vector<double>& values);

// A 64-bit hash of a device tensor's bytes (0 on the meta backend).
uint64_t hash_tensor(Backend& ops, const Tensor& t, uint64_t seed);

}  // namespace strait
