// RecordWriter: frames, compression, and a file that stays whole when the disk is full.
#include "sim/record/writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>

#include "sim/record/payload.h"
#include "sim/record/reader.h"
#include "sim/record/validate.h"

namespace strait::record {
namespace {

constexpr int kCompressionLevel = 3;
constexpr size_t kWorthCompressing = 64;  // bytes; below, zstd's own header eats the gain

struct Slot {
  StepLog structure;  // with the values of the last step
  std::vector<uint64_t> values;
};

}  // namespace

struct RecordWriter::State {
  std::string path;
  Encoding encoding;
  int file = -1;
  uint64_t size = 0;  // of the whole frames written
  uint32_t frames = 0;
  std::string failure;  // text of the error after which nothing more is written
  RecordHeader header;
  FrameOrder order;
  std::vector<Slot> slots;
  size_t next_slot = 0;
  std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> compressor{ZSTD_createCCtx(), ZSTD_freeCCtx};

  ~State() {
    if (file >= 0) ::close(file);
  }

  // Appends all of `bytes`, or nothing: what a failed write left is cut off again.
  void append(const Buffer& bytes) {
    size_t done = 0;
    while (done < bytes.size()) {
      const ssize_t written = ::write(file, bytes.data() + done, bytes.size() - done);
      if (written >= 0) {
        done += static_cast<size_t>(written);
      } else if (errno != EINTR) {
        fail(errno);
      }
    }
    size += bytes.size();
  }

  [[noreturn]] void fail(int error) {
    failure = fmt::format("cannot write the record {} at byte {}: {}; it is whole up to there",
                          path, size, std::strerror(error));
    struct stat info {};
    if (::fstat(file, &info) == 0 && S_ISREG(info.st_mode) &&
        ::ftruncate(file, static_cast<off_t>(size)) != 0)
      failure += fmt::format(" but for a torn last frame ({})", std::strerror(errno));
    throw RecordError(failure);
  }

  void add_frame(Buffer& out, FrameType type, const Buffer& payload) {
    if (payload.size() > kMaxRawBytes)
      throw std::invalid_argument(
          fmt::format("a frame of {} bytes; at most {} are allowed", payload.size(), kMaxRawBytes));
    FrameHeader head{type, Encoding::stored, frames++, static_cast<uint32_t>(payload.size())};
    const Buffer* stored = &payload;
    Buffer packed;
    if (encoding == Encoding::zstd && payload.size() >= kWorthCompressing) {
      packed.resize(ZSTD_compressBound(payload.size()));
      const size_t length = ZSTD_compressCCtx(compressor.get(), packed.data(), packed.size(),
                                              payload.data(), payload.size(), kCompressionLevel);
      if (!ZSTD_isError(length) && length < payload.size()) {
        packed.resize(length);
        stored = &packed;
        head.encoding = Encoding::zstd;
      }
    }
    head.stored_length = static_cast<uint32_t>(stored->size());
    head.payload_crc = crc32(*stored);
    const auto head_bytes = encode_frame_header(head);
    out.insert(out.end(), head_bytes.begin(), head_bytes.end());
    out.insert(out.end(), stored->begin(), stored->end());
  }

  // The slot that holds the structure of `step`; a new structure takes the oldest slot and is
  // written before the step.
  size_t find_slot(const StepLog& step, Buffer& out) {
    for (size_t i = 0; i < slots.size(); ++i)
      if (same_structure(slots[i].structure, step)) return i;
    validate_structure(step, header);
    const size_t slot = next_slot;
    next_slot = (next_slot + 1) % kSlots;
    if (slot == slots.size()) slots.emplace_back();
    add_frame(out, FrameType::structure, encode_structure(step, slot));
    slots[slot].structure = step;
    slots[slot].values.assign(values_of(step).size(), 0);
    return slot;
  }

  void add(Buffer& out, const RecordHeader& frame) {
    validate_header(frame);
    header = frame;
    add_frame(out, FrameType::header, encode(frame));
  }
  void add(Buffer& out, const StepLog& step) {
    validate_values(step);
    const size_t slot = find_slot(step, out);
    add_frame(out, FrameType::step, encode_step(step, slot, slots[slot].values));
    slots[slot].values = values_of(step);
  }
  void add(Buffer& out, const Evaluation& frame) {
    add_frame(out, FrameType::evaluation, encode(frame));
  }
  void add(Buffer& out, const Diagnostic& frame) {
    if (frame.boundary < 0) throw std::invalid_argument("a diagnostic of a boundary below 0");
    add_frame(out, FrameType::diagnostic, encode(frame));
  }
  void add(Buffer& out, const RecordFooter& frame) {
    add_frame(out, FrameType::footer, encode(frame));
  }
};

RecordWriter::RecordWriter(const std::string& path, Encoding encoding)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->encoding = encoding;
  state_->file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (state_->file < 0)
    throw RecordError(fmt::format("cannot create the record {}: {}", path, std::strerror(errno)));
  const auto bytes = encode_file_header();
  state_->append(Buffer(bytes.begin(), bytes.end()));
}

// The encoder's memory of structures and values comes back by encoding the kept frames once more. Where that gives another length,
// the file was written differently (another zstd, a refused step), and forgetting everything is right: it only costs space.
RecordWriter::RecordWriter(const std::string& path, ResumeAt at, Encoding encoding)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.path = path;
  state.encoding = encoding;
  RecordReader reader(path);
  uint64_t encoded = kFileHeaderBytes;
  while (reader.offset() < at.bytes) {
    const std::optional<Frame> frame = reader.next();
    if (!frame) break;
    if (reader.finished())
      throw RecordError(
          fmt::format("{}: the record is finished, there is nothing to go on with", path));
    state.order.accept(*frame);
    Buffer again;
    std::visit([&](const auto& content) { state.add(again, content); }, *frame);
    encoded += again.size();
  }
  if (reader.offset() != at.bytes)
    throw RecordError(
        fmt::format("{}: no frame ends at byte {}, where the record is to go on; it ends at {}",
                    path, at.bytes, reader.offset()));
  if (encoded != at.bytes) {
    state.slots.clear();
    state.next_slot = 0;
  }
  state.frames = reader.frames();
  state.size = at.bytes;
  state.file = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (state.file < 0 || ::ftruncate(state.file, static_cast<off_t>(at.bytes)) != 0)
    throw RecordError(
        fmt::format("cannot go on with the record {}: {}", path, std::strerror(errno)));
}

RecordWriter::~RecordWriter() = default;

uint64_t RecordWriter::bytes() const { return state_->size; }

void RecordWriter::sync() {
  if (::fdatasync(state_->file) != 0) state_->fail(errno);
}

void RecordWriter::write(const Frame& frame) {
  State& state = *state_;
  if (!state.failure.empty()) throw RecordError(state.failure);
  FrameOrder order = state.order;
  order.accept(frame);
  Buffer out;
  const uint32_t frames = state.frames;
  try {
    std::visit([&](const auto& content) { state.add(out, content); }, frame);
  } catch (...) {
    // The refused frame may have taken a slot; forgetting all of them is simple, and costs only
    // space in the file.
    state.frames = frames;
    state.slots.clear();
    state.next_slot = 0;
    throw;
  }
  state.append(out);
  state.order = order;
}

}  // namespace strait::record
