// Exact attention: bfloat16 or float16 inputs, fp32 logits, softmax and accumulation, optional additive key bias, and
// the log-sum-exp. It is the reference on the GPU and serves what SDPA cannot return; it is not faster than flash SDPA.
#include "attention.cuh"

template <int D, bool BF16>
struct Exact {
    static constexpr int DIM = D, QK_ROW = 2 * D, V_ROW = 2 * D, QK_STEPS = D / 16;
    // bf16 has fp32's range, so probabilities up to 2^-24 cost nothing and keep the sum over 2^24 keys of the largest
    // bf16 value finite. fp16 cannot overflow an fp32 sum and has no range to spare.
    static constexpr int OFFSET = BF16 ? 24 : 0;
    static constexpr float ZERO = 0.0f;
    // Beyond this a softmax has long been one-hot; keeps the difference of two logits finite.
    static constexpr float LOGIT_LIMIT = 1e30f;
    typedef float Score;

    static DEVICE void multiply_qk(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
        if (BF16)
            mma_bf16(c, a, b0, b1);
        else
            mma_f16(c, a, b0, b1);
    }

    static DEVICE u32 pack(float low, float high) { return BF16 ? pack_bf16(low, high) : pack_f16(low, high); }
    static DEVICE u32 pack_output(const AttentionArgs&, float low, float high) { return pack(low, high); }
    static DEVICE float output_limit(const AttentionArgs&) { return BF16 ? 3.3895313892515355e38f : 65504.0f; }
    static DEVICE float output_gain(const AttentionArgs&) { return 1.0f; }
    static DEVICE float lse_shift(const AttentionArgs&, i64) { return 0.0f; }
    static DEVICE void load_scales(u32, const AttentionArgs&, const KeyTile&) {}

    // Lowers the exponent of one row's bf16 pair by `shift`; what falls below the smallest normal becomes zero.
    static DEVICE u32 lower_exponent(u32 pair, int shift) {
        u32 low = pair & 0xffffu, high = pair >> 16;
        low = (int)((low >> 7) & 0xffu) > shift ? low - (shift << 7) : 0u;
        high = (int)((high >> 7) & 0xffu) > shift ? high - (shift << 7) : 0u;
        return low | (high << 16);
    }

    // A row of huge bf16 queries could overflow inside the tensor core to inf - inf. Bringing |q| below 2^-8 by an
    // exact power of two, undone in `factor`, keeps the sum of 128 products with any finite k finite.
    static DEVICE void prepare_queries(u32 (&q)[QK_STEPS][4], float (&factor)[2], const AttentionArgs& args) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            factor[r] = args.scale * LOG2_E;
            if (!BF16) continue;
            float top = 0.0f;
#pragma unroll
            for (int i = 0; i < QK_STEPS * 2; ++i) {
                float x, y;
                unpack_bf16(q[i >> 1][(i & 1) * 2 + r], x, y);
                top = maximum_nan(top, maximum_nan(absolute(x), absolute(y)));
            }
            top = maximum_nan(top, shuffle_xor(top, 1));
            top = maximum_nan(top, shuffle_xor(top, 2));
            int shift = (int)(float_bits(top) >> 23) - 118;
            // inf or NaN in the row: leave it, the result must show it.
            if (shift < 0 || shift > 136) shift = 0;
#pragma unroll
            for (int i = 0; i < QK_STEPS * 2; ++i)
                q[i >> 1][(i & 1) * 2 + r] = lower_exponent(q[i >> 1][(i & 1) * 2 + r], shift);
            factor[r] = minimum_nan(factor[r] * bits_float((shift / 2 + 127) << 23), 1e30f);
            factor[r] = minimum_nan(factor[r] * bits_float((shift - shift / 2 + 127) << 23), 1e38f);
        }
    }

    static DEVICE void logits(float (&s)[KEY_BLOCKS][4], const float (&score)[KEY_BLOCKS][4], const float (&factor)[2],
                              u32, const AttentionArgs& args, const KeyTile& at) {
        const int t = thread_index() & 3;
        const char* bias = nullptr;
        if (args.bias != nullptr)
            bias = args.bias + block_z() * args.bias_sb + block_y() * args.bias_sh + (at.second ? args.skv * 4ll : 0);
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                s[n][i] = minimum_nan(maximum_nan(score[n][i] * factor[i >> 1], -LOGIT_LIMIT), LOGIT_LIMIT);
            if (bias == nullptr) continue;
#pragma unroll
            for (int j = 0; j < 2; ++j) {
                const int key = at.first + n * 8 + 2 * t + j;
                const float extra = key < at.limit ? load<float>(bias + (i64)key * 4) * LOG2_E : 0.0f;
                s[n][j] += extra;
                s[n][2 + j] += extra;
            }
        }
    }

    static DEVICE void softmax(float (&s)[KEY_BLOCKS][4], const float (&)[2], Softmax& state) {
        const float unused[2] = {1.0f, 1.0f};
        softmax_step<OFFSET, false>(s, unused, state);
    }

    static DEVICE void multiply_values(float (&o)[D / 8][4], const u32 (&p)[TILE_K / 16][4], u32 tile,
                                       const Softmax& state) {
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
            for (int i = 0; i < 4; ++i) o[n][i] *= state.rescale[i >> 1];
#pragma unroll
        for (int step = 0; step < TILE_K / 16; ++step)
#pragma unroll
            for (int pair = 0; pair < D / 16; ++pair) {
                u32 v[4];
                load_value_fragment<Exact>(v, tile, step, pair);
                multiply_qk(o[2 * pair], p[step], v[0], v[1]);
                multiply_qk(o[2 * pair + 1], p[step], v[2], v[3]);
            }
    }
};

KERNEL(attention_bf16_d128, AttentionArgs) { attention<Exact<128, true>>(args); }
KERNEL(attention_bf16_d64, AttentionArgs) { attention<Exact<64, true>>(args); }
KERNEL(attention_f16_d128, AttentionArgs) { attention<Exact<128, false>>(args); }
KERNEL(attention_f16_d64, AttentionArgs) { attention<Exact<64, false>>(args); }
