// Every instruction the kernels need beyond plain C++, one inline-PTX wrapper each, so that the kernel files read as
// ordinary C++. No CUDA header is used: NVRTC compiles this with nothing but the files of this folder. Needs sm_80 or
// later. For the tests, a C++ compiler takes the same names from their emulator (tests/kernels/csrc/emu.h) instead.
// Shared memory is addressed by 32-bit byte offsets from `shared_base()`; fragments are named as in the PTX manual.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;

#ifndef __CUDACC__
#include "emu.h"
#else

#define DEVICE __device__ __forceinline__
// One block per SM: two warps per scheduler may then use 255 registers each.
#define KERNEL(name, Args) extern "C" __global__ void __launch_bounds__(256, 1) name(const __grid_constant__ Args args)

DEVICE int thread_index() { return threadIdx.x; }
DEVICE int block_x() { return blockIdx.x; }
DEVICE int block_y() { return blockIdx.y; }
DEVICE int block_z() { return blockIdx.z; }

// --- shared memory -------------------------------------------------------------------------------------------------
extern __shared__ __align__(128) u8 dynamic_shared[];

DEVICE u32 shared_base() { return (u32)__cvta_generic_to_shared(dynamic_shared); }

DEVICE float shared_load(u32 address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
    return value;
}

DEVICE void shared_load2(u32 address, float& x, float& y) {
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x), "=f"(y) : "r"(address) : "memory");
}

DEVICE void shared_store(u32 address, float value) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

// --- asynchronous copies, global to shared ---------------------------------------------------------------------------
// `bytes` of the copy's 16 (or 4) come from `source`, the rest is zero: 0 makes a zero row that reads no memory.
DEVICE void copy16(u32 target, const void* source, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

DEVICE void copy4(u32 target, const void* source, int bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(target), "l"(source), "r"(bytes) : "memory");
}

DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING of this thread's newest groups are still in flight.
template <int PENDING>
DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// --- synchronisation and warp exchange -------------------------------------------------------------------------------
DEVICE void block_barrier() { asm volatile("bar.sync 0;" ::: "memory"); }

DEVICE float shuffle_xor(float value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }

// --- matrix fragments ------------------------------------------------------------------------------------------------
// Four 8x8 matrices of 16-bit values; lane 8m+i gives the address of row i of matrix m.
DEVICE void load_matrix(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

DEVICE void load_matrix_trans(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

DEVICE void mma_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// fp16 accumulators: twice the rate of fp32 ones on GeForce. c[0] holds (g, 2t..), c[1] holds (g + 8, 2t..).
DEVICE void mma_f16_f16(u32 (&c)[2], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
        : "+r"(c[0]), "+r"(c[1])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DEVICE void mma_s8(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// --- numbers ---------------------------------------------------------------------------------------------------------
DEVICE float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float log2_exact(float x) { return log2f(x); }
DEVICE float square_root(float x) { return sqrtf(x); }
DEVICE float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE float multiply_rounded(float a, float b) { return __fmul_rn(a, b); }
DEVICE float maximum(float a, float b) { return fmaxf(a, b); }
DEVICE float absolute(float x) { return fabsf(x); }
DEVICE int round_even(float x) { return __float2int_rn(x); }
DEVICE u32 float_bits(float x) { return __float_as_uint(x); }
DEVICE float bits_float(u32 x) { return __uint_as_float(x); }

// These keep a NaN, so that a broken input stays visible in the output.
DEVICE float maximum_nan(float a, float b) {
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}

DEVICE float minimum_nan(float a, float b) {
    float c;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
}

// Two floats to one register, `low` in the lower half, round to nearest even.
DEVICE u32 pack_bf16(float low, float high) {
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

DEVICE u32 pack_f16(float low, float high) {
    u32 r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

DEVICE void unpack_bf16(u32 r, float& low, float& high) {
    low = __uint_as_float(r << 16);
    high = __uint_as_float(r & 0xffff0000u);
}

DEVICE void unpack_f16(u32 r, float& low, float& high) {
    asm("{.reg .f16 x, y;\n mov.b32 {x, y}, %2;\n cvt.f32.f16 %0, x;\n cvt.f32.f16 %1, y;}"
        : "=f"(low), "=f"(high)
        : "r"(r));
}

// --- global memory ---------------------------------------------------------------------------------------------------
template <typename T>
DEVICE T load(const void* address) {
    return *(const T*)address;
}

template <typename T>
DEVICE void store(void* address, T value) {
    *(T*)address = value;
}

DEVICE void atomic_max(u32* address, u32 value) { atomicMax(address, value); }

#endif
