// CPU stand-in for the CUDA side of `ptx.cuh`. Test equipment: never used when the library runs.
//
// What it is: the kernel files compile with a plain C++ compiler against this header and run, block by block, one fiber
// per CUDA thread. It executes the same loads, fragments, barriers and asynchronous copies as the GPU and stops with a
// message at what a GPU would leave undefined or would only punish sometimes: races on shared and on global memory
// (emu_global.h), data read before
// its copy was waited for, reads of memory that nobody wrote, misaligned access, warps that diverge at a collective,
// barriers that not all threads reach, and (counted) ldmatrix bank conflicts. With -fsanitize=address,undefined it also
// finds accesses outside the tensors.
// What it cannot show: speed, occupancy, the order in which tensor cores add and their truncation (so float results
// are compared with a tolerance; integers are exact), the error of ex2.approx, compiler bugs. How it works: see
// emu_block.h (scheduler, shared memory, cp.async) and emu_warp.h (collectives and fragment layouts).
#pragma once
#include <cmath>

#include "emu_block.h"
#include "emu_numbers.h"
#include "emu_warp.h"

#define DEVICE inline
// Defines the kernel's body and its entry `launch_<name>`; the signature is SIGNATURE of emulator.py.
#define KERNEL(name, Args)                                                                                           \
    static void name(const Args& args);                                                                              \
    extern "C" int launch_##name(const void* args, const uint32_t* grid, uint32_t threads, uint32_t shared_bytes,    \
                                 uint32_t seed, char* message, int message_bytes) {                                  \
        const auto body = [](const void* p) { name(*(const Args*)p); };                                              \
        return emu::launch(body, args, grid, threads, shared_bytes, seed, message, message_bytes);                   \
    }                                                                                                                \
    static void name(const Args& args)

// Which of the planted bugs of switches.py is on; 0 none.
inline int& emu_mutant() {
    static int number = 0;
    return number;
}

namespace emu {

inline int launch(void (*body)(const void*), const void* args, const uint32_t* grid, uint32_t threads,
                  uint32_t shared_bytes, uint32_t seed, char* message, int message_bytes) {
    const auto report = [&](const std::string& text) {
        if (message && message_bytes > 0) std::snprintf(message, (size_t)message_bytes, "%s", text.c_str());
        return text.empty() ? 0 : 1;
    };
    if (threads == 0 || threads > MAX_THREADS || threads % LANES) return report("threads must be 32..256, whole warps");
    if (shared_bytes > MAX_SHARED) return report("more than 99 KB of shared memory");
    std::vector<std::unique_ptr<char[]>> stacks;
    for (uint32_t i = 0; i < threads; ++i) stacks.emplace_back(new char[STACK_BYTES]);
    Block b;
    b.threads = (int)threads;
    b.shared_bytes = shared_bytes;
    b.random = seed * 2654435761u + 1u;
    b.body = body;
    b.args = args;
    block() = &b;
    for (b.index[2] = 0; b.index[2] < grid[2] && b.finding.empty(); ++b.index[2])
        for (b.index[1] = 0; b.index[1] < grid[1] && b.finding.empty(); ++b.index[1])
            for (b.index[0] = 0; b.index[0] < grid[0] && b.finding.empty(); ++b.index[0]) run_block(b, stacks);
    block() = nullptr;
    if (b.finding.empty() && b.conflicts)
        b.finding = std::to_string(b.conflicts) + " bank conflicts in ldmatrix";
    return report(b.finding);
}

}  // namespace emu

inline int thread_index() { return emu::block()->current; }
inline int block_x() { return (int)emu::block()->index[0]; }
inline int block_y() { return (int)emu::block()->index[1]; }
inline int block_z() { return (int)emu::block()->index[2]; }

inline u32 shared_base() { return 0; }

inline float shared_load(u32 address) {
    emu::note_read(address, 4);
    float x;
    std::memcpy(&x, &emu::block()->shared[address], 4);
    return x;
}

inline void shared_load2(u32 address, float& x, float& y) {
    emu::check_range(address, 8);
    x = shared_load(address);
    y = shared_load(address + 4);
}

inline void shared_store(u32 address, float value) {
    emu::note_write(address, 4);
    std::memcpy(&emu::block()->shared[address], &value, 4);
}

inline void copy16(u32 target, const void* source, int bytes) { emu::copy_issue(target, source, 16, bytes); }
inline void copy4(u32 target, const void* source, int bytes) { emu::copy_issue(target, source, 4, bytes); }
inline void copy_commit() { emu::copy_commit_group(); }

template <int PENDING>
inline void copy_wait() {
    emu::copy_wait_group(PENDING);
}

inline void block_barrier() { emu::yield_to_scheduler(emu::State::BARRIER); }

inline float shuffle_xor(float value, int mask) {
    const u32 in[2] = {emu::bits_of(value), (u32)mask};
    return emu::float_of(emu::collective("shuffle", in, 2, emu::compute_shuffle)[0]);
}

inline void load_matrix(u32 (&r)[4], u32 address) {
    std::memcpy(r, emu::collective("ldmatrix", &address, 1, emu::compute_load_matrix), 16);
}

inline void load_matrix_trans(u32 (&r)[4], u32 address) {
    std::memcpy(r, emu::collective("ldmatrix.trans", &address, 1, emu::compute_load_matrix_trans), 16);
}

// c: 4 words, or 2 for packed fp16 accumulators.
inline void emu_mma(const char* name, void* c, int words, const u32* a, u32 b0, u32 b1, emu::Compute compute) {
    u32 in[10] = {a[0], a[1], a[2], a[3], b0, b1};
    std::memcpy(in + 6, c, 4 * (size_t)words);
    std::memcpy(c, emu::collective(name, in, 6 + words, compute), 4 * (size_t)words);
}

inline void mma_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emu_mma("mma.bf16", c, 4, a, b0, b1, emu::compute_mma_bf16);
}

inline void mma_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emu_mma("mma.f16", c, 4, a, b0, b1, emu::compute_mma_f16);
}

inline void mma_f16_f16(u32 (&c)[2], const u32 (&a)[4], u32 b0, u32 b1) {
    emu_mma("mma.f16.f16", c, 2, a, b0, b1, emu::compute_mma_f16_f16);
}

inline void mma_s8(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    emu_mma("mma.s8", c, 4, a, b0, b1, emu::compute_mma_s8);
}

// ex2.approx.ftz: subnormal results become zero.
inline float exp2_fast(float x) {
    const float y = std::exp2(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

inline float log2_exact(float x) { return std::log2(x); }
inline float square_root(float x) { return std::sqrt(x); }
inline float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline float multiply_rounded(float a, float b) { return a * b; }
inline float maximum(float a, float b) { return std::fmax(a, b); }
inline float absolute(float x) { return std::fabs(x); }
inline u32 float_bits(float x) { return emu::bits_of(x); }
inline float bits_float(u32 x) { return emu::float_of(x); }
inline float maximum_nan(float a, float b) { return a != a || b != b ? NAN : std::fmax(a, b); }
inline float minimum_nan(float a, float b) { return a != a || b != b ? NAN : std::fmin(a, b); }

// Like the GPU: NaN becomes 0, what does not fit saturates.
inline int round_even(float x) {
    if (x != x) return 0;
    return x >= 2147483648.0f ? 2147483647 : x <= -2147483648.0f ? -2147483647 - 1 : (int)std::lrint(x);
}

inline u32 pack_bf16(float low, float high) { return emu::to_bf16(low) | (u32)emu::to_bf16(high) << 16; }
inline u32 pack_f16(float low, float high) { return emu::to_f16(low) | (u32)emu::to_f16(high) << 16; }

inline void unpack_bf16(u32 r, float& low, float& high) {
    low = emu::unpack_brain(r, 0);
    high = emu::unpack_brain(r, 1);
}

inline void unpack_f16(u32 r, float& low, float& high) {
    low = emu::unpack_half(r, 0);
    high = emu::unpack_half(r, 1);
}

template <typename T>
inline T load(const void* address) {
    if ((uintptr_t)address % sizeof(T)) emu::fail("global load is not aligned to %d bytes", (int)sizeof(T));
    emu::note_global_read(address, sizeof(T));
    T value;
    std::memcpy(&value, address, sizeof(T));
    return value;
}

template <typename T>
inline void store(void* address, T value) {
    if ((uintptr_t)address % sizeof(T)) emu::fail("global store is not aligned to %d bytes", (int)sizeof(T));
    emu::note_global_write(address, sizeof(T));
    std::memcpy(address, &value, sizeof(T));
}

inline void atomic_max(u32* address, u32 value) {
    emu::note_global_write(address, 4, true);
    if (value > *address) *address = value;
}
