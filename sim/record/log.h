// The contract between engine and simulator: what every rank did in one step. Plain data without dependencies; the engine
// appends to it while it trains, the record stores it (record/format.h), the executor replays it (executor/executor.h).
// The engine writes down what every rank did; the simulator says when (design, section 1).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "sim/record/units.h"

namespace strait::record {

// Where the time of a compute entry is booked: columns compute_s and codec_s.
enum class Category : uint8_t { compute, codec };

// What a compute entry did; names the slice in the timeline.
enum class Phase : uint8_t {
  forward,
  backward,
  backward_weight,
  encode,
  decode,
  encode_grad,
  decode_grad,
  update,
  reduce,
  other,
  synchronise
};

// Which columns a message is booked in: bytes_forward, bytes_backward, bytes_sync.
enum class MessageKind : uint8_t { forward, backward, sync };

// How a device works an op off: `matrix` on matrix units at the peak of its dtype, `vector` on the ordinary units.
enum class OpClass : uint8_t { matrix, vector };

// One op of a compute entry. `name` indexes RecordHeader::op_names. `bf16`: the operands are bf16 (else fp32).
struct OpWork {
  uint16_t name = 0;
  OpClass op_class = OpClass::vector;
  bool bf16 = false;
  uint64_t flops = 0;
  uint64_t bytes = 0;  // read + written in device memory
  bool operator==(const OpWork&) const = default;
};

struct Compute {
  Category category = Category::compute;
  Phase phase = Phase::forward;
  int32_t microbatch = -1;  // -1: none (update, reduce)
  std::vector<OpWork> ops;
  Nanoseconds
      measured;  // host time of this entry on the engine's device (thread CPU time, CUDA events); 0 on the meta backend
  bool operator==(const Compute&) const = default;
};

// The message enters the network when its queue reaches this entry; the queue goes on at once (buffered send).
struct Send {
  uint64_t id =
      0;  // unique in the step: (sender << 32) | running number of the sender's messages in this step
  int32_t to = 0;
  MessageKind kind = MessageKind::forward;
  int32_t microbatch = -1;
  Bytes payload;  // bytes of the encoded message, header of ours included, without `sync`
  Bytes sync;     // bytes of synchronisation sections that ride along
  // What method `none` would have sent at the run's precision: numerator of the wire ratio. Of kind sync: 0 where the message
  // is the method's own, `payload` where every method sends it (the sum of the clip norm).
  Bytes dense;
  bool operator==(const Send&) const = default;
};

// The queue stands still until message `id` of rank `from`, sent in the same step, is delivered.
struct Receive {
  uint64_t id = 0;
  int32_t from = 0;
  bool operator==(const Receive&) const = default;
};

// Order among the queues of one rank: wait(e) stands still until signal(e) was reached. Each event is signalled once a step.
struct Signal {
  uint32_t event = 0;
  bool operator==(const Signal&) const = default;
};
struct Wait {
  uint32_t event = 0;
  bool operator==(const Wait&) const = default;
};

using Action = std::variant<Compute, Send, Receive, Signal, Wait>;

struct Entry {
  uint8_t queue = 0;  // 0: compute; 1: communication; more are allowed
  Action action;
  bool operator==(const Entry&) const = default;
};

// What one rank did in one step, in program order of each queue.
struct RankLog {
  std::vector<Entry> entries;
  bool operator==(const RankLog&) const = default;
};

struct StepLog {
  int64_t step = 0;      // 1-based: the step that these entries perform
  uint64_t tokens = 0;   // trained on in this step, over all replicas
  double loss = 0;       // mean over the step's tokens; NaN on the meta backend
  double grad_norm = 0;  // before clipping; NaN on the meta backend
  double learning_rate = 0;
  std::vector<RankLog> ranks;
};

// An evaluation after `step` steps (0: before the first). Costs no virtual time.
struct Evaluation {
  int64_t step = 0;
  uint64_t tokens = 0;  // trained on so far
  double validation_loss = 0;
};

// One row of diagnostics.csv.
struct Diagnostic {
  int64_t step = 0;
  int32_t boundary = 0;
  std::string name;
  double value = 0;
};

struct RankInfo {
  int32_t stage = 0, shard = 0, replica = 0;
  std::string layers;  // e.g. "embedding, 0-1" for people
  uint64_t parameters = 0;
  Bytes persistent, frames, scratch;  // peak memory on the engine's device
};

struct RecordHeader {
  std::string producer;            // e.g. "strait 0.1.0 (abcdef123456)"
  std::string backend, precision;  // "cpu", "bf16"
  std::string record_hash;         // of everything that determines the record
  uint64_t seed = 0;
  int32_t
      pipeline = 1,
      context = 1,
      data = 1;  // the grid; ranks = product, rank = (replica * context + shard) * pipeline + stage
  bool meta = false;  // no numerics: losses are NaN
  std::vector<std::string> op_names;
  std::vector<RankInfo> ranks;
};

// Written when training has ended as planned.
struct RecordFooter {
  int64_t steps = 0;
  double host_seconds = 0;
  std::string parameters_hash, data_hash;
};

using Frame = std::variant<RecordHeader, StepLog, Evaluation, Diagnostic, RecordFooter>;

}  // namespace strait::record
