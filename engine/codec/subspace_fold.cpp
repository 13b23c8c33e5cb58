#include "engine/codec/subspace_fold.h"

#include <fmt/format.h>

#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "engine/codec/subspace.h"
#include "engine/nn/parameter.h"

namespace strait {
namespace {

using Values = std::vector<double>;  // a matrix, row-major

constexpr std::string_view kPlain = ".weight", kCoordinates = ".coordinates";

// `name` with `from` at its end replaced by `to`, nullopt where it ends otherwise.
std::optional<std::string> renamed(const std::string& name, std::string_view from,
                                   std::string_view to) {
  if (!name.ends_with(from)) return std::nullopt;
  return name.substr(0, name.size() - from.size()).append(to);
}

bool is_embedding(const std::string& name) { return name.starts_with("model.embed_tokens."); }

Values values_of(const std::vector<std::byte>& bytes, DType dtype) {
  Values values(bytes.size() / size_of(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f64) {
      std::memcpy(&values[i], bytes.data() + i * sizeof(double), sizeof(double));
    } else {
      float f = 0;
      std::memcpy(&f, bytes.data() + i * sizeof(float), sizeof(float));
      values[i] = static_cast<double>(f);
    }
  }
  return values;
}

std::vector<std::byte> bytes_of(const Values& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f64) {
      std::memcpy(bytes.data() + i * sizeof(double), &values[i], sizeof(double));
    } else {
      const auto f = static_cast<float>(values[i]);
      std::memcpy(bytes.data() + i * sizeof(float), &f, sizeof(float));
    }
  }
  return bytes;
}

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

const Values& SubspaceFold::basis() const {
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
  const auto coordinates = renamed(name, kPlain, kCoordinates);
  if (!coordinates) return std::nullopt;
  const std::optional<ParameterState> held = own(*coordinates);
  if (!held) return std::nullopt;
  check_columns(*held, 1, rank_);
  const int64_t width = shape_.width, rows = held->shape[0];
  const bool embedding = is_embedding(name);
  if (embedding) check_columns(*held, 0, shape_.vocabulary);
  const Values across = transposed(basis(), width);  // U^T (k,C)
  const auto shaped = [&](Values x) {
    return bytes_of(embedding ? x : transposed(x, rows), held->dtype);
  };
  ParameterState plain{name, Shape{width, rows}, held->dtype, {}, {}, {}};
  if (embedding) plain.shape = {rows, width};
  Values w = product(values_of(held->master, held->dtype), across, rank_);
  if (embedding) {
    const Values table = token_table();
    for (size_t i = 0; i < w.size(); ++i) w[i] += table[i];
  }
  plain.master = shaped(std::move(w));
  if (!held->m.empty()) plain.m = shaped(product(values_of(held->m, held->dtype), across, rank_));
  if (!held->v.empty())
    plain.v = shaped(spread_means(values_of(held->v, held->dtype), rank_, width));
  return plain;
}

std::optional<ParameterState> SubspaceFold::from_plain(const std::string& name,
                                                       const ParameterSource& plain) const {
  const auto weight = renamed(name, kCoordinates, kPlain);
  if (!weight) return std::nullopt;
  const std::optional<ParameterState> free = plain(*weight);
  if (!free) return std::nullopt;
  const int64_t width = shape_.width;
  const bool embedding = is_embedding(name);
  check_columns(*free, embedding ? 1 : 0, width);
  const auto tokens_first = [&](const std::vector<std::byte>& bytes) {  // (rows, C)
    Values x = values_of(bytes, free->dtype);
    return embedding ? x : transposed(x, width);
  };
  ParameterState held{name, {free->shape[embedding ? 0 : 1], rank_}, free->dtype, {}, {}, {}};
  Values w = tokens_first(free->master);
  if (embedding) {
    check_columns(*free, 0, shape_.vocabulary);
    const Values table = token_table();
    for (size_t i = 0; i < w.size(); ++i) w[i] -= table[i];
  }
  held.master = bytes_of(product(w, basis(), width), free->dtype);
  if (!free->m.empty())
    held.m = bytes_of(product(tokens_first(free->m), basis(), width), free->dtype);
  if (!free->v.empty()) {
    Values squares = basis();
    for (double& x : squares) x *= x;
    held.v = bytes_of(product(tokens_first(free->v), squares, width), free->dtype);
  }
  return held;
}

}  // namespace strait
