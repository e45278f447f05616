/* The vector vocabulary, one float wide: plain C for any machine. vec_avx512.h says what each word means. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_ISA scalar
#define VEC_NAME "scalar"
#define VEC_WIDTH 1
#define VEC_REGISTERS 16

typedef float vf;

VEC_INLINE vf v_load(const float *p) { return *p; }
VEC_INLINE void v_store(float *p, vf a) { *p = a; }
VEC_INLINE vf v_load_n(const float *p, size_t n) { return n ? *p : 0.0f; }
VEC_INLINE void v_store_n(float *p, vf a, size_t n) { if (n) *p = a; }
VEC_INLINE vf v_set1(float a) { return a; }
VEC_INLINE vf v_add(vf a, vf b) { return a + b; }
VEC_INLINE vf v_sub(vf a, vf b) { return a - b; }
VEC_INLINE vf v_mul(vf a, vf b) { return a * b; }
VEC_INLINE vf v_div(vf a, vf b) { return a / b; }
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return a * b + c; }
VEC_INLINE vf v_min(vf a, vf b) { return a < b ? a : b; }
VEC_INLINE vf v_max(vf a, vf b) { return a > b ? a : b; }
VEC_INLINE vf v_abs(vf a) { return fabsf(a); }
VEC_INLINE vf v_copysign(vf a, vf sign) { return copysignf(a, sign); }
VEC_INLINE vf v_select_lt(vf a, vf b, vf x, vf y) { return a < b ? x : y; }
VEC_INLINE vf v_hold(vf a) { return a; }
VEC_INLINE float v_reduce_add(vf a) { return a; }
VEC_INLINE float v_reduce_max(vf a) { return a; }
VEC_INLINE void v_reduce_add_each(const vf *a, float *sums) { memcpy(sums, a, 4 * sizeof *sums); }

VEC_INLINE vf v_exponent(vf a)
{
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    bits = (bits << 23) + 0x3F800000u;
    memcpy(&a, &bits, sizeof a);
    return a;
}
