// The attention loop shared by the exact and the int8 kernel (FlashAttention-2 scheme): one block holds 128 query rows
// in registers, 8 warps of 16 rows, and walks over the keys in tiles of 64 with an online softmax in base 2.
// K and V have one buffer each and hide behind each other: V[i] loads during QK[i], K[i+1] during PV[i].
// Keys may come as two segments (video tokens, then reference tokens): each is walked with its own tail.
// A Policy gives the number formats; g = lane / 4 and t = lane % 4 name a lane's place in the fragments.
#pragma once
#include "args.cuh"
#include "ptx.cuh"

constexpr int TILE_Q = 128;
constexpr int TILE_K = 64;
constexpr int THREADS = 256;
constexpr int KEY_BLOCKS = TILE_K / 8;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

DEVICE float negative_infinity() { return bits_float(0xff800000u); }

// Byte offset of a 16-byte chunk in a tile. The XOR spreads the 8 rows that one ldmatrix phase reads over all banks.
template <int ROW_BYTES>
DEVICE u32 swizzle(int row, int chunk) {
    const int key = ROW_BYTES >= 128 ? row & 7 : (row >> 1) & 3;
    return row * ROW_BYTES + ((chunk ^ key) << 4);
}

// Starts the copy of ROWS rows, from row `first` on; rows at or past `limit` become zero and read no memory.
template <int ROWS, int ROW_BYTES>
DEVICE void load_tile(u32 tile, const char* base, i64 stride, int first, int limit) {
    constexpr int CHUNKS = ROW_BYTES / 16;
#pragma unroll
    for (int i = 0; i < ROWS * CHUNKS / THREADS; ++i) {
        const int index = i * THREADS + thread_index();
        const int row = index / CHUNKS, chunk = index % CHUNKS;
        const bool inside = first + row < limit;
        const char* source = base + (inside ? first + row : 0) * stride + chunk * 16;
        copy16(tile + swizzle<ROW_BYTES>(row, chunk), source, inside ? 16 : 0);
    }
}

// Where the keys of tile `index` lie: in which segment, from which row on, up to which row.
struct KeyTile {
    bool second;
    int first, limit;
};

DEVICE KeyTile key_tile(int index, int skv, int skv2) {
    const int tiles = (skv + TILE_K - 1) / TILE_K;
    if (index < tiles) return {false, index * TILE_K, skv};
    return {true, (index - tiles) * TILE_K, skv2};
}

template <class Policy, class Args>
DEVICE void load_keys(u32 tile, const Args& args, const KeyTile& at) {
    const int b = block_z(), h = block_y();
    const View& view = at.second ? args.sk2 : args.sk;
    const char* base = (at.second ? args.k2 : args.k) + b * view.sb + h * view.sh;
    load_tile<TILE_K, Policy::QK_ROW>(tile, base, view.ss, at.first, at.limit);
}

template <class Policy, class Args>
DEVICE void load_values(u32 tile, const Args& args, const KeyTile& at) {
    const int b = block_z(), h = block_y();
    const View& view = at.second ? args.sv2 : args.sv;
    const char* base = (at.second ? args.v2 : args.v) + b * view.sb + h * view.sh;
    load_tile<TILE_K, Policy::V_ROW>(tile, base, view.ss, at.first, at.limit);
}

// A fragments of this warp's 16 query rows: matrices (rows 0-7, 8-15) x (first, second half of the step).
template <class Policy>
DEVICE void load_queries(u32 (&q)[Policy::QK_STEPS][4], u32 tile) {
    const int lane = thread_index() & 31, warp = thread_index() >> 5;
    const int row = warp * 16 + (lane & 15), half = lane >> 4;
#pragma unroll
    for (int step = 0; step < Policy::QK_STEPS; ++step)
        load_matrix(q[step], tile + swizzle<Policy::QK_ROW>(row, step * 2 + half));
}

// s = Q K^T for 16 rows x 64 keys. s[n] covers keys 8n..8n+7: [0], [1] at row g, [2], [3] at row g + 8, keys 2t, 2t+1.
template <class Policy>
DEVICE void multiply_keys(typename Policy::Score (&s)[KEY_BLOCKS][4], const u32 (&q)[Policy::QK_STEPS][4], u32 tile) {
    const int lane = thread_index() & 31;
    const int row = (lane & 7) + ((lane >> 4) << 3), half = (lane >> 3) & 1;
#pragma unroll
    for (int n = 0; n < KEY_BLOCKS; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) s[n][i] = Policy::ZERO;
#pragma unroll
    for (int step = 0; step < Policy::QK_STEPS; ++step)
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; n += 2) {
            u32 k[4];
            load_matrix(k, tile + swizzle<Policy::QK_ROW>(n * 8 + row, step * 2 + half));
            Policy::multiply_qk(s[n], q[step], k[0], k[1]);
            Policy::multiply_qk(s[n + 1], q[step], k[2], k[3]);
        }
}

// Keys at or past the segment's end get -inf.
DEVICE void mask_tail(float (&s)[KEY_BLOCKS][4], int keys) {
    const int t = thread_index() & 3;
#pragma unroll
    for (int n = 0; n < KEY_BLOCKS; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
            if (n * 8 + 2 * t + (i & 1) >= keys) s[n][i] = negative_infinity();
}

// One row of 16 is shared by 4 lanes: the state below is equal in them, but `sum` is each lane's own part.
// base = running maximum of the logits in log2 units; every probability is 2^(logit - base - OFFSET).
struct Softmax {
    float base[2], sum[2], rescale[2];
};

// From here on a logit in log2 units is so large that s * factor must be rounded before the base is subtracted.
constexpr float FAR = 4096.0f;

// Turns s into probabilities; logit = s * factor, factor > 0. `rescale` is what the earlier output is multiplied by.
template <int OFFSET, bool FACTORED>
DEVICE void softmax_step(float (&s)[KEY_BLOCKS][4], const float (&factor)[2], Softmax& state) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float top = s[0][2 * r];
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; ++n) top = maximum(top, maximum(s[n][2 * r], s[n][2 * r + 1]));
        top = maximum(top, shuffle_xor(top, 1));
        top = maximum(top, shuffle_xor(top, 2));
        const float base = maximum(state.base[r], FACTORED ? multiply_rounded(top, factor[r]) : top);
        // All keys so far masked: any finite base gives probabilities 2^-inf = 0.
        const float safe = base == negative_infinity() ? 0.0f : base;
        state.rescale[r] = exp2_fast(state.base[r] - safe);
        state.base[r] = base;
        // A fused multiply-add sees the product before rounding: near the maximum that can be far above the base.
        if (FACTORED && absolute(safe) > FAR) {
#pragma unroll
            for (int n = 0; n < KEY_BLOCKS; ++n)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; ++i)
                    s[n][i] = exp2_fast(multiply_rounded(s[n][i], factor[r]) - safe);
        } else {
#pragma unroll
            for (int n = 0; n < KEY_BLOCKS; ++n)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; ++i)
                    s[n][i] = exp2_fast(multiply_add(s[n][i], FACTORED ? factor[r] : 1.0f, -safe) - OFFSET);
        }
        float sum = 0.0f;
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; ++n) sum += s[n][2 * r] + s[n][2 * r + 1];
        state.sum[r] = multiply_add(state.sum[r], state.rescale[r], sum);
    }
}

// A fragments of the probabilities: the C layout of two key blocks is the A layout of one 16-key step.
template <class Policy>
DEVICE void pack_probabilities(u32 (&p)[TILE_K / 16][4], const float (&s)[KEY_BLOCKS][4]) {
#pragma unroll
    for (int step = 0; step < TILE_K / 16; ++step)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float(&c)[4] = s[2 * step + (i >> 1)];
            p[step][i] = Policy::pack(c[(i & 1) * 2], c[(i & 1) * 2 + 1]);
        }
}

// B fragments of 16 keys x 16 channels of V, transposed while loading: [0], [1] for channels 0-7, [2], [3] for 8-15.
template <class Policy>
DEVICE void load_value_fragment(u32 (&v)[4], u32 tile, int step, int pair) {
    const int lane = thread_index() & 31;
    load_matrix_trans(v, tile + swizzle<Policy::V_ROW>(step * 16 + (lane & 15), pair * 2 + (lane >> 4)));
}

// o [8-channel block][C fragment]; writes o * 1/sum * gain and the log-sum-exp.
template <class Policy, class Args>
DEVICE void write_output(const Args& args, const float (&o)[Policy::DIM / 8][4], Softmax& state, float gain) {
    const int lane = thread_index() & 31, warp = thread_index() >> 5, b = block_z(), h = block_y();
    const float limit = Policy::output_limit(args);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float sum = state.sum[r];
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        const int row = block_x() * TILE_Q + warp * 16 + r * 8 + (lane >> 2);
        if (row >= args.sq) continue;
        const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
        char* out = args.o + b * args.so.sb + h * args.so.sh + row * args.so.ss + (lane & 3) * 4;
#pragma unroll
        for (int n = 0; n < Policy::DIM / 8; ++n) {
            // Rounding of the probabilities can lift a mean of largest values above the largest value.
            const float x = minimum_nan(maximum_nan(o[n][2 * r] * inverse * gain, -limit), limit);
            const float y = minimum_nan(maximum_nan(o[n][2 * r + 1] * inverse * gain, -limit), limit);
            store<u32>(out + n * 16, Policy::pack_output(args, x, y));
        }
        if (args.lse != nullptr && (lane & 3) == 0) {
            const i64 at = ((i64)b * args.heads + h) * args.sq + row;
            const float lse = (state.base[r] + (log2_exact(sum) + Policy::OFFSET)) * LN_2;
            store<float>(args.lse + at, lse + Policy::lse_shift(args, at));
        }
    }
}

template <class Policy, class Args>
DEVICE void attention(const Args& args) {
    const int b = block_z(), h = block_y(), first = block_x() * TILE_Q;
    const int tiles = (args.skv + TILE_K - 1) / TILE_K + (args.skv2 + TILE_K - 1) / TILE_K;
    const u32 q_tile = shared_base();
    const u32 k_tile = q_tile + TILE_Q * Policy::QK_ROW;
    const u32 v_tile = k_tile + TILE_K * Policy::QK_ROW;
    const u32 scale_tile = v_tile + TILE_K * Policy::V_ROW;

    load_tile<TILE_Q, Policy::QK_ROW>(q_tile, args.q + b * args.sq_.sb + h * args.sq_.sh, args.sq_.ss, first, args.sq);
    KeyTile at = key_tile(0, args.skv, args.skv2);
    load_keys<Policy>(k_tile, args, at);
    Policy::load_scales(scale_tile, args, at);
    copy_commit();

    u32 q[Policy::QK_STEPS][4];
    float factor[2];
    float o[Policy::DIM / 8][4] = {};
    Softmax state = {{negative_infinity(), negative_infinity()}, {0.0f, 0.0f}, {0.0f, 0.0f}};
    copy_wait<0>();
    block_barrier();
    load_queries<Policy>(q, q_tile);
    Policy::prepare_queries(q, factor, args);

    for (int i = 0; i < tiles; ++i) {
        copy_wait<0>();   // K[i] has arrived for this thread,
        block_barrier();  // for all threads, and nobody reads V[i-1] any more
        load_values<Policy>(v_tile, args, at);
        copy_commit();
        typename Policy::Score score[KEY_BLOCKS][4];
        multiply_keys<Policy>(score, q, k_tile);
        float s[KEY_BLOCKS][4];
        Policy::logits(s, score, factor, scale_tile, args, at);
        if (at.limit - at.first < TILE_K) mask_tail(s, at.limit - at.first);
        Policy::softmax(s, factor, state);
        u32 p[TILE_K / 16][4];
        pack_probabilities<Policy>(p, s);
        copy_wait<0>();   // V[i] has arrived for this thread,
        block_barrier();  // for all threads, and nobody reads K[i] any more
        if (i + 1 < tiles) {
            at = key_tile(i + 1, args.skv, args.skv2);
            load_keys<Policy>(k_tile, args, at);
            Policy::load_scales(scale_tile, args, at);
            copy_commit();
        }
        Policy::multiply_values(o, p, v_tile, state);
    }
    write_output<Policy>(args, o, state, Policy::output_gain(args));
}
