// Test kernels around pieces of attention.cuh and single instructions, so that a test can look at what lies inside.
// Each has the emulator's signature; with a GPU they compile with NVRTC like the real ones.
#include "attention.cuh"

// The raw int32 sums of the int8 kernel's own tile product: o is int32 [B, H, Sq, Skv], one segment.
template <int D>
struct Int8Scores {
    static constexpr int QK_ROW = D, QK_STEPS = D / 32, ZERO = 0x4b400000;
    typedef int Score;
    static DEVICE void multiply_qk(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_s8(c, a, b0, b1); }
};

template <int D>
DEVICE void integer_scores(const AttentionInt8Args& args) {
    typedef Int8Scores<D> Policy;
    const int b = block_z(), h = block_y(), first = block_x() * TILE_Q;
    const int lane = thread_index() & 31, warp = thread_index() >> 5;
    const u32 q_tile = shared_base(), k_tile = q_tile + TILE_Q * D;
    load_tile<TILE_Q, D>(q_tile, args.q + b * args.sq_.sb + h * args.sq_.sh, args.sq_.ss, first, args.sq);
    for (int key = 0; key < args.skv; key += TILE_K) {
        load_keys<Policy>(k_tile, args, key_tile(key / TILE_K, args.skv, 0));
        copy_commit();
        copy_wait<0>();
        block_barrier();
        u32 q[Policy::QK_STEPS][4];
        load_queries<Policy>(q, q_tile);
        int s[KEY_BLOCKS][4];
        multiply_keys<Policy>(s, q, k_tile);
        for (int n = 0; n < KEY_BLOCKS; ++n)
            for (int i = 0; i < 4; ++i) {
                const int row = first + warp * 16 + (i >> 1) * 8 + lane / 4, column = key + n * 8 + 2 * (lane & 3) + (i & 1);
                if (row >= args.sq || column >= args.skv) continue;
                const i64 at = (((i64)b * args.heads + h) * args.sq + row) * args.skv + column;
                ((int*)args.o)[at] = s[n][i] - Policy::ZERO;
            }
        block_barrier();
    }
}

KERNEL(probe_integer_scores_d128, AttentionInt8Args) { integer_scores<128>(args); }
KERNEL(probe_integer_scores_d64, AttentionInt8Args) { integer_scores<64>(args); }

// One instruction on given registers: in [32 lanes][10] = a0..a3, b0, b1, c0..c3, out [32][4].
struct ProbeArgs {
    const u32* in;
    u32* out;
    int kind;  // 0 bf16, 1 f16, 2 f16 with f16 accumulators, 3 s8
};

KERNEL(probe_mma, ProbeArgs) {
    const u32* in = args.in + thread_index() * 10;
    u32* out = args.out + thread_index() * 4;
    const u32 a[4] = {in[0], in[1], in[2], in[3]};
    if (args.kind == 2) {
        u32 c[2] = {in[6], in[7]};
        mma_f16_f16(c, a, in[4], in[5]);
        out[0] = c[0];
        out[1] = c[1];
    } else if (args.kind == 3) {
        int c[4] = {(int)in[6], (int)in[7], (int)in[8], (int)in[9]};
        mma_s8(c, a, in[4], in[5]);
        for (int i = 0; i < 4; ++i) out[i] = (u32)c[i];
    } else {
        float c[4];
        for (int i = 0; i < 4; ++i) c[i] = bits_float(in[6 + i]);
        if (args.kind == 0)
            mma_bf16(c, a, in[4], in[5]);
        else
            mma_f16(c, a, in[4], in[5]);
        for (int i = 0; i < 4; ++i) out[i] = float_bits(c[i]);
    }
}

// ldmatrix on 1 KB that is copied to shared memory first: after the data, one byte address a lane; out [32 lanes][4].
// kind 1: transposed.
KERNEL(probe_ldmatrix, ProbeArgs) {
    const char* data = (const char*)args.in;
    const int lane = thread_index();
    for (int i = lane; i < 64; i += 32) copy16(shared_base() + i * 16, data + i * 16, 16);
    copy_commit();
    copy_wait<0>();
    block_barrier();
    const u32 address = shared_base() + load<u32>(data + 1024 + lane * 4);
    u32 r[4];
    if (args.kind == 1)
        load_matrix_trans(r, address);
    else
        load_matrix(r, address);
    for (int i = 0; i < 4; ++i) args.out[lane * 4 + i] = r[i];
}

// Races that the emulator must stop at; kind: 0 none, 1 two lanes of a warp on shared memory, 2 two blocks write one
// value, 3 a block reads what another writes, 4 two warps of a block write one value, 5 atomic against plain.
KERNEL(probe_races, ProbeArgs) {
    const int me = thread_index(), kind = args.kind;
    shared_store(shared_base() + me * 4, 1.0f);
    shuffle_xor(1.0f, 1);  // lanes meet here, which orders no memory
    if (kind == 1) shared_load(shared_base() + (me ^ 1) * 4);
    block_barrier();
    shared_load(shared_base() + (me ^ 1) * 4);
    u32* own = args.out + block_x() * 64 + me;
    store<u32>(own, 1u);
    if (kind == 2 && me == 0) store<u32>(args.out + 200, 1u);
    if (kind == 3 && me == 0) load<u32>(args.out + 64 * (block_x() ^ 1));
    if (kind == 4 && (me & 31) == 0) store<u32>(args.out + 210 + block_x(), 1u);
    if (me == 1) atomic_max(args.out + 220, 7u);
    if (kind == 5 && me == 2) store<u32>(args.out + 220, 1u);
    block_barrier();
    load<u32>(args.out + block_x() * 64 + (me ^ 1));  // ordered by the barrier
}

#ifndef __CUDACC__
extern "C" void emu_choose(int number) { emu_mutant() = number; }
#endif
