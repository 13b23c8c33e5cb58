// A message that carries the same sections for each of several pieces of one shard: keys and values, or their gradients. All
// pieces, or only those that the receiver needs.
#pragma once

#include <vector>

#include "engine/message.h"

namespace strait {

using Sections = std::vector<Message::Section>;  // of one piece
using Tensors = std::vector<Tensor>;             // the same, in memory

class PieceMessage {
 public:
  PieceMessage() = default;
  // A new one. `pieces`: their indices on their shard, ascending.
  PieceMessage(MessagePool& pool, Backend& ops, std::vector<int> pieces, const Sections& of_one);
  // What another shard has sent: made as above, from the same pieces and sections (checked).
  PieceMessage(Message message, std::vector<int> pieces, const Sections& of_one);

  bool defined() const { return !pieces_.empty(); }
  const std::vector<int>& pieces() const { return pieces_; }
  // The sections of one piece.
  Tensors piece(int index) const;
  // What is sent: a view of the same memory, which nobody changes from then on.
  const Message& message() const { return message_; }
  Message& message() { return message_; }
  // The same of some of the pieces, in the same memory.
  PieceMessage part(const std::vector<int>& pieces) const;

 private:
  size_t slot(int piece) const;

  Message message_;
  std::vector<int> pieces_;
  std::vector<std::vector<size_t>> places_;  // of each piece's sections in the message
};

}  // namespace strait
