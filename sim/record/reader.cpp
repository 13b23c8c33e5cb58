// RecordReader: frames from a file that may grow, each checked from its checksum to its meaning.
#include "sim/record/reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sim/record/payload.h"
#include "sim/record/validate.h"

namespace strait::record {
namespace {

struct Slot {
  std::optional<StepLog> structure;
  std::vector<uint64_t> values;  // of the last step
};

}  // namespace

struct RecordReader::State {
  std::string path;
  int file = -1;
  uint64_t at = 0;    // offset of the next frame
  uint64_t size = 0;  // of the file when it was last looked at
  uint32_t frames = 0;
  std::string failure;
  RecordHeader header;
  FrameOrder order;
  std::array<Slot, kSlots> slots;
  std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> decompressor{ZSTD_createDCtx(), ZSTD_freeDCtx};

  ~State() {
    if (file >= 0) ::close(file);
  }

  [[noreturn]] void fail(const std::string& what) {
    failure = fmt::format("{}, byte {}: {}", path, at, what);
    throw RecordError(failure);
  }

  void read(uint64_t offset, std::span<uint8_t> out) {
    size_t done = 0;
    while (done < out.size()) {
      const ssize_t got =
          ::pread(file, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
      if (got > 0) {
        done += static_cast<size_t>(got);
      } else if (got == 0) {
        fail("the file has become shorter while it was read");
      } else if (errno != EINTR) {
        fail(std::strerror(errno));
      }
    }
  }

  void look_at_size() {
    struct stat info {};
    if (::fstat(file, &info) != 0) fail(std::strerror(errno));
    if (!S_ISREG(info.st_mode)) fail("this is not a file");
    size = static_cast<uint64_t>(info.st_size);
    if (size < at) fail("the file has become shorter while it was read");
  }

  // False while the file is shorter than its header; what is there must be the header's beginning.
  bool read_file_header() {
    std::array<uint8_t, kFileHeaderBytes> bytes{};
    const size_t there = std::min<uint64_t>(size, bytes.size());
    read(0, std::span(bytes).first(there));
    if (there < bytes.size()) {
      const auto expected = encode_file_header();
      if (!std::equal(bytes.begin(), bytes.begin() + there, expected.begin()))
        fail("this is not a Strait record of a version that this program reads");
      return false;
    }
    check_file_header(bytes);
    at = kFileHeaderBytes;
    return true;
  }

  Buffer read_payload(const FrameHeader& head) {
    Buffer stored(head.stored_length);
    read(at + kFrameHeaderBytes, stored);
    if (crc32(stored) != head.payload_crc)
      throw std::invalid_argument("the frame is damaged (wrong checksum)");
    if (head.encoding == Encoding::stored) return stored;
    Buffer raw(head.raw_length);
    const size_t length = ZSTD_decompressDCtx(decompressor.get(), raw.data(), raw.size(),
                                              stored.data(), stored.size());
    if (ZSTD_isError(length))
      throw std::invalid_argument(
          fmt::format("the frame cannot be decompressed: {}", ZSTD_getErrorName(length)));
    if (length != raw.size())
      throw std::invalid_argument(
          fmt::format("the frame decompresses to {} bytes, not {}", length, raw.size()));
    return raw;
  }

  void remember(Structure structure) {
    if (!order.has_header())
      throw std::invalid_argument("the record does not begin with its header");
    if (order.finished()) throw std::invalid_argument("a frame after the footer");
    validate_structure(structure.step, header);
    Slot& slot = slots[structure.slot];
    slot.values = values_of(structure.step);
    slot.structure = std::move(structure.step);
  }

  StepLog rebuild(const StepChanges& changes) {
    Slot& slot = slots[changes.slot];
    if (!slot.structure)
      throw std::invalid_argument(
          fmt::format("a step refers to slot {}, which holds no structure", changes.slot));
    apply_changes(slot.values, changes.changes);
    StepLog step = *slot.structure;
    step.step = changes.scalars.step;
    step.tokens = changes.scalars.tokens;
    step.loss = changes.scalars.loss;
    step.grad_norm = changes.scalars.grad_norm;
    step.learning_rate = changes.scalars.learning_rate;
    set_values(step, slot.values);
    validate_values(step);
    return step;
  }

  // nullopt for a structure, which the reader keeps to itself.
  std::optional<Frame> interpret(FrameType type, const Buffer& payload) {
    switch (type) {
      case FrameType::header: {
        RecordHeader read = decode_header(payload);
        validate_header(read);
        if (!order.has_header()) header = read;
        return read;
      }
      case FrameType::structure:
        remember(decode_structure(payload));
        return std::nullopt;
      case FrameType::step:
        return rebuild(decode_step(payload));
      case FrameType::evaluation:
        return decode_evaluation(payload);
      case FrameType::diagnostic:
        return decode_diagnostic(payload);
      case FrameType::footer:
        return decode_footer(payload);
    }
    throw std::invalid_argument("unknown frame type");
  }

  // Whether a whole frame is there; `head` is then its header.
  bool frame_there(FrameHeader& head) {
    if (size - at < kFrameHeaderBytes) return false;
    std::array<uint8_t, kFrameHeaderBytes> bytes{};
    read(at, bytes);
    head = decode_frame_header(bytes, frames);
    return size - at - kFrameHeaderBytes >= head.stored_length;
  }

  std::optional<Frame> next() {
    look_at_size();
    if (at == 0 && !read_file_header()) return std::nullopt;
    FrameHeader head;
    while (frame_there(head)) {
      std::optional<Frame> frame = interpret(head.type, read_payload(head));
      if (frame) order.accept(*frame);
      at += kFrameHeaderBytes + head.stored_length;
      ++frames;
      if (frame) return frame;
    }
    if (order.finished() && size > at)
      throw std::invalid_argument(fmt::format("{} bytes after the footer", size - at));
    return std::nullopt;
  }
};

RecordReader::RecordReader(const std::string& path) : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (state_->file < 0)
    throw RecordError(fmt::format("cannot open the record {}: {}", path, std::strerror(errno)));
}

RecordReader::~RecordReader() = default;

std::optional<Frame> RecordReader::next() {
  if (!state_->failure.empty()) throw RecordError(state_->failure);
  try {
    return state_->next();
  } catch (const std::invalid_argument& error) {
    state_->fail(error.what());
  }
}

bool RecordReader::finished() const { return state_->order.finished(); }

std::optional<uint64_t> RecordReader::torn_tail() const {
  if (finished() || state_->size == state_->at) return std::nullopt;
  return state_->at;
}

uint64_t RecordReader::offset() const { return state_->at; }

uint32_t RecordReader::frames() const { return state_->frames; }

}  // namespace strait::record
