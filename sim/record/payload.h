// The payloads of a record's frames: how each becomes bytes and is read back
// (docs/record_format.md, "Payloads"). Unsigned integers are LEB128 varints, signed ones zigzag
// varints, doubles 8 bytes little-endian, strings a length and bytes. A step is two payloads: its
// structure, and the values that changed since the last step of that structure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sim/record/log.h"

namespace strait::record {

using Buffer = std::vector<uint8_t>;

Buffer encode(const RecordHeader& header);
Buffer encode(const Evaluation& evaluation);
Buffer encode(const Diagnostic& diagnostic);
Buffer encode(const RecordFooter& footer);

// All of a step but its values, for slot `slot`. Equal op lists are written once.
Buffer encode_structure(const StepLog& step, uint64_t slot);

// The scalars of `step` and those of its values that differ from `previous`, which has the same
// number of values.
Buffer encode_step(const StepLog& step, uint64_t slot, const std::vector<uint64_t>& previous);

// The values of a step in their order: of each rank, of each entry, `measured` of a compute, and
// `payload`, `sync`, `dense` of a send. set_values is the inverse.
std::vector<uint64_t> values_of(const StepLog& step);
void set_values(StepLog& step, const std::vector<uint64_t>& values);

// Whether two steps differ in nothing but scalars and values.
bool same_structure(const StepLog& a, const StepLog& b);

// The decoders throw std::invalid_argument that says what is wrong and at which byte of the
// payload; they allocate no more than the limits of format.h allow. They check form; meaning is
// checked by validate.h.
RecordHeader decode_header(std::span<const uint8_t> payload);
Evaluation decode_evaluation(std::span<const uint8_t> payload);
Diagnostic decode_diagnostic(std::span<const uint8_t> payload);
RecordFooter decode_footer(std::span<const uint8_t> payload);

struct Structure {
  uint64_t slot = 0;
  StepLog step;  // values are 0
};
Structure decode_structure(std::span<const uint8_t> payload);

// Scalars of a step, and its changes: pairs of the values to skip and the difference to add to the
// value after them.
struct StepChanges {
  uint64_t slot = 0;
  StepLog scalars;  // without ranks
  struct Change {
    uint64_t skip = 0;
    int64_t difference = 0;
  };
  std::vector<Change> changes;
};
StepChanges decode_step(std::span<const uint8_t> payload);

// Throws std::invalid_argument for changes beyond the last value.
void apply_changes(std::vector<uint64_t>& values, const std::vector<StepChanges::Change>& changes);

}  // namespace strait::record
