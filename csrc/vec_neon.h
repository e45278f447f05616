/* The vector vocabulary for AArch64's Advanced SIMD: four floats. vec_avx512.h says what each word means. */
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#define VEC_INLINE static inline __attribute__((always_inline))
#define VEC_ISA neon
#define VEC_NAME "neon"
#define VEC_WIDTH 4
#define VEC_REGISTERS 32

typedef float32x4_t vf;

VEC_INLINE vf v_load(const float *p) { return vld1q_f32(p); }
VEC_INLINE void v_store(float *p, vf a) { vst1q_f32(p, a); }
VEC_INLINE vf v_load_n(const float *p, size_t n)
{
    float lanes[VEC_WIDTH] = {0};
    for (size_t i = 0; i < n; i++) lanes[i] = p[i];
    return vld1q_f32(lanes);
}
VEC_INLINE void v_store_n(float *p, vf a, size_t n)
{
    float lanes[VEC_WIDTH];
    vst1q_f32(lanes, a);
    for (size_t i = 0; i < n; i++) p[i] = lanes[i];
}
VEC_INLINE vf v_set1(float a) { return vdupq_n_f32(a); }
VEC_INLINE vf v_add(vf a, vf b) { return vaddq_f32(a, b); }
VEC_INLINE vf v_sub(vf a, vf b) { return vsubq_f32(a, b); }
VEC_INLINE vf v_mul(vf a, vf b) { return vmulq_f32(a, b); }
VEC_INLINE vf v_div(vf a, vf b) { return vdivq_f32(a, b); }
VEC_INLINE vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
VEC_INLINE vf v_select_lt(vf a, vf b, vf x, vf y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
VEC_INLINE vf v_min(vf a, vf b) { return v_select_lt(a, b, a, b); } /* FMIN would be NaN where either is */
VEC_INLINE vf v_max(vf a, vf b) { return v_select_lt(b, a, a, b); }
VEC_INLINE vf v_abs(vf a) { return vabsq_f32(a); }
VEC_INLINE vf v_copysign(vf a, vf sign) { return vbslq_f32(vdupq_n_u32(0x80000000u), sign, a); }
VEC_INLINE vf v_hold(vf a)
{
    __asm__("" : "+w"(a));
    return a;
}
VEC_INLINE float v_reduce_add(vf a) { return vaddvq_f32(a); }
VEC_INLINE void v_reduce_add_each(const vf *a, float *sums)
{
    vst1q_f32(sums, vpaddq_f32(vpaddq_f32(a[0], a[1]), vpaddq_f32(a[2], a[3])));
}
VEC_INLINE float v_reduce_max(vf a) { return vmaxvq_f32(a); }
VEC_INLINE vf v_exponent(vf a)
{
    const int32x4_t shifted = vshlq_n_s32(vreinterpretq_s32_f32(a), 23);
    return vreinterpretq_f32_s32(vaddq_s32(shifted, vdupq_n_s32(0x3F800000)));
}
