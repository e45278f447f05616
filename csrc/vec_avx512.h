/* The vector vocabulary for AVX-512 (F, DQ): sixteen floats. Every vec_*.h has these words with these meanings.
 *
 *   v_load_n, v_store_n   the first n lanes only (0 <= n <= VEC_WIDTH); the rest load as 0, memory is not touched
 *   v_fma(a, b, c)        a b + c, rounded once where the instruction set has it
 *   v_min, v_max(a, b)    b where either is NaN: put the constant first and NaN passes through
 *   v_select_lt(a,b,x,y)  x where a < b, else y
 *   v_reduce_add_each     the sums of the lanes of four vectors, each in the same order
 *   v_exponent(a)         2^n for a = 1.5 * 2^23 + n, -126 <= n <= 127; 0 for n = -127
 *   v_copysign(a, s)      the magnitude of a with the sign of s
 *   v_hold(a)             a, in a register: compilers would read it from memory once more for each use
 *   VEC_REGISTERS         how many the CPU has
 */
#include <immintrin.h>
#include <stdint.h>

#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_ISA avx512
#define VEC_NAME "avx512"
#define VEC_WIDTH 16
#define VEC_REGISTERS 32

typedef __m512 vf;

VEC_INLINE __mmask16 v_first(size_t n) { return (__mmask16)((1u << n) - 1u); }

VEC_INLINE vf v_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE void v_store(float *p, vf a) { _mm512_storeu_ps(p, a); }
VEC_INLINE vf v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
VEC_INLINE void v_store_n(float *p, vf a, size_t n) { _mm512_mask_storeu_ps(p, v_first(n), a); }
VEC_INLINE vf v_set1(float a) { return _mm512_set1_ps(a); }
VEC_INLINE vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
VEC_INLINE vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VEC_INLINE vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VEC_INLINE vf v_div(vf a, vf b) { return _mm512_div_ps(a, b); }
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vf v_min(vf a, vf b) { return _mm512_min_ps(a, b); }
VEC_INLINE vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
VEC_INLINE vf v_abs(vf a) { return _mm512_abs_ps(a); }
VEC_INLINE vf v_copysign(vf a, vf sign)
{
    const __m512i minus = _mm512_castps_si512(_mm512_set1_ps(-0.0f)); /* 0xca: bit by bit, minus ? sign : a */
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(minus, _mm512_castps_si512(sign), _mm512_castps_si512(a), 0xca));
}
VEC_INLINE vf v_select_lt(vf a, vf b, vf x, vf y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
VEC_INLINE vf v_hold(vf a)
{
    __asm__("" : "+v"(a));
    return a;
}
VEC_INLINE float v_reduce_add(vf a) { return _mm512_reduce_add_ps(a); }
VEC_INLINE __m256 v_halves_added(vf a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
VEC_INLINE void v_reduce_add_each(const vf *a, float *sums)
{
    const __m256 front = _mm256_hadd_ps(v_halves_added(a[0]), v_halves_added(a[1]));
    const __m256 s = _mm256_hadd_ps(front, _mm256_hadd_ps(v_halves_added(a[2]), v_halves_added(a[3])));
    _mm_storeu_ps(sums, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
VEC_INLINE float v_reduce_max(vf a) { return _mm512_reduce_max_ps(a); }
VEC_INLINE vf v_exponent(vf a)
{
    const __m512i shifted = _mm512_slli_epi32(_mm512_castps_si512(a), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(0x3F800000)));
}
