// Rows of a table by their ids: y[n] = table[ids[n]], dtable[ids[n]] += dy[n], y[n] = x[n] + alpha
// table[ids[n]].
#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_gather_rows(Tensor y, Tensor table, Tensor ids) {
  check_ids(Op::gather_rows, "ids", ids, 0, table.size(0));
  for (int64_t n = 0; n < y.size(0); ++n)
    for (int64_t c = 0; c < y.size(1); ++c) set(y, get(table, get_id(ids, n), c), n, c);
}

void ReferenceBackend::do_scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids) {
  check_ids(Op::scatter_add_rows, "ids", ids, 0, dtable.size(0));
  for (int64_t n = 0; n < dy.size(0); ++n)
    for (int64_t c = 0; c < dy.size(1); ++c)
      set(dtable, get(dtable, get_id(ids, n), c) + get(dy, n, c), get_id(ids, n), c);
}

void ReferenceBackend::do_add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids,
                                            double alpha) {
  check_ids(Op::add_gathered_rows, "ids", ids, 0, table.size(0));
  for (int64_t n = 0; n < y.size(0); ++n)
    for (int64_t c = 0; c < y.size(1); ++c)
      set(y, get(x, n, c) + alpha * get(table, get_id(ids, n), c), n, c);
}

}  // namespace strait
