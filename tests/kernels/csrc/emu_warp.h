// Warp collectives of the CPU stand-in: every lane leaves its operands, the last one computes for all 32.
//
// Fragment layouts (PTX manual, "Matrix Fragments for mma.m16n8k16 / m16n8k32"), g = lane / 4, t = lane % 4:
//   A 16-bit: a0 (row g, k 2t 2t+1), a1 (g+8, same), a2 (g, 2t+8 2t+9), a3 (g+8, 2t+8 2t+9)
//   B 16-bit: b0 (k 2t 2t+1, column g), b1 (k 2t+8 2t+9, g);   C: c0 c1 (g, 2t 2t+1), c2 c3 (g+8, same)
//   A 8-bit: 4 values in a register, k 4t..4t+3, a2 a3 at k+16; B 8-bit: b0 k 4t..4t+3, b1 at k+16; C as above
//   ldmatrix: lane 8m+i addresses row i of matrix m; lane l receives row l/4, values 2(l%4), +1;
//   with .trans: rows 2(l%4), +1 of column l/4.
// tests/kernels/csrc/test_layouts.py checks these against a second, independent source.
#pragma once
#include "emu_block.h"
#include "emu_numbers.h"

namespace emu {

typedef void (*Compute)(Slot&);

// Enters a collective: `words` operands of this lane; returns its 4 result words.
inline const uint32_t* collective(const char* name, const uint32_t* operands, int words, Compute compute) {
    Block& b = *block();
    Thread& me = self();
    const int warp = warp_of_self(), lane = b.current % LANES;
    Slot& slot = b.slot[2 * warp + (me.collectives++ & 1u)];
    if (slot.arrived == 0) slot.name = name;
    if (slot.name != name && std::strcmp(slot.name, name) != 0)
        fail("diverged warp: one lane at %s, another at %s", slot.name, name);
    for (int i = 0; i < words; ++i) slot.in[lane][i] = operands[i];
    if (++slot.arrived < LANES) {
        yield_to_scheduler(State::COLLECTIVE);
    } else {
        compute(slot);
        slot.arrived = 0;
        for (int i = 0; i < LANES; ++i)
            if (i != lane) b.thread[warp * LANES + i].state = State::READY;
    }
    return slot.out[lane];
}

inline void compute_shuffle(Slot& s) {
    for (int l = 0; l < LANES; ++l) s.out[l][0] = s.in[(l ^ s.in[l][1]) & 31][0];
}

// Bank check: the 8 rows of one phase must lie in 8 different 16-byte columns of the 128-byte wide memory.
inline void load_matrices(Slot& s, bool transposed) {
    Block& b = *block();
    for (int m = 0; m < 4; ++m) {
        const uint8_t* row[8];
        uint32_t columns = 0;
        for (int i = 0; i < 8; ++i) {
            const uint32_t address = s.in[8 * m + i][0];
            note_read(address, 16, true);
            row[i] = &b.shared[address];
            columns |= 1u << ((address >> 4) & 7);
        }
        if (columns != 0xffu) ++b.conflicts;
        for (int l = 0; l < LANES; ++l) {
            uint16_t value[2];
            for (int j = 0; j < 2; ++j) {
                const int outer = l / 4, inner = 2 * (l % 4) + j;
                const int from_row = transposed ? inner : outer, column = transposed ? outer : inner;
                std::memcpy(&value[j], row[from_row] + 2 * column, 2);
            }
            s.out[l][m] = value[0] | (uint32_t)value[1] << 16;
        }
    }
}

inline void compute_load_matrix(Slot& s) { load_matrices(s, false); }
inline void compute_load_matrix_trans(Slot& s) { load_matrices(s, true); }

// Multiplies 16xK by Kx8, values unpacked to T, PACK of them in a register, and hands each result to `finish`.
template <typename T, int PACK, typename Unpack, typename Finish>
inline void multiply(Slot& s, Unpack unpack, Finish finish) {
    constexpr int K = 8 * PACK;
    T a[16][K], b[K][8];
    for (int l = 0; l < LANES; ++l) {
        const int g = l / 4, t = l % 4;
        for (int r = 0; r < 4; ++r)
            for (int j = 0; j < PACK; ++j)
                a[g + (r & 1) * 8][PACK * t + j + (r >> 1) * (K / 2)] = unpack(s.in[l][r], j);
        for (int r = 0; r < 2; ++r)
            for (int j = 0; j < PACK; ++j) b[PACK * t + j + r * (K / 2)][g] = unpack(s.in[l][4 + r], j);
    }
    T c[16][8] = {};
    for (int i = 0; i < 16; ++i)
        for (int k = 0; k < K; ++k)
            for (int n = 0; n < 8; ++n) c[i][n] += a[i][k] * b[k][n];
    for (int l = 0; l < LANES; ++l)
        for (int i = 0; i < 4; ++i) finish(l, i, c[l / 4 + (i >> 1) * 8][2 * (l % 4) + (i & 1)]);
}

inline float unpack_half(uint32_t r, int j) { return from_f16((uint16_t)(r >> (16 * j))); }
inline float unpack_brain(uint32_t r, int j) { return from_bf16((uint16_t)(r >> (16 * j))); }
inline int unpack_byte(uint32_t r, int j) { return (int8_t)(r >> (8 * j)); }

// A GPU adds the products in some order of its own with some truncation: results agree to rounding, not bit for bit.
inline void compute_mma_bf16(Slot& s) {
    multiply<float, 2>(s, unpack_brain, [&s](int l, int i, float c) {
        s.out[l][i] = bits_of(float_of(s.in[l][6 + i]) + c);
    });
}

inline void compute_mma_f16(Slot& s) {
    multiply<float, 2>(s, unpack_half, [&s](int l, int i, float c) {
        s.out[l][i] = bits_of(float_of(s.in[l][6 + i]) + c);
    });
}

inline void compute_mma_f16_f16(Slot& s) {
    multiply<float, 2>(s, unpack_half, [&s](int l, int i, float c) {
        const float sum = unpack_half(s.in[l][6 + (i >> 1)], i & 1) + c;
        uint32_t& out = s.out[l][i >> 1];
        out = i & 1 ? (out & 0xffffu) | (uint32_t)to_f16(sum) << 16 : to_f16(sum);
    });
}

inline void compute_mma_s8(Slot& s) {
    multiply<int, 4>(s, unpack_byte, [&s](int l, int i, int c) { s.out[l][i] = s.in[l][6 + i] + (uint32_t)c; });
}

}  // namespace emu
