/* The words of the bf16 kernels, for the vector vocabulary that was included before. Weights stand in pairs of inputs,
 * side by side for each output. Rows have a form of their own on each instruction set: floats, or two bf16 halves whose sum is
 * within 2^-17 of them, each half in the order of the inputs.
 *
 *   b_split(row, pad, i, x)    stores inputs i, i + 1, ... VEC_WIDTH of them
 *   b_weights(p)               the weights of a pair for VEC_WIDTH outputs
 *   b_pair(row, pad, pair)     a pair of inputs
 *   b_dot(sum, w, x, whole)    sum + w x; of halves, the upper one alone unless `whole`
 *   BF16_ALWAYS_WHOLE          rows are floats
 */

#if defined(BF16_DOT)

#define BF16_ALWAYS_WHOLE false

typedef __m512bh vw_bf16;
typedef struct {
    __m512bh high, low;
} vx_bf16;

VEC_INLINE void b_split(char *row, size_t pad, size_t i, vf x)
{
    const __m256bh high = _mm512_cvtneps_pbh(x);
    const vf upper = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16));
    const __mmask16 finite = _mm512_cmp_ps_mask(_mm512_abs_ps(upper), _mm512_set1_ps(INFINITY), _CMP_LT_OQ);
    const __m256bh low = _mm512_cvtneps_pbh(_mm512_maskz_sub_ps(finite, x, upper));
    _mm256_storeu_si256((void *)(row + 2 * i), (__m256i)high);
    _mm256_storeu_si256((void *)(row + 2 * pad + 2 * i), (__m256i)low);
}
VEC_INLINE vw_bf16 b_weights(const uint16_t *p) { return (__m512bh)_mm512_loadu_si512(p); }
VEC_INLINE __m512bh b_word(const char *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return (__m512bh)_mm512_set1_epi32(word);
}
VEC_INLINE vx_bf16 b_pair(const char *row, size_t pad, size_t pair)
{
    return (vx_bf16){b_word(row + 4 * pair), b_word(row + 2 * pad + 4 * pair)};
}
VEC_INLINE vf b_dot(vf sum, vw_bf16 w, vx_bf16 x, bool whole)
{
    sum = _mm512_dpbf16_ps(sum, w, x.high);
    return whole ? _mm512_dpbf16_ps(sum, w, x.low) : sum;
}

#else

#define BF16_ALWAYS_WHOLE true

typedef struct {
    vf first, second;
} vw_bf16, vx_bf16;

VEC_INLINE void b_split(char *row, size_t pad, size_t i, vf x)
{
    (void)pad;
    v_store((float *)(void *)row + i, x);
}

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

VEC_INLINE vx_bf16 b_pair(const char *row, size_t pad, size_t pair)
{
    (void)pad;
    const float *x = (const float *)(const void *)row + 2 * pair;
    return (vx_bf16){v_set1(x[0]), v_set1(x[1])};
}
VEC_INLINE vf b_dot(vf sum, vw_bf16 w, vx_bf16 x, bool whole)
{
    (void)whole;
    return v_fma(x.second, w.second, v_fma(x.first, w.first, sum));
}

#endif
