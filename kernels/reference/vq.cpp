// Vector quantisation (Gray 1984) with product codebooks, their running means (van den Oord et al. 2017, appendix A), and packed indices.
#include <limits>

#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_put_rows(Tensor table, Tensor x, Tensor ids) {
  check_ids(Op::put_rows, "ids", ids, 0, table.size(0));
  for (int64_t n = 0; n < x.size(0); ++n)
    for (int64_t c = 0; c < x.size(1); ++c) set(table, get(x, n, c), get_id(ids, n), c);
}

void ReferenceBackend::do_vq_encode(Tensor index, Tensor z, Tensor codebook) {
  const int64_t groups = index.size(1), s = z.size(1) / groups;
  for (int64_t n = 0; n < z.size(0); ++n)
    for (int64_t g = 0; g < groups; ++g) {
      double least = std::numeric_limits<double>::infinity();
      int64_t best = 0;
      for (int64_t k = 0; k < codebook.size(0); ++k) {
        double distance = 0;
        for (int64_t c = g * s; c < (g + 1) * s; ++c) {
          const double difference = get(z, n, c) - get(codebook, k, c);
          distance += difference * difference;
        }
        if (distance < least) {
          least = distance;
          best = k;
        }
      }
      set(index, static_cast<double>(best), n, g);
    }
}

void ReferenceBackend::do_vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha) {
  const int64_t s = y.size(1) / index.size(1);
  for (int64_t n = 0; n < y.size(0); ++n)
    for (int64_t c = 0; c < y.size(1); ++c)
      set(y, get(y, n, c) + alpha * get(codebook, get_id(index, n, c / s), c), n, c);
}

void ReferenceBackend::do_vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index) {
  const int64_t s = z.size(1) / index.size(1);
  for (int64_t i = 0; i < count.elements(); ++i) set(flat(count), 0, i);
  for (int64_t i = 0; i < sum.elements(); ++i) set(flat(sum), 0, i);
  for (int64_t n = 0; n < z.size(0); ++n) {
    for (int64_t g = 0; g < index.size(1); ++g) {
      const int64_t k = get_id(index, n, g);
      set(count, get(count, k, g) + 1, k, g);
    }
    for (int64_t c = 0; c < z.size(1); ++c) {
      const int64_t k = get_id(index, n, c / s);
      set(sum, get(sum, k, c) + get(z, n, c), k, c);
    }
  }
}

void ReferenceBackend::do_vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum,
                                    Tensor donors, double decay, double threshold) {
  const int64_t s = sum.size(1) / count.size(1);
  for (int64_t k = 0; k < sum.size(0); ++k)
    for (int64_t g = 0; g < count.size(1); ++g) {
      const double n = decay * get(count, k, g) + (1 - decay) * get(batch_count, k, g);
      const bool dead = n < threshold;
      set(count, dead ? 1.0 : n, k, g);
      for (int64_t c = g * s; c < (g + 1) * s; ++c)
        set(sum,
            dead ? get(donors, k, c) : decay * get(sum, k, c) + (1 - decay) * get(batch_sum, k, c),
            k, c);
    }
}

void ReferenceBackend::do_vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows) {
  check_ids(Op::vq_centroids, "rows", rows, 0, sum.size(0));
  const int64_t s = sum.size(1) / count.size(1);
  for (int64_t i = 0; i < y.size(0); ++i)
    for (int64_t c = 0; c < y.size(1); ++c)
      set(y, get(sum, get_id(rows, i), c) / get(count, get_id(rows, i), c / s), i, c);
}

void ReferenceBackend::do_pack_bits(Tensor bytes, Tensor values, int bits) {
  for (int64_t i = 0; i < bytes.elements(); ++i) set(bytes, 0, i);
  for (int64_t i = 0; i < values.elements() * bits; ++i) {
    const bool one = get_id(flat(values), i / bits) >> (i % bits) & 1;
    if (one) set(bytes, static_cast<double>(get_id(bytes, i / 8) | 1 << (i % 8)), i / 8);
  }
}

void ReferenceBackend::do_unpack_bits(Tensor values, Tensor bytes, int bits) {
  for (int64_t i = 0; i < values.elements(); ++i) {
    int64_t value = 0;
    for (int64_t b = 0; b < bits; ++b) {
      const int64_t at = i * bits + b;
      value |= (get_id(bytes, at / 8) >> (at % 8) & 1) << b;
    }
    set(flat(values), static_cast<double>(value), i);
  }
}

}  // namespace strait
