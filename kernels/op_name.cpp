// The name of every op, as it appears in errors, profiles and records.
#include "kernels/backend.h"

namespace strait {

const char* name_of(Op op) {
  switch (op) {
    case Op::matmul:
      return "matmul";
    case Op::rmsnorm_forward:
      return "rmsnorm_forward";
    case Op::rmsnorm_backward:
      return "rmsnorm_backward";
    case Op::add_rmsnorm_forward:
      return "add_rmsnorm_forward";
    case Op::rope:
      return "rope";
    case Op::swiglu_forward:
      return "swiglu_forward";
    case Op::swiglu_backward:
      return "swiglu_backward";
    case Op::activation_forward:
      return "activation_forward";
    case Op::activation_backward:
      return "activation_backward";
    case Op::attention_forward:
      return "attention_forward";
    case Op::attention_merge:
      return "attention_merge";
    case Op::attention_delta:
      return "attention_delta";
    case Op::attention_backward:
      return "attention_backward";
    case Op::gather_rows:
      return "gather_rows";
    case Op::scatter_add_rows:
      return "scatter_add_rows";
    case Op::add_gathered_rows:
      return "add_gathered_rows";
    case Op::cross_entropy:
      return "cross_entropy";
    case Op::add:
      return "add";
    case Op::axpy:
      return "axpy";
    case Op::scale:
      return "scale";
    case Op::combine:
      return "combine";
    case Op::normalise:
      return "normalise";
    case Op::cast:
      return "cast";
    case Op::fill:
      return "fill";
    case Op::sum:
      return "sum";
    case Op::sum_squares:
      return "sum_squares";
    case Op::add_statistics:
      return "add_statistics";
    case Op::clip_factor:
      return "clip_factor";
    case Op::adamw:
      return "adamw";
    case Op::adamw_rows:
      return "adamw_rows";
    case Op::momentum:
      return "momentum";
    case Op::random_normal:
      return "random_normal";
    case Op::put_rows:
      return "put_rows";
    case Op::vq_encode:
      return "vq_encode";
    case Op::vq_decode:
      return "vq_decode";
    case Op::vq_statistics:
      return "vq_statistics";
    case Op::vq_update:
      return "vq_update";
    case Op::vq_centroids:
      return "vq_centroids";
    case Op::pack_bits:
      return "pack_bits";
    case Op::unpack_bits:
      return "unpack_bits";
    case Op::quantize_rows:
      return "quantize_rows";
    case Op::dequantize_rows:
      return "dequantize_rows";
    case Op::topk_rows:
      return "topk_rows";
    case Op::gather_entries:
      return "gather_entries";
    case Op::scatter_entries:
      return "scatter_entries";
    case Op::column_sum_squares:
      return "column_sum_squares";
    case Op::pack_columns:
      return "pack_columns";
    case Op::unpack_columns:
      return "unpack_columns";
    case Op::inverse_cholesky:
      return "inverse_cholesky";
    case Op::count_:
      break;
  }
  return "?";
}

}  // namespace strait
