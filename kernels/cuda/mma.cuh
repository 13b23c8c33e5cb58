// The instructions of the tensor cores' path that CUDA C++ has no functions for (PTX ISA, sections
// on mma, ldmatrix and cp.async; compute capability 8.0 and later), and nothing else, so that the
// kernels are plain C++ and this file the only one with assembly.
//
// Fragments of a warp, l = lane, g = l/4, c = 2*(l%4); a register holds two neighbouring bf16, the
// lower one first:
//   A (16 x 16): r0 = [g][c], r1 = [g+8][c], r2 = [g][c+8], r3 = [g+8][c+8]
//   B (16 x 8):  r0 = [c..c+1][g], r1 = [c+8..c+9][g]
//   C (16 x 8):  x0, x1 = [g][c], [g][c+1]; x2, x3 = [g+8][c], [g+8][c+1]
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cstring>

namespace strait {

// C += A B.
__device__ inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Four 8 x 8 matrices of bf16; lane l names the 16 bytes of row l%8 of matrix l/8. r[i] = matrix
// i, [l/4][2*(l%4)] and the next; transposed: [2*(l%4)][l/4] and the one below.
__device__ inline void load_matrices(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

// Begins to copy 16 bytes from global to shared memory, past the first-level cache; zeros where
// not `valid` (`global` must be an address of the array all the same).
__device__ inline void copy_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
// Copies begun since the last commit are one group; waiting leaves the `kPending` latest alone.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// 2^x with a relative error below 2^-22; results below 2^-126 are 0.
__device__ inline float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Two floats rounded to nearest even, `low` in the lower half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

}  // namespace strait
