// One kernel for each instruction of ptx.cuh: words in, words out. test_sass.py reads what the compiler made of them.
#include "ptx.cuh"

struct SassArgs {
    const u32* in;
    u32* out;
};

DEVICE float real(const SassArgs& args, int i) { return bits_float(args.in[i]); }

template <int WORDS, class T>
DEVICE void store_all(const SassArgs& args, const T (&c)[WORDS]) {
    for (int i = 0; i < WORDS; ++i) ((T*)args.out)[i] = c[i];
}

#define MMA(name, T, WORDS)                                                     \
    KERNEL(sass_##name, SassArgs) {                                             \
        const u32 a[4] = {args.in[0], args.in[1], args.in[2], args.in[3]};      \
        T c[WORDS];                                                             \
        for (int i = 0; i < WORDS; ++i) c[i] = ((const T*)args.in)[6 + i];      \
        name(c, a, args.in[4], args.in[5]);                                     \
        store_all<WORDS>(args, c);                                              \
    }
MMA(mma_bf16, float, 4)
MMA(mma_f16, float, 4)
MMA(mma_f16_f16, u32, 2)
MMA(mma_s8, int, 4)

#define MATRIX(name)                \
    KERNEL(sass_##name, SassArgs) { \
        u32 r[4];                   \
        name(r, args.in[0]);        \
        store_all<4>(args, r);      \
    }
MATRIX(load_matrix)
MATRIX(load_matrix_trans)

KERNEL(sass_numbers, SassArgs) {
    args.out[0] = pack_f16(real(args, 0), real(args, 1));
    args.out[1] = pack_bf16(real(args, 0), real(args, 1));
    float low, high;
    unpack_f16(args.in[2], low, high);
    args.out[2] = float_bits(low);
    args.out[3] = float_bits(high);
    args.out[4] = float_bits(exp2_fast(real(args, 3)));
    args.out[5] = float_bits(maximum_nan(real(args, 4), real(args, 5)));
    args.out[6] = float_bits(minimum_nan(real(args, 4), real(args, 5)));
    args.out[7] = (u32)round_even(real(args, 6));
    float x, y;
    shared_load2(args.in[7], x, y);
    args.out[8] = float_bits(x);
    args.out[9] = float_bits(y);
}

// What has an effect instead of a value, in this order.
KERNEL(sass_order, SassArgs) {
    copy16(args.in[0], args.in + 8, 16);
    copy_commit();
    copy_wait<1>();
    block_barrier();
    copy4(args.in[1], args.in + 16, 4);
    copy_commit();
    copy_wait<0>();
    shared_store(args.in[2], real(args, 3));
    args.out[thread_index()] = float_bits(shuffle_xor(real(args, thread_index()), 2));
    atomic_max(args.out + 64 + thread_index(), args.in[thread_index()]);
}
