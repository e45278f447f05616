/* The words of the bf16 kernels, for the vector vocabulary that was included before. Weights stand in pairs of inputs,
 * side by side for each output. Rows have a form of their own on each instruction set: floats, or bf16.
 *
 *   b_store(row, i, x)    stores inputs i, i + 1, ... VEC_WIDTH of them
 *   b_weights(p)          the weights of a pair for VEC_WIDTH outputs
 *   b_pair(row, pair)     a pair of inputs
 *   b_dot(sum, w, x)      sum + w x
 *   BF16_PARTS            registers that a pair of inputs takes
 */

#if defined(BF16_DOT)

#define BF16_PARTS 1

typedef __m512i vw_bf16, vx_bf16; /* __m512bh as an operand of asm crashes clang 16 */

VEC_INLINE void b_store(char *row, size_t i, vf x)
{
    _mm256_storeu_si256((void *)(row + 2 * i), (__m256i)_mm512_cvtneps_pbh(x));
}
VEC_INLINE vw_bf16 b_weights(const uint16_t *p) { return _mm512_loadu_si512(p); }
VEC_INLINE vx_bf16 b_pair(const char *row, size_t pair)
{
    int32_t word;
    memcpy(&word, row + pair * sizeof word, sizeof word);
    return _mm512_set1_epi32(word);
}
VEC_INLINE vf b_dot(vf sum, vw_bf16 w, vx_bf16 x)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x)); /* as i_dot in vec_int8.h */
    return sum;
}

#else

#define BF16_PARTS 2

typedef struct {
    vf first, second;
} vw_bf16, vx_bf16;

VEC_INLINE void b_store(char *row, size_t i, vf x) { v_store((float *)(void *)row + i, x); }

#if VEC_WIDTH == 16
VEC_INLINE vw_bf16 b_weights(const uint16_t *p)
{
    const __m512i pairs = _mm512_loadu_si512(p);
    return (vw_bf16){_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
                     _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)))};
}
#elif VEC_WIDTH == 8
VEC_INLINE vw_bf16 b_weights(const uint16_t *p)
{
    const __m256i pairs = _mm256_loadu_si256((const void *)p);
    return (vw_bf16){_mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
                     _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)))};
}
#elif VEC_WIDTH == 4
VEC_INLINE vw_bf16 b_weights(const uint16_t *p)
{
    const uint32x4_t pairs = vreinterpretq_u32_u16(vld1q_u16(p));
    return (vw_bf16){vreinterpretq_f32_u32(vshlq_n_u32(pairs, 16)),
                     vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(0xffff0000u)))};
}
#else
VEC_INLINE vf b_float(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    vf a;
    memcpy(&a, &wide, sizeof a);
    return a;
}
VEC_INLINE vw_bf16 b_weights(const uint16_t *p) { return (vw_bf16){b_float(p[0]), b_float(p[1])}; }
#endif

VEC_INLINE vx_bf16 b_pair(const char *row, size_t pair)
{
    const float *x = (const float *)(const void *)row + 2 * pair;
    return (vx_bf16){v_set1(x[0]), v_set1(x[1])};
}
VEC_INLINE vf b_dot(vf sum, vw_bf16 w, vx_bf16 x) { return v_fma(x.second, w.second, v_fma(x.first, w.first, sum)); }

#endif
