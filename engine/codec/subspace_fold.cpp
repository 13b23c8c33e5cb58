#include "engine/codec/subspace_fold.h"

#include <fmt/format.h>

#include <numeric>
#include <stdexcept>
#include <utility>

#include "engine/nn/parameter.h"

namespace strait {
namespace {

using Values = std::vector<double>;  // a matrix, row-major

constexpr std::string_view kPlain = ".weight";

// `name` with `from` at its end replaced by `to`, nullopt where it ends otherwise.
std::optional<std::string> renamed(const std::string& name, std::string_view from,
                                   std::string_view to) {
  if (!name.ends_with(from)) return std::nullopt;
  return name.substr(0, name.size() - from.size()).append(to);
}

bool is_embedding(const std::string& name) { return name.starts_with("model.embed_tokens."); }

Values transposed(const Values& x, int64_t rows) {
  const int64_t columns = static_cast<int64_t>(x.size()) / rows;
  Values y(x.size());
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      y[static_cast<size_t>(c * rows + r)] = x[static_cast<size_t>(r * columns + c)];
  return y;
}

// x (rows, inner) times matrix (inner, columns).
Values product(const Values& x, const Values& matrix, int64_t inner) {
  const int64_t rows = static_cast<int64_t>(x.size()) / inner,
                columns = static_cast<int64_t>(matrix.size()) / inner;
  Values y(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < inner; ++i) {
      const double factor = x[static_cast<size_t>(r * inner + i)];
      for (int64_t c = 0; c < columns; ++c)
        y[static_cast<size_t>(r * columns + c)] +=
            factor * matrix[static_cast<size_t>(i * columns + c)];
    }
  return y;
}

// The mean of each row of x (rows, k), `columns` times.
Values spread_means(const Values& x, int64_t k, int64_t columns) {
  Values y;
  y.reserve(x.size() / static_cast<size_t>(k) * static_cast<size_t>(columns));
  for (auto row = x.begin(); row != x.end(); row += k)
    y.insert(y.end(), static_cast<size_t>(columns),
             std::accumulate(row, row + k, 0.0) / static_cast<double>(k));
  return y;
}

void check_columns(const ParameterState& p, int axis, int64_t expected) {
  if (p.shape.rank != 2 || p.shape.elements() == 0 || p.shape[axis] != expected)
    throw std::invalid_argument(fmt::format("parameter {} is {}; its dimension {} must be {}",
                                            p.name, to_string(p.shape), axis, expected));
}

}  // namespace

Values SubspaceFold::basis(const ParameterSource& source) const {
  const std::optional<ParameterState> held = source("subspace.U");
  if (!held) return seeded_basis();
  check_columns(*held, 0, shape_.width);
  check_columns(*held, 1, rank_);
  return values_of(held->master, held->dtype);
}

const Values& SubspaceFold::seeded_basis() const {
  std::call_once(made_, [this] {
    ParameterList list(dtype_);
    Values u(static_cast<size_t>(shape_.width * rank_));
    subspace_basis(list, shape_, static_cast<int>(rank_), seed_)->init(u);
    if (statistics_of(dtype_) == DType::f32)
      for (double& x : u) x = static_cast<double>(static_cast<float>(x));
    u_ = std::move(u);
  });
  return u_;
}

Values SubspaceFold::token_table() const {
  ParameterList list(dtype_);
  Values table(static_cast<size_t>(int64_t{shape_.vocabulary} * shape_.width));
  subspace_token_table(list, shape_, seed_)->init(table);
  if (dtype_ == DType::f64) return table;
  for (double& x : table) {
    const auto f = static_cast<float>(x);
    x = static_cast<double>(dtype_ == DType::bf16 ? static_cast<float>(bfloat16(f)) : f);
  }
  return table;
}

std::optional<ParameterState> SubspaceFold::to_plain(const std::string& name,
                                                     const ParameterSource& own) const {
  const bool coordinates = variant_ == SubspaceVariant::reparametrised;
  const auto own_name = renamed(name, kPlain, coordinates ? kCoordinates : kInSubspace);
  if (!own_name) return std::nullopt;
  const std::optional<ParameterState> held = own(*own_name);
  if (!held) return std::nullopt;
  const int64_t width = shape_.width, rows = held->shape[0];
  check_columns(*held, 1, coordinates ? rank_ : width);
  const bool embedding = is_embedding(name);
  if (embedding) check_columns(*held, 0, shape_.vocabulary);
  const Values across = coordinates ? transposed(basis(own), width) : Values{};  // U^T (k,C)
  const auto widened = [&](const std::vector<std::byte>& bytes) {
    Values x = values_of(bytes, held->dtype);
    return coordinates ? product(x, across, rank_) : x;
  };
  const auto shaped = [&](Values x) {
    return bytes_of(embedding ? x : transposed(x, rows), held->dtype);
  };
  ParameterState plain{name, Shape{width, rows}, held->dtype, {}, {}, {}};
  if (embedding) plain.shape = {rows, width};
  Values w = widened(held->master);
  if (embedding) {
    const Values table = token_table();
    for (size_t i = 0; i < w.size(); ++i) w[i] += table[i];
  }
  plain.master = shaped(std::move(w));
  if (!held->m.empty()) plain.m = shaped(widened(held->m));
  if (!held->v.empty()) {
    const Values v = values_of(held->v, held->dtype);
    const int64_t a_row = static_cast<int64_t>(v.size()) / rows;  // k, 1 or C
    plain.v = shaped(a_row == width ? v : spread_means(v, a_row, width));
  }
  return plain;
}

std::optional<ParameterState> SubspaceFold::from_plain(const std::string& name,
                                                       const ParameterSource& plain) const {
  const bool coordinates = variant_ == SubspaceVariant::reparametrised;
  const auto weight = renamed(name, coordinates ? kCoordinates : kInSubspace, kPlain);
  if (!weight) return std::nullopt;
  const std::optional<ParameterState> free = plain(*weight);
  if (!free) return std::nullopt;
  const int64_t width = shape_.width;
  const bool embedding = is_embedding(name);
  check_columns(*free, embedding ? 1 : 0, width);
  if (embedding) check_columns(*free, 0, shape_.vocabulary);
  const auto tokens_first = [&](const std::vector<std::byte>& bytes) {  // (rows, C)
    Values x = values_of(bytes, free->dtype);
    return embedding ? x : transposed(x, width);
  };
  const int64_t rows = free->shape[embedding ? 0 : 1];
  const Values u = basis(plain), across = transposed(u, width);
  const auto held_part = [&](const Values& x) {
    const Values c = product(x, u, width);
    return bytes_of(coordinates ? c : product(c, across, rank_), free->dtype);
  };
  ParameterState held{name, {rows, coordinates ? rank_ : width}, free->dtype, {}, {}, {}};
  Values w = tokens_first(free->master);
  if (embedding) {
    const Values table = token_table();
    for (size_t i = 0; i < w.size(); ++i) w[i] -= table[i];
  }
  held.master = held_part(w);
  const bool full_moments = variant_ == SubspaceVariant::projected_weights;
  if (!free->m.empty())
    held.m = full_moments ? bytes_of(tokens_first(free->m), free->dtype)
                          : held_part(tokens_first(free->m));
  if (!free->v.empty()) held.v = bytes_of(second_moments(tokens_first(free->v), u), free->dtype);
  return held;
}

// From v (rows,C) of a plain matrix: (rows,k) of C, (rows) of A, v itself of B.
Values SubspaceFold::second_moments(const Values& v, Values u) const {
  if (variant_ == SubspaceVariant::projected_weights) return v;
  for (double& x : u) x *= x;
  const Values of_coordinates = product(v, u, shape_.width);
  if (variant_ == SubspaceVariant::reparametrised) return of_coordinates;
  Values mean = spread_means(of_coordinates, rank_, 1);
  for (double& x : mean) x *= static_cast<double>(rank_) / static_cast<double>(shape_.width);
  return mean;
}

}  // namespace strait
