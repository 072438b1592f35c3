// Runs every kernel on exact-size allocations under AddressSanitizer and UndefinedBehaviorSanitizer: an access one byte
// outside a tensor, a misaligned or overflowing operation ends the program. Values are checked by the python tests;
// here only that nothing is poisoned or not finite. Linked with the kernel sources; takes the number of the planted bug
// that is on (switches.py), 0 for none, and prints the number of launches.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "args.cuh"
#include "ptx.cuh"

#define LAUNCH(name) \
    extern "C" int launch_##name(const void*, const uint32_t*, uint32_t, uint32_t, uint32_t, char*, int);
LAUNCH(attention_bf16_d128)
LAUNCH(attention_bf16_d64)
LAUNCH(attention_f16_d128)
LAUNCH(attention_f16_d64)
LAUNCH(attention_int8_d128)
LAUNCH(attention_int8_d64)
LAUNCH(qkv_prologue_d128)
LAUNCH(qkv_prologue_d64)
LAUNCH(kv_stats_d128)
LAUNCH(kv_stats_d64)
LAUNCH(kv_shift)

typedef int (*Launch)(const void*, const uint32_t*, uint32_t, uint32_t, uint32_t, char*, int);
static int launches = 0;
static uint32_t state = 1;

static float random_value() {
    state = state * 1664525u + 1013904223u;
    return ((state >> 8) & 0xffff) / 32768.0f - 1.0f;
}

// A tensor with nothing after it; 16-byte aligned as malloc gives it.
template <typename T>
struct Tensor {
    T* data;
    explicit Tensor(size_t count) : data((T*)std::malloc(count * sizeof(T))) {
        std::memset((void*)data, 0xff, count * sizeof(T));
    }
    ~Tensor() { std::free(data); }
    operator char*() { return (char*)data; }
};

struct Half : Tensor<uint16_t> {
    Half(size_t count, bool bf16) : Tensor(count) {
        for (size_t i = 0; i < count; ++i) data[i] = bf16 ? emu::to_bf16(random_value()) : emu::to_f16(random_value());
    }
};

static void run(Launch launch, const char* name, const void* args, uint32_t x, uint32_t y, uint32_t z,
                uint32_t shared) {
    const uint32_t grid[3] = {x, y, z};
    char message[512] = "";
    if (launch(args, grid, 256, shared, 7u + launches++, message, sizeof message)) {
        std::printf("%s: %s\n", name, message);
        std::exit(1);
    }
}

static void finite(const Tensor<uint16_t>& t, size_t count, bool bf16, const char* name) {
    for (size_t i = 0; i < count; ++i)
        if (!std::isfinite(bf16 ? emu::from_bf16(t.data[i]) : emu::from_f16(t.data[i]))) {
            std::printf("%s: value %zu is not finite\n", name, i);
            std::exit(1);
        }
}

static View view(int tokens, int heads, int dim, int bytes) {
    return {(long long)tokens * heads * dim * bytes, (long long)heads * dim * bytes, (long long)dim * bytes};
}

static void exact(Launch launch, int batch, int heads, int dim, int sq, int skv, int skv2, bool bf16) {
    const size_t token = (size_t)batch * heads * dim;
    Half q(token * sq, bf16), k(token * skv, bf16), v(token * skv, bf16);
    Half k2(token * skv2, bf16), v2(token * skv2, bf16);
    Tensor<uint16_t> o(token * sq);
    Tensor<float> lse((size_t)batch * heads * sq), bias((size_t)batch * (skv + skv2));
    for (int i = 0; i < batch * (skv + skv2); ++i) bias.data[i] = random_value();
    AttentionArgs a = {q, k, v, skv2 ? (char*)k2 : nullptr, skv2 ? (char*)v2 : nullptr, o, lse.data, bias,
                       {}, {}, {}, {}, {}, {}, (skv + skv2) * 4, 0, 0.1f, heads, sq, skv, skv2};
    a.sq_ = a.so = view(sq, heads, dim, 2);
    a.sk = a.sv = view(skv, heads, dim, 2);
    a.sk2 = a.sv2 = view(skv2, heads, dim, 2);
    run(launch, "attention", &a, (sq + 127) / 128, heads, batch, 256 * dim * 2);
    finite(o, token * sq, bf16, "attention");
}

static void int8(Launch stats, Launch prologue, Launch attention, int batch, int heads, int dim, int sq, int skv,
                 bool bf16) {
    const size_t token = (size_t)batch * heads * dim, rows = (size_t)batch * heads;
    // Both segments are the same keys, the second with a shift of its own (twice the first one's values).
    const int width = heads * dim, chunks = skv < 128 ? skv : 128, length = sq > skv ? sq : skv;
    Half q(token * sq, bf16), k(token * skv, bf16), v(token * skv, bf16), wq(width, bf16), wk(width, bf16);
    Tensor<float> cos((size_t)length * dim / 2), sin((size_t)length * dim / 2), kshift(token), lse(rows * sq);
    for (int i = 0; i < length * dim / 2; ++i) cos.data[i] = sin.data[i] = 0.70710678f;
    Tensor<unsigned> v_max(rows);
    std::memset(v_max.data, 0, rows * 4);
    Tensor<float> partial((size_t)batch * chunks * width), q_scale(rows * sq), k_scale(rows * skv), shift(rows * sq);
    Tensor<float> kshift2(token), shift2(rows * sq);
    Tensor<uint8_t> q8(token * sq), k8(token * skv);
    Tensor<uint16_t> v16(token * skv), o(token * sq);
    const long long row = dim / 2 * 4;

    KvStatsArgs s = {k, v, wk, cos, sin, v_max.data, partial.data, view(skv, heads, dim, 2), view(skv, heads, dim, 2),
                     0, row, 4, 1e-6f, heads, skv, 1, chunks, bf16};
    run(stats, "kv_stats", &s, chunks, batch, 1, width * 4 + 64);
    KvShiftArgs m = {partial.data, kshift.data, width, chunks, skv};
    run(launch_kv_shift, "kv_shift", &m, (width + 255) / 256, batch, 1, 0);
    for (size_t i = 0; i < token; ++i) kshift2.data[i] = 2 * kshift.data[i];
    const View rows_q = view(sq, heads, dim, 2), rows_k = view(skv, heads, dim, 2), bytes_k = view(skv, heads, dim, 1);
    PrologueArgs p = {q, k, v, wq, wk, cos, sin, kshift.data, kshift2.data, v_max.data, q8, k8, v16, q_scale.data,
                      k_scale.data, shift.data, shift2.data, rows_q, rows_k, rows_k, 0, row, 4, 1e-6f, 0.1f, heads, sq,
                      skv, bf16, heads, 0};
    run(prologue, "qkv_prologue", &p, length, batch, 1, 128);
    AttentionInt8Args a = {q8, k8, v16, k8, v16, o, lse.data, q_scale.data, k_scale.data, k_scale.data, v_max.data,
                           shift.data, shift2.data, view(sq, heads, dim, 1), bytes_k, rows_k, bytes_k, rows_k, rows_q,
                           0.1f, heads, sq, skv, skv, bf16};
    run(attention, "attention_int8", &a, (sq + 127) / 128, heads, batch, 192 * dim + 128 * dim + 256);
    finite(o, token * sq, bf16, "attention_int8");
}

int main(int, char** arguments) {
    emu_mutant() = std::atoi(arguments[1]);
    const int shapes[][5] = {{1, 1, 1, 1, 0}, {1, 2, 129, 65, 3}, {2, 1, 17, 127, 64}, {1, 3, 128, 64, 1}};
    for (const auto& s : shapes) {
        exact(launch_attention_bf16_d128, s[0], s[1], 128, s[2], s[3], s[4], true);
        exact(launch_attention_bf16_d64, s[0], s[1], 64, s[2], s[3], s[4], true);
        exact(launch_attention_f16_d128, s[0], s[1], 128, s[2], s[3], s[4], false);
        exact(launch_attention_f16_d64, s[0], s[1], 64, s[2], s[3], s[4], false);
        int8(launch_kv_stats_d128, launch_qkv_prologue_d128, launch_attention_int8_d128, s[0], s[1], 128, s[2], s[3],
             true);
        int8(launch_kv_stats_d64, launch_qkv_prologue_d64, launch_attention_int8_d64, s[0], s[1], 64, s[2], s[3],
             false);
    }
    std::printf("%d launches\n", launches);
}
