// bfloat16 and float16 conversions of the CPU stand-in, written out bit by bit so that they need no compiler support.
#pragma once
#include <cstdint>
#include <cstring>

namespace emu {

inline uint32_t bits_of(float x) {
    uint32_t r;
    std::memcpy(&r, &x, 4);
    return r;
}

inline float float_of(uint32_t r) {
    float x;
    std::memcpy(&x, &r, 4);
    return x;
}

inline float from_bf16(uint16_t r) { return float_of((uint32_t)r << 16); }

inline uint16_t to_bf16(float x) {
    const uint32_t r = bits_of(x);
    if ((r & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (uint16_t)((r + 0x7fffu + ((r >> 16) & 1u)) >> 16);
}

inline float from_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 1023u;
    if (exponent == 31) return float_of(sign | 0x7f800000u | (mantissa << 13));
    if (exponent != 0) return float_of(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    const float x = (float)mantissa * 5.9604644775390625e-8f;  // subnormal: mantissa * 2^-24
    return sign ? -x : x;
}

inline uint16_t to_f16(float x) {
    const uint32_t r = bits_of(x), sign = (r >> 16) & 0x8000u, magnitude = r & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return 0x7fff;
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);  // 65520 and above round to infinity
    if (magnitude < 0x38800000u) {                                    // subnormal or zero: round to a multiple of 2^-24
        const float scaled = float_of(magnitude) * 16777216.0f;
        uint32_t whole = (uint32_t)scaled;
        const float rest = scaled - (float)whole;
        if (rest > 0.5f || (rest == 0.5f && (whole & 1u))) ++whole;
        return (uint16_t)(sign | whole);
    }
    const uint32_t shifted = magnitude - 0x38000000u;
    return (uint16_t)(sign | ((shifted + 0xfffu + ((shifted >> 13) & 1u)) >> 13));
}

}  // namespace emu
