#include "engine/context/piece_message.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace strait {
namespace {

// Piece by piece, but wider dtypes first, so that every section is aligned (message.h): which section of which piece stands where.
std::vector<std::vector<size_t>> places_of(size_t pieces, const Sections& of_one) {
  std::vector<size_t> order(pieces * of_one.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return size_of(of_one[a % of_one.size()].dtype) > size_of(of_one[b % of_one.size()].dtype);
  });
  std::vector<std::vector<size_t>> places(pieces, std::vector<size_t>(of_one.size()));
  for (size_t i = 0; i < order.size(); ++i)
    places[order[i] / of_one.size()][order[i] % of_one.size()] = i;
  return places;
}

}  // namespace

PieceMessage::PieceMessage(MessagePool& pool, Backend& ops, std::vector<int> pieces,
                           const Sections& of_one)
    : pieces_(std::move(pieces)), places_(places_of(pieces_.size(), of_one)) {
  Sections all(pieces_.size() * of_one.size());
  for (const auto& places : places_) {
    for (size_t s = 0; s < of_one.size(); ++s) all[places[s]] = of_one[s];
  }
  message_ = Message(pool, ops, all);
}

PieceMessage::PieceMessage(Message message, std::vector<int> pieces, const Sections& of_one)
    : message_(std::move(message)),
      pieces_(std::move(pieces)),
      places_(places_of(pieces_.size(), of_one)) {
  bool same = message_.sections() == pieces_.size() * of_one.size();
  for (size_t p = 0; same && p < pieces_.size(); ++p) {
    for (size_t s = 0; s < of_one.size(); ++s) {
      const Tensor t = message_.section(places_[p][s]);
      same = same && t.dtype == of_one[s].dtype && t.shape == of_one[s].shape;
    }
  }
  STRAIT_CHECK(same, "a message has other sections than its receiver expects");
}

size_t PieceMessage::slot(int piece) const {
  const auto found = std::find(pieces_.begin(), pieces_.end(), piece);
  STRAIT_CHECK(found != pieces_.end(), "the message lacks piece " + std::to_string(piece));
  return static_cast<size_t>(found - pieces_.begin());
}

Tensors PieceMessage::piece(int index) const {
  Tensors tensors;
  for (size_t place : places_[slot(index)]) tensors.push_back(message_.section(place));
  return tensors;
}

PieceMessage PieceMessage::part(const std::vector<int>& pieces) const {
  if (pieces == pieces_) return *this;
  PieceMessage some;
  some.pieces_ = pieces;
  std::vector<std::pair<size_t, std::pair<size_t, size_t>>> kept;  // place here, piece, section
  for (size_t p = 0; p < pieces.size(); ++p) {
    const auto& places = places_[slot(pieces[p])];
    for (size_t s = 0; s < places.size(); ++s) kept.push_back({places[s], {p, s}});
  }
  std::sort(kept.begin(), kept.end());
  some.places_.assign(pieces.size(), std::vector<size_t>(places_[0].size()));
  std::vector<size_t> sections;
  for (size_t i = 0; i < kept.size(); ++i) {
    some.places_[kept[i].second.first][kept[i].second.second] = i;
    sections.push_back(kept[i].first);
  }
  some.message_ = message_.part(sections);
  some.message_.dense = {message_.dense.count * pieces.size() / pieces_.size()};
  return some;
}

}  // namespace strait
