// From the q, k, v projections to the inputs of attention_int8.cu in one pass: Wan's RMSNorm across heads, 3D RoPE, the
// K shift, a fixed signed Hadamard rotation, int8 with one scale per token and head, and V scaled by 2^-e to fp16.
// kv_stats and kv_shift come before it: max |v| per head, and the mean of a sample of the keys.
// One block per token, because the norm spans all heads; a warp takes a head at a time, a lane D/32 values.
// Values are kept at 1/16 of their size between norm and quantisation, so that no sum of finite inputs overflows.
#include "args.cuh"
#include "ptx.cuh"

constexpr int WARPS = 8;
constexpr float SIXTEENTH = 0.0625f;
constexpr float SHIFT_LIMIT = 1.152921504606847e18f;  // 2^60
constexpr float SCALE_LIMIT = 1125899906842624.0f;    // 2^50
constexpr float TINY = 1e-30f;

DEVICE float clamp(float x, float limit) { return minimum_nan(maximum_nan(x, -limit), limit); }

DEVICE float warp_sum(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) x += shuffle_xor(x, mask);
    return x;
}

// The head's 32 N floats of a shift [B, H, D]; zeros without one.
template <int N>
DEVICE void load_shift(float (&shift)[N], const float* table, i64 head) {
    const int lane = thread_index() & 31;
#pragma unroll
    for (int i = 0; i < N; ++i) shift[i] = table == nullptr ? 0.0f : load<float>(table + (head * 32 + lane) * N + i);
}

DEVICE float warp_max(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask >>= 1) x = maximum_nan(x, shuffle_xor(x, mask));
    return x;
}

// N = 2 or 4 neighbouring bf16 or fp16 values.
template <int N>
DEVICE void load_values(float (&x)[N], const char* address, int is_bf16) {
#pragma unroll
    for (int i = 0; i < N; i += 2) {
        const u32 pair = load<u32>(address + i * 2);
        if (is_bf16)
            unpack_bf16(pair, x[i], x[i + 1]);
        else
            unpack_f16(pair, x[i], x[i + 1]);
    }
}

// Sum of squares over a token's H*D values, in two scalings: the second survives where the first overflows.
struct Squares {
    float plain, small;
};

constexpr float SMALL = 2.117582368135751e-22f;  // 2^-72

template <int N>
DEVICE Squares sum_squares(const char* token, i64 head_stride, int heads, int is_bf16) {
    const int lane = thread_index() & 31, warp = thread_index() >> 5;
    Squares sum = {0.0f, 0.0f};
    for (int h = warp; h < heads; h += WARPS) {
        float x[N];
        load_values<N>(x, token + h * head_stride + lane * N * 2, is_bf16);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float y = x[i] * SMALL;
            sum.plain = multiply_add(x[i], x[i], sum.plain);
            sum.small = multiply_add(y, y, sum.small);
        }
    }
    return {warp_sum(sum.plain), warp_sum(sum.small)};
}

// 1 / sqrt(mean of squares + eps) over the block, from each warp's sums; `scratch`: 16 floats of shared memory.
DEVICE float inverse_rms(Squares sum, u32 scratch, int width, float eps) {
    const int lane = thread_index() & 31, warp = thread_index() >> 5;
    if (lane == 0) {
        shared_store(scratch + warp * 8, sum.plain);
        shared_store(scratch + warp * 8 + 4, sum.small);
    }
    block_barrier();
    Squares total = {0.0f, 0.0f};
#pragma unroll
    for (int w = 0; w < WARPS; ++w) {
        total.plain += shared_load(scratch + w * 8);
        total.small += shared_load(scratch + w * 8 + 4);
    }
    if (total.plain < 3e38f) return 1.0f / square_root(total.plain / width + eps);
    return SMALL / square_root(total.small / width);
}

// Angles of this lane's pairs; the same for every head of a token.
template <int N>
struct Angles {
    float cos[N / 2], sin[N / 2];

    DEVICE void read(const char* cos_table, const char* sin_table, i64 offset, i64 pair_stride) {
        const int lane = thread_index() & 31;
#pragma unroll
        for (int i = 0; i < N / 2; ++i) {
            const i64 at = offset + (lane * (N / 2) + i) * pair_stride;
            cos[i] = cos_table == nullptr ? 1.0f : load<float>(cos_table + at);
            sin[i] = cos_table == nullptr ? 0.0f : load<float>(sin_table + at);
        }
    }
};

// x = 1/16 of RoPE(norm(x)) of one head; `factor` is the norm's, 1 without one, `weight` null without one.
template <int N>
DEVICE void load_head(float (&x)[N], const char* head, const char* weight, float factor, const Angles<N>& angles,
                      int is_bf16) {
    const int lane = thread_index() & 31;
    load_values<N>(x, head + lane * N * 2, is_bf16);
    float w[N];
    if (weight != nullptr) load_values<N>(w, weight + lane * N * 2, is_bf16);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = x[i] * factor * SIXTEENTH * (weight != nullptr ? w[i] : 1.0f);
#pragma unroll
    for (int i = 0; i < N; i += 2) {
        const float even = x[i], odd = x[i + 1];
        x[i] = even * angles.cos[i / 2] - odd * angles.sin[i / 2];
        x[i + 1] = even * angles.sin[i / 2] + odd * angles.cos[i / 2];
    }
}

// The fixed signs: the first 128 binary digits of pi's fraction. Also in reference.py.
DEVICE u32 sign_word(int index) {
    return index == 0 ? 0x243f6a88u : index == 1 ? 0x85a308d3u : index == 2 ? 0x13198a2eu : 0x03707344u;
}

// Signed Hadamard transform of the warp's 32 N values, scaled to be orthonormal.
template <int N>
DEVICE void rotate(float (&x)[N]) {
    const int lane = thread_index() & 31;
    const float norm = N == 4 ? 0.08838834764831845f : 0.125f;  // 1 / sqrt(D)
    const u32 signs = sign_word(lane * N / 32) >> (lane * N % 32);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] *= (signs >> i) & 1u ? -norm : norm;
#pragma unroll
    for (int step = 1; step < N; step *= 2)
#pragma unroll
        for (int i = 0; i < N; ++i)
            if ((i & step) == 0) {
                const float a = x[i], b = x[i + step];
                x[i] = a + b;
                x[i + step] = a - b;
            }
#pragma unroll
    for (int mask = 1; mask < 32; mask *= 2)
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float other = shuffle_xor(x[i], mask);
            x[i] = lane & mask ? other - x[i] : x[i] + other;
        }
}

// Writes the head's int8 values and its scale. inf or NaN in the row makes the scale NaN, so that it shows.
template <int N>
DEVICE void quantize(const float (&x)[N], char* out, float* scale_out) {
    const int lane = thread_index() & 31;
    float top = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i) top = maximum_nan(top, absolute(x[i]));
    top = warp_max(top);
    if (top < TINY) top = 0.0f;
    const float inverse = top == 0.0f ? 0.0f : 127.0f / top;
    u32 packed = 0;
#pragma unroll
    for (int i = 0; i < N; ++i) packed |= ((u32)round_even(x[i] * inverse) & 0xffu) << (8 * i);
    if (N == 4)
        store<u32>(out + lane * 4, packed);
    else
        store<u16>(out + lane * 2, (u16)packed);
    if (lane != 0) return;
    const float scale = minimum_nan(top * (16.0f / 127.0f), SCALE_LIMIT);
    store<float>(scale_out, top <= 3.4028234e38f ? scale : bits_float(0x7fc00000u));
}

// V's head times 2^-e, to fp16. e is the exponent of max |v| (zero and subnormals count as 2^-126).
template <int N>
DEVICE void scale_values(const char* head, char* out, u32 max_bits, int is_bf16) {
    const int lane = thread_index() & 31;
    const int exponent = max_bits >> 23 == 0 ? 1 : (int)(max_bits >> 23);
    // 2^-e has exponent bits 254 - exponent; for e = 127 that is the subnormal 2^-127.
    const float factor = exponent >= 254 ? bits_float(0x00400000u) : bits_float((u32)(254 - exponent) << 23);
    float x[N];
    load_values<N>(x, head + lane * N * 2, is_bf16);
#pragma unroll
    for (int i = 0; i < N; i += 2)
        store<u32>(out + (lane * N + i) * 2, pack_f16(x[i] * factor, x[i + 1] * factor));
}

// What taking `shift` off the keys changed in this query's logits.
template <int N>
DEVICE void store_shift(float* out, const float (&x)[N], const float (&shift)[N], const PrologueArgs& args, i64 head,
                        int token) {
    float dot = 0.0f;
#pragma unroll
    for (int i = 0; i < N; ++i) dot = multiply_add(clamp(x[i], SHIFT_LIMIT), shift[i], dot);
    dot = warp_sum(dot);
    if (out != nullptr && (thread_index() & 31) == 0)
        store<float>(out + head * args.sq + token, dot * 16.0f * args.scale);
}

template <int D>
DEVICE void prologue(const PrologueArgs& args) {
    constexpr int N = D / 32;
    const int lane = thread_index() & 31, warp = thread_index() >> 5, token = block_x(), b = block_y();
    const int heads = args.heads, width = heads * D, all = args.all_heads, whole = all * D;
    const bool has_q = args.q != nullptr && token < args.sq;
    const bool has_k = args.k != nullptr && token < args.skv;
    const bool has_v = args.v != nullptr && token < args.skv;
    const char* q = args.q + b * args.sq_.sb + token * args.sq_.ss;
    const char* k = args.k + b * args.sk.sb + token * args.sk.ss;
    const char* v = args.v + b * args.sv.sb + token * args.sv.ss;

    float q_factor = 1.0f, k_factor = 1.0f;
    if (args.wq != nullptr && has_q)
        q_factor = inverse_rms(sum_squares<N>(q, args.sq_.sh, all, args.is_bf16), shared_base(), whole, args.eps);
    if (args.wk != nullptr && has_k)
        k_factor = inverse_rms(sum_squares<N>(k, args.sk.sh, all, args.is_bf16), shared_base() + 64, whole, args.eps);
    Angles<N> angles;
    angles.read(args.cos, args.sin, b * args.rope_sb + token * args.rope_ss, args.rope_se);

    for (int h = warp; h < heads; h += WARPS) {
        const int from = args.first_head + h;  // the head that is read; `h` is the one that is written
        const i64 head = (i64)b * heads + h, source = (i64)b * all + from;
        float shift[N], x[N];
        load_shift<N>(shift, args.kshift, source);
        if (has_q) {
            load_head<N>(x, q + from * args.sq_.sh, args.wq == nullptr ? nullptr : args.wq + from * D * 2, q_factor,
                         angles, args.is_bf16);
            store_shift<N>(args.lse_shift, x, shift, args, head, token);
            if (args.kshift2 != nullptr) {
                float other[N];
                load_shift<N>(other, args.kshift2, source);
                store_shift<N>(args.lse_shift2, x, other, args, head, token);
            }
            rotate<N>(x);
            quantize<N>(x, args.q8 + ((i64)b * args.sq + token) * width + h * D, args.q_scale + head * args.sq + token);
        }
        const i64 at = ((i64)b * args.skv + token) * width + h * D;
        if (has_k) {
            load_head<N>(x, k + from * args.sk.sh, args.wk == nullptr ? nullptr : args.wk + from * D * 2, k_factor,
                         angles, args.is_bf16);
#pragma unroll
            for (int i = 0; i < N; ++i) x[i] -= shift[i] * SIXTEENTH;
            rotate<N>(x);
            quantize<N>(x, args.k8 + at, args.k_scale + head * args.skv + token);
        }
        if (has_v)
            scale_values<N>(v + from * args.sv.sh, args.v16 + at * 2, load<u32>(args.v_max + source), args.is_bf16);
    }
}

// One block takes a run of tokens. K sums stay in shared memory, where each value belongs to one lane.
template <int D>
DEVICE void statistics(const KvStatsArgs& args) {
    constexpr int N = D / 32;
    const int lane = thread_index() & 31, warp = thread_index() >> 5, chunk = block_x(), b = block_y();
    const int heads = args.heads, width = heads * D;
    const int first = (int)((i64)chunk * args.skv / args.chunks);
    const int last = (int)((i64)(chunk + 1) * args.skv / args.chunks);
    if (args.v != nullptr)
        for (int h = warp; h < heads; h += WARPS) {
            const char* v = args.v + b * args.sv.sb + h * args.sv.sh + lane * N * 2;
            u32 top = 0;
            for (int token = first; token < last; ++token) {
                float x[N];
                load_values<N>(x, v + token * args.sv.ss, args.is_bf16);
#pragma unroll
                for (int i = 0; i < N; ++i) {
                    const u32 bits = float_bits(x[i]) & 0x7fffffffu;
                    top = bits > top ? bits : top;
                }
            }
            // Bits of non-negative floats order like integers, NaN last; the order of the updates does not matter.
#pragma unroll
            for (int mask = 16; mask > 0; mask >>= 1) {
                const u32 other = float_bits(shuffle_xor(bits_float(top), mask));
                top = other > top ? other : top;
            }
            if (lane == 0) atomic_max(args.v_max + b * heads + h, top);
        }
    if (args.k == nullptr) return;

    const u32 sums = shared_base(), scratch = sums + width * 4;
    for (int h = warp; h < heads; h += WARPS)
#pragma unroll
        for (int i = 0; i < N; ++i) shared_store(sums + (h * D + lane * N + i) * 4, 0.0f);
    const int stride = args.sample_stride;
    for (int token = (first + stride - 1) / stride * stride; token < last; token += stride) {
        const char* k = args.k + b * args.sk.sb + token * args.sk.ss;
        float factor = 1.0f;
        if (args.wk != nullptr) {
            const Squares squares = sum_squares<N>(k, args.sk.sh, heads, args.is_bf16);
            block_barrier();  // the last token's sums have been read
            factor = inverse_rms(squares, scratch, width, args.eps);
        }
        Angles<N> angles;
        angles.read(args.cos, args.sin, b * args.rope_sb + token * args.rope_ss, args.rope_se);
        for (int h = warp; h < heads; h += WARPS) {
            float x[N];
            load_head<N>(x, k + h * args.sk.sh, args.wk == nullptr ? nullptr : args.wk + h * D * 2, factor, angles,
                         args.is_bf16);
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const u32 at = sums + (h * D + lane * N + i) * 4;
                shared_store(at, shared_load(at) + clamp(x[i] * 16.0f, SHIFT_LIMIT));
            }
        }
    }
    float* partial = args.partial + ((i64)b * args.chunks + chunk) * width;
    for (int h = warp; h < heads; h += WARPS)
#pragma unroll
        for (int i = 0; i < N; ++i)
            store<float>(partial + h * D + lane * N + i, shared_load(sums + (h * D + lane * N + i) * 4));
}

KERNEL(qkv_prologue_d128, PrologueArgs) { prologue<128>(args); }
KERNEL(qkv_prologue_d64, PrologueArgs) { prologue<64>(args); }
KERNEL(kv_stats_d128, KvStatsArgs) { statistics<128>(args); }
KERNEL(kv_stats_d64, KvStatsArgs) { statistics<64>(args); }

KERNEL(kv_shift, KvShiftArgs) {
    const int channel = block_x() * 256 + thread_index(), b = block_y();
    if (channel >= args.width) return;
    float sum = 0.0f;
    for (int chunk = 0; chunk < args.chunks; ++chunk)
        sum += load<float>(args.partial + ((i64)b * args.chunks + chunk) * args.width + channel);
    store<float>(args.kshift + (i64)b * args.width + channel, clamp(sum / args.samples, SHIFT_LIMIT));
}
