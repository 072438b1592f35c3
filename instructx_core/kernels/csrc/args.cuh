// Argument structs of the kernels, passed by value as the one kernel parameter; `abi.py` mirrors them field by field
// and documents each. Strides are in bytes, `_sb` per batch, `_ss` per token, `_sh` per head.
#pragma once

struct View {
    long long sb, ss, sh;
};

struct AttentionArgs {
    const char *q, *k, *v, *k2, *v2;
    char* o;
    float* lse;
    const char* bias;
    View sq_, sk, sv, sk2, sv2, so;
    long long bias_sb, bias_sh;
    float scale;
    int heads, sq, skv, skv2;
};

struct AttentionInt8Args {
    const char *q, *k, *v, *k2, *v2;
    char* o;
    float* lse;
    const float *q_scale, *k_scale, *k_scale2;
    const unsigned* v_max;
    const float *lse_shift, *lse_shift2;
    View sq_, sk, sv, sk2, sv2, so;
    float scale;
    int heads, sq, skv, skv2, out_bf16;
};

struct PrologueArgs {
    const char *q, *k, *v, *wq, *wk, *cos, *sin;
    const float *kshift, *kshift2;
    const unsigned* v_max;
    char *q8, *k8, *v16;
    float *q_scale, *k_scale, *lse_shift, *lse_shift2;
    View sq_, sk, sv;
    long long rope_sb, rope_ss, rope_se;
    float eps, scale;
    int heads, sq, skv, is_bf16, all_heads, first_head;
};

struct KvStatsArgs {
    const char *k, *v, *wk, *cos, *sin;
    unsigned* v_max;
    float* partial;
    View sk, sv;
    long long rope_sb, rope_ss, rope_se;
    float eps;
    int heads, skv, sample_stride, chunks, is_bf16;
};

struct KvShiftArgs {
    const float* partial;
    float* kshift;
    int width, chunks, samples;
};
