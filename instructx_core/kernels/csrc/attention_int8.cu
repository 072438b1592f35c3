// Fast attention: int8 Q K^T with one scale per token and head, fp32 softmax, fp16 P V. The fp16 accumulators (twice
// the rate of fp32 ones on GeForce) live for one tile of 64 keys and are then added to fp32 ones. V arrives scaled by
// 2^-e so that |v| < 2: a tile's sum stays below 128 and cannot overflow. Inputs come from prologue.cu.
#include "attention.cuh"

template <int D>
struct Int8 {
    static constexpr int DIM = D, QK_ROW = D, V_ROW = 2 * D, QK_STEPS = D / 32, OFFSET = 0;
    // The bits of 1.5 * 2^23: an integer sum below 2^22 added to them is the float 1.5 * 2^23 + sum, exactly, so that
    // one subtraction converts. The largest sum is 128 * 127 * 127 < 2^21.
    static constexpr int ZERO = 0x4b400000;
    typedef int Score;

    static DEVICE void multiply_qk(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_s8(c, a, b0, b1); }
    static DEVICE u32 pack(float low, float high) { return pack_f16(low, high); }

    static DEVICE u32 pack_output(const AttentionInt8Args& args, float low, float high) {
        return args.out_bf16 ? pack_bf16(low, high) : pack_f16(low, high);
    }

    static DEVICE float output_limit(const AttentionInt8Args& args) {
        return args.out_bf16 ? 3.3895313892515355e38f : 65504.0f;
    }

    // 2^e, e from the exponent bits of max |v|; bits of inf or NaN give inf, which shows in the output.
    static DEVICE float output_gain(const AttentionInt8Args& args) {
        const u32 exponent = load<u32>(args.v_max + block_z() * args.heads + block_y()) >> 23;
        return bits_float((exponent == 0 ? 1u : exponent) << 23);
    }

    static DEVICE float lse_shift(const AttentionInt8Args& args, i64 at) {
        return args.lse_shift == nullptr ? 0.0f : load<float>(args.lse_shift + at);
    }

    // The K scales of one tile, 4 bytes a thread: rows of [B, H, Skv] are not aligned to more.
    static DEVICE void load_scales(u32 tile, const AttentionInt8Args& args, const KeyTile& at) {
        const int i = thread_index();
        if (i >= TILE_K) return;
        const bool inside = at.first + i < at.limit;
        const float* base = at.second ? args.k_scale2 : args.k_scale;
        const i64 row = ((i64)block_z() * args.heads + block_y()) * at.limit;
        copy4(tile + i * 4, base + row + (inside ? at.first + i : 0), inside ? 4 : 0);
    }

    // factor = scale of this lane's two rows. Not below 1e-30: a row of zeros must still see -inf at masked keys.
    static DEVICE void prepare_queries(u32 (&)[QK_STEPS][4], float (&factor)[2], const AttentionInt8Args& args) {
        const int lane = thread_index() & 31, warp = thread_index() >> 5;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = block_x() * TILE_Q + warp * 16 + r * 8 + (lane >> 2);
            const i64 at = ((i64)block_z() * args.heads + block_y()) * args.sq + row;
            factor[r] = row < args.sq ? load<float>(args.q_scale + at) * (args.scale * LOG2_E) : 1.0f;
            factor[r] = maximum_nan(factor[r], 1e-30f);
        }
    }

    // The row's factor is applied inside the softmax, where it costs nothing.
    static DEVICE void logits(float (&s)[KEY_BLOCKS][4], const int (&score)[KEY_BLOCKS][4], const float (&factor)[2],
                              u32 scale_tile, const AttentionInt8Args& args, const KeyTile& at) {
        const int t = thread_index() & 3;
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; ++n) {
            float scale[2];
            shared_load2(scale_tile + (n * 8 + 2 * t) * 4, scale[0], scale[1]);
#pragma unroll
            for (int i = 0; i < 4; ++i) s[n][i] = (bits_float(score[n][i]) - 12582912.0f) * scale[i & 1];
        }
        if (at.second && args.lse_shift2 != nullptr) add_shift(s, factor, args);
    }

    // The second segment's keys lost another shift than the first one's: the difference, before the row's factor.
    static DEVICE void add_shift(float (&s)[KEY_BLOCKS][4], const float (&factor)[2], const AttentionInt8Args& args) {
        const int lane = thread_index() & 31, warp = thread_index() >> 5;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = block_x() * TILE_Q + warp * 16 + r * 8 + (lane >> 2);
            if (row >= args.sq) continue;
            const i64 at = ((i64)block_z() * args.heads + block_y()) * args.sq + row;
            const float difference = load<float>(args.lse_shift2 + at) - lse_shift(args, at);
            const float shift = difference * LOG2_E / factor[r];
#pragma unroll
            for (int n = 0; n < KEY_BLOCKS; ++n)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; ++i) s[n][i] += shift;
        }
    }

    static DEVICE void softmax(float (&s)[KEY_BLOCKS][4], const float (&factor)[2], Softmax& state) {
        softmax_step<OFFSET, true>(s, factor, state);
    }

    static DEVICE void multiply_values(float (&o)[D / 8][4], const u32 (&p)[TILE_K / 16][4], u32 tile,
                                       const Softmax& state) {
#pragma unroll
        for (int pair = 0; pair < D / 16; ++pair) {
            u32 c[2][2] = {{0, 0}, {0, 0}};
#pragma unroll
            for (int step = 0; step < TILE_K / 16; ++step) {
                u32 v[4];
                load_value_fragment<Int8>(v, tile, step, pair);
                mma_f16_f16(c[0], p[step], v[0], v[1]);
                mma_f16_f16(c[1], p[step], v[2], v[3]);
            }
#pragma unroll
            for (int half = 0; half < 2; ++half)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float(&out)[4] = o[2 * pair + half];
                    float x, y;
                    unpack_f16(c[half][r], x, y);
                    out[2 * r] = multiply_add(out[2 * r], state.rescale[r], x);
                    out[2 * r + 1] = multiply_add(out[2 * r + 1], state.rescale[r], y);
                }
        }
    }
};

KERNEL(attention_int8_d128, AttentionInt8Args) { attention<Int8<128>>(args); }
KERNEL(attention_int8_d64, AttentionInt8Args) { attention<Int8<64>>(args); }
