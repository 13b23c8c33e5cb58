#include "engine/codec/frozen.h"

#include <fmt/format.h>

#include <stdexcept>

#include "engine/codec/projection.h"

namespace strait {
namespace {

class FrozenMethod final : public Method {
 public:
  FrozenMethod(MethodOptions options, int rank) : options_(std::move(options)), rank_(rank) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int boundary,
                                    BoundaryEnd) const override {
    Buffer* basis = declare_basis(c.parameters, c.shape, rank_, options_.basis_seed,
                                  fmt::format("frozen.U.{}", boundary), false);
    Buffer* anchors =
        options_.anchors == "static"
            ? declare_token_table(c.parameters, c.shape, options_.basis_seed, "frozen.anchors")
            : nullptr;
    return make_projection_codec(c, "frozen", options_.wire, basis, anchors, nullptr, false);
  }
  std::optional<int> rank() const override { return rank_; }

 private:
  MethodOptions options_;
  int rank_;
};

}  // namespace

std::unique_ptr<Method> make_frozen(const MethodOptions& options, const ModelShape& shape,
                                    DType compute) {
  if (options.anchors != "none" && options.anchors != "static")
    throw std::invalid_argument(
        fmt::format("frozen anchors is \"{}\"; allowed: none, static", options.anchors));
  return std::make_unique<FrozenMethod>(
      options, projection_rank("frozen", options, shape, compute, options.anchors == "static"));
}

}  // namespace strait
