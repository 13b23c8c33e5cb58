// Contracts and costs of vector quantisation and its codebooks (kernels/backend.h): as backend.cpp has them for the other ops.
#include <fmt/format.h>

#include "kernels/contract.h"
#include "kernels/cost.h"

namespace strait {
namespace {

// Codebook and latents have r columns that the index's G groups divide.
void check_groups(const Contract& c, const Operand& index, const Operand& z) {
  c.rank(z, 2);
  c.rank(index, 2);
  c.is(index, DType::u16, {z.tensor.size(0), index.tensor.size(1)});
  c.require(z.tensor.size(1) % index.tensor.size(1) == 0,
            fmt::format("{} columns do not divide into {} groups", z.tensor.size(1),
                        index.tensor.size(1)));
}

void check_codebook(const Contract& c, const Operand& codebook, DType s, int64_t columns) {
  c.rank(codebook, 2);
  c.is(codebook, s, {codebook.tensor.size(0), columns});
  c.require(codebook.tensor.size(0) <= 65536,
            fmt::format("{} has {} codes; at most 65536", codebook.name, codebook.tensor.size(0)));
}

// f32, or f64 where the backend has it.
DType statistic(const Contract& c, const Operand& x) {
  const DType t = c.float_type(x);
  c.require(t == statistics_of(t), fmt::format("{} is {}; f32 is allowed", x.name, name_of(t)));
  return t;
}

}  // namespace

void Backend::put_rows(Tensor table, Tensor x, Tensor ids) {
  const Contract c(Op::put_rows, computes(), has_f64());
  c.rank({"table", table}, 2);
  c.rank({"x", x}, 2);
  const DType s = statistics_of(c.float_type({"x", x}));
  const DType t = s == DType::f64 ? s : DType::bf16;
  c.is_either({"x", x}, t, {x.size(0), table.size(1)});
  c.is_either({"table", table}, t, table.shape);
  c.is({"ids", ids}, DType::i32, {x.size(0)});
  c.no_alias({"table", table}, {{"x", x}, {"ids", ids}});
  do_put_rows(table, x, ids);
  book(Op::put_rows, false, x.dtype, 0,
       x.bytes() + ids.bytes() + count(x.elements()) * size_of(table.dtype));
}

void Backend::vq_encode(Tensor index, Tensor z, Tensor codebook) {
  const Contract c(Op::vq_encode, computes(), has_f64());
  c.rank({"z", z}, 2);
  const DType s = statistic(c, {"z", z});
  c.is({"z", z}, s, z.shape);
  check_groups(c, {"index", index}, {"z", z});
  check_codebook(c, {"codebook", codebook}, s, z.size(1));
  do_vq_encode(index, z, codebook);
  book(Op::vq_encode, false, s, 3 * count(z.elements()) * count(codebook.size(0)),
       index.bytes() + z.bytes() + codebook.bytes());
}

void Backend::vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha) {
  const Contract c(Op::vq_decode, computes(), has_f64());
  c.rank({"y", y}, 2);
  const DType s = statistic(c, {"y", y});
  c.is({"y", y}, s, y.shape);
  check_groups(c, {"index", index}, {"y", y});
  check_codebook(c, {"codebook", codebook}, s, y.size(1));
  c.no_alias({"y", y}, {{"codebook", codebook}, {"index", index}});
  do_vq_decode(y, index, codebook, alpha);
  book(Op::vq_decode, false, s, 2 * count(y.elements()), index.bytes() + 3 * y.bytes());
}

void Backend::vq_statistics(Tensor batch_count, Tensor sum, Tensor z, Tensor index) {
  const Contract c(Op::vq_statistics, computes(), has_f64());
  c.rank({"z", z}, 2);
  const DType s = statistic(c, {"z", z});
  c.is({"z", z}, s, z.shape);
  check_groups(c, {"index", index}, {"z", z});
  check_codebook(c, {"sum", sum}, s, z.size(1));
  c.is({"count", batch_count}, s, {sum.size(0), index.size(1)});
  c.no_alias({"sum", sum}, {{"z", z}, {"index", index}, {"count", batch_count}});
  do_vq_statistics(batch_count, sum, z, index);
  book(Op::vq_statistics, false, s, count(z.elements()),
       index.bytes() + 3 * z.bytes() + sum.bytes() + batch_count.bytes());
}

void Backend::vq_update(Tensor counts, Tensor sum, Tensor batch_count, Tensor batch_sum,
                        Tensor donors, double decay, double threshold) {
  const Contract c(Op::vq_update, computes(), has_f64());
  c.rank({"sum", sum}, 2);
  c.rank({"count", counts}, 2);
  const DType s = statistic(c, {"sum", sum});
  c.is({"sum", sum}, s, sum.shape);
  c.is({"count", counts}, s, {sum.size(0), counts.size(1)});
  c.is({"batch_count", batch_count}, s, counts.shape);
  c.is({"batch_sum", batch_sum}, s, sum.shape);
  c.is({"donors", donors}, s, sum.shape);
  c.require(sum.size(1) % counts.size(1) == 0, "the groups do not divide the columns");
  c.no_alias({"sum", sum}, {{"batch_sum", batch_sum}, {"donors", donors}, {"count", counts}});
  c.no_alias({"count", counts}, {{"batch_count", batch_count}, {"donors", donors}});
  do_vq_update(counts, sum, batch_count, batch_sum, donors, decay, threshold);
  book(Op::vq_update, false, s, 3 * count(sum.elements() + counts.elements()),
       4 * sum.bytes() + 3 * counts.bytes());
}

void Backend::vq_centroids(Tensor y, Tensor sum, Tensor counts, Tensor rows) {
  const Contract c(Op::vq_centroids, computes(), has_f64());
  c.rank({"sum", sum}, 2);
  c.rank({"count", counts}, 2);
  c.rank({"rows", rows}, 1);
  const DType s = statistic(c, {"sum", sum});
  c.is({"sum", sum}, s, sum.shape);
  c.is({"count", counts}, s, {sum.size(0), counts.size(1)});
  c.require(sum.size(1) % counts.size(1) == 0, "the groups do not divide the columns");
  c.is({"rows", rows}, DType::i32, rows.shape);
  c.is({"y", y}, s, {rows.size(0), sum.size(1)});
  c.no_alias({"y", y}, {{"sum", sum}, {"count", counts}, {"rows", rows}});
  do_vq_centroids(y, sum, counts, rows);
  book(Op::vq_centroids, false, s, count(y.elements()),
       2 * y.bytes() + rows.bytes() + count(rows.elements() * counts.size(1)) * size_of(s));
}

namespace {

void check_bits(const Contract& c, const Tensor& bytes, const Tensor& values, int bits) {
  c.require(bits >= 1 && bits <= 16, fmt::format("bits is {}; 1 to 16 are allowed", bits));
  c.require(values.defined() && values.elements() > 0, "values is empty");
  c.is({"values", values}, DType::u16, values.shape);
  c.is({"bytes", bytes}, DType::u8, {(values.elements() * bits + 7) / 8});
  c.no_alias({"bytes", bytes}, {{"values", values}});
}

}  // namespace

void Backend::pack_bits(Tensor bytes, Tensor values, int bits) {
  check_bits(Contract(Op::pack_bits, computes(), has_f64()), bytes, values, bits);
  do_pack_bits(bytes, values, bits);
  book(Op::pack_bits, false, DType::f32, 0, bytes.bytes() + values.bytes());
}

void Backend::unpack_bits(Tensor values, Tensor bytes, int bits) {
  check_bits(Contract(Op::unpack_bits, computes(), has_f64()), bytes, values, bits);
  do_unpack_bits(values, bytes, bits);
  book(Op::unpack_bits, false, DType::f32, 0, bytes.bytes() + values.bytes());
}

}  // namespace strait
