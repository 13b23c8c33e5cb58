// Variants A and B of method `subspace` (specs/subspace_models.md, section 4): the constrained matrices at full width, W (in,d) and
// T_S (V,d), with rows that are kept in col(U). P = U U^T is never formed: M P is (M U) U^T, 4 rows d k FLOPs.
//
//   A  gradient G <- G P before it is measured for clipping, AdamW with one second moment a row, which scales rows and so leaves them in
//      the subspace; W <- W P every kReproject steps against rounding (4.1, 3.4)
//   B  AdamW, then W <- W P after every step; the moments keep what the projection discards (4.2, node0)
//
// Both begin with W = Z U^T, T_S = E U^T of variant C's Z and E, so that all three begin as the same model. In bf16 the copy that is
// computed with is rounded and so leaves the subspace by up to 2^-9 of its size, which variant C cannot.
#pragma once

#include <memory>
#include <string>

#include "engine/codec/subspace.h"

namespace strait {

// Rows leave the subspace by 1e-6 of their size in about 2000 steps of variant A in fp32 (4.1).
inline constexpr int64_t kReproject = 256;

// matrix (rows,d) S <- matrix from U to^T, with from and to (d,k): P where both are U. In place; temporaries in scratch.
void carry_rows(Context& ctx, const Tensor& matrix, const Tensor& from, const Tensor& to);

// `init` is that of Z (in,k) or E (V,k).
std::unique_ptr<Projection> make_full_projection(const MethodContext& c, SubspaceVariant variant,
                                                 Buffer* basis, const std::string& name, int in,
                                                 const Initialiser& init);
std::unique_ptr<Embedding> make_full_embedding(const MethodContext& c, SubspaceVariant variant,
                                               Buffer* basis, Buffer* token_table,
                                               const Initialiser& init);

}  // namespace strait
