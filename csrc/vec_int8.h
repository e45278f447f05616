/* The whole-number words of the int8 kernels, for the vector vocabulary that was included before. Weights and quantized rows
 * have forms of their own on each instruction set:
 *
 *   INT8_GROUP    inputs whose weights stand side by side for each output
 *   INT8_HALVES   parts that a row stands in: whole 16-bit numbers, or low and high bytes, each part in the order of
 *                 the inputs and `pad` bytes long
 *   INT8_OFFSET   what is added to weights, where an instruction takes unsigned ones
 *   i_weights(p)       the weights of a group of inputs for VEC_WIDTH outputs
 *   i_dot(sum, w, x)   sum + w x, for each output, over a group of inputs; x holds the group's four bytes of a half
 *   i_load(p)          VEC_WIDTH sums from memory
 *   i_total(low, high, offset)  the halves' sums put together, less what INT8_OFFSET has added
 *   i_store(row, pad, i, t)     quantized inputs i, i + 1, ... from floats that hold each in their low 16 bits
 *
 * Those of rows that are unsigned bytes:
 *
 *   BYTES_GROUP        as INT8_GROUP; weights are i_weights' signed ones
 *   i_dot_bytes(sum, w, x)   sum + w x, exactly, for all of the group
 *   i_store_bytes(row, i, t) bytes i, i + 1, ... from floats that hold each in their low bits
 */

#if defined(INT8_VNNI)

#define INT8_GROUP 4
#define INT8_HALVES 2
#define INT8_OFFSET 128

typedef __m512i vi, vw;

VEC_INLINE vi i_zero(void) { return _mm512_setzero_si512(); }
VEC_INLINE vi i_set1(int32_t x) { return _mm512_set1_epi32(x); }
VEC_INLINE vw i_weights(const int8_t *p) { return _mm512_loadu_si512(p); }
VEC_INLINE vi i_dot(vi sum, vw w, vi x)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x)); /* around the intrinsic gcc 12 copies every sum twice */
    return sum;
}
VEC_INLINE vi i_total(vi low, vi high, int32_t offset)
{
    return _mm512_sub_epi32(_mm512_add_epi32(low, _mm512_slli_epi32(high, 8)), _mm512_set1_epi32(offset));
}
VEC_INLINE vf i_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
VEC_INLINE void i_store(void *row, size_t pad, size_t i, vf t)
{
    const __m512i x = _mm512_castps_si512(t), rounded = _mm512_add_epi32(x, _mm512_set1_epi32(128));
    _mm_storeu_si128((void *)((char *)row + i), _mm512_cvtepi32_epi8(x));
    _mm_storeu_si128((void *)((char *)row + pad + i), _mm512_cvtepi32_epi8(_mm512_srli_epi32(rounded, 8)));
}

#define BYTES_GROUP 4

VEC_INLINE vi i_dot_bytes(vi sum, vw w, vi x)
{
    __asm__("vpdpbusd %1, %2, %0" : "+v"(sum) : "v"(w), "v"(x));
    return sum;
}
VEC_INLINE void i_store_bytes(void *row, size_t i, vf t)
{
    _mm_storeu_si128((void *)((char *)row + i), _mm512_cvtepi32_epi8(_mm512_castps_si512(t)));
}

#elif defined(INT8_DOT)

#define INT8_GROUP 4
#define INT8_HALVES 2
#define INT8_OFFSET 0

typedef int32x4_t vi;
typedef int8x16_t vw;

VEC_INLINE vi i_zero(void) { return vdupq_n_s32(0); }
VEC_INLINE vi i_set1(int32_t x) { return vdupq_n_s32(x); }
VEC_INLINE vw i_weights(const int8_t *p) { return vld1q_s8(p); }
VEC_INLINE vi i_dot(vi sum, vw w, vi x)
{
    __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(w), "w"(x)); /* older clangs hide the intrinsic */
    return sum;
}
VEC_INLINE vi i_total(vi low, vi high, int32_t offset)
{
    (void)offset;
    return vaddq_s32(low, vshlq_n_s32(high, 8));
}
VEC_INLINE vf i_to_float(vi a) { return vcvtq_f32_s32(a); }
VEC_INLINE void i_store_low_bytes(void *p, vi x)
{
    const int16x4_t words = vmovn_s32(x);
    vst1_lane_s32(p, vreinterpret_s32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
}
VEC_INLINE void i_store(void *row, size_t pad, size_t i, vf t)
{
    const vi x = vreinterpretq_s32_f32(t);
    i_store_low_bytes((char *)row + i, x);
    i_store_low_bytes((char *)row + pad + i, vshrq_n_s32(vaddq_s32(x, vdupq_n_s32(128)), 8));
}

#else

#define INT8_GROUP 2
#define INT8_HALVES 1
#define INT8_OFFSET 0

#if VEC_WIDTH == 16

typedef __m512i vi, vw;

VEC_INLINE vi i_zero(void) { return _mm512_setzero_si512(); }
VEC_INLINE vi i_set1(int32_t x) { return _mm512_set1_epi32(x); }
VEC_INLINE vw i_weights(const int8_t *p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const void *)p)); }
VEC_INLINE vi i_dot(vi sum, vw w, vi x) { return _mm512_add_epi32(sum, _mm512_madd_epi16(w, x)); }
VEC_INLINE vf i_to_float(vi a) { return _mm512_cvtepi32_ps(a); }
VEC_INLINE void i_store(void *row, size_t pad, size_t i, vf t)
{
    (void)pad;
    _mm256_storeu_si256((void *)((int16_t *)row + i), _mm512_cvtepi32_epi16(_mm512_castps_si512(t)));
}

#elif VEC_WIDTH == 8

typedef __m256i vi, vw;

VEC_INLINE vi i_zero(void) { return _mm256_setzero_si256(); }
VEC_INLINE vi i_set1(int32_t x) { return _mm256_set1_epi32(x); }
VEC_INLINE vw i_weights(const int8_t *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)p)); }
VEC_INLINE vi i_dot(vi sum, vw w, vi x) { return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x)); }
VEC_INLINE vf i_to_float(vi a) { return _mm256_cvtepi32_ps(a); }
VEC_INLINE void i_store(void *row, size_t pad, size_t i, vf t)
{
    (void)pad;
    const __m256i x = _mm256_srai_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 16), 16);
    const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((void *)((int16_t *)row + i), packed);
}

#elif VEC_WIDTH == 4

typedef int32x4_t vi;
typedef int16x8_t vw;

VEC_INLINE vi i_zero(void) { return vdupq_n_s32(0); }
VEC_INLINE vi i_set1(int32_t x) { return vdupq_n_s32(x); }
VEC_INLINE vw i_weights(const int8_t *p) { return vmovl_s8(vld1_s8(p)); }
VEC_INLINE vi i_dot(vi sum, vw w, vi x)
{
    const int16x8_t pairs = vreinterpretq_s16_s32(x);
    return vaddq_s32(sum, vpaddq_s32(vmull_s16(vget_low_s16(w), vget_low_s16(pairs)), vmull_high_s16(w, pairs)));
}
VEC_INLINE vf i_to_float(vi a) { return vcvtq_f32_s32(a); }
VEC_INLINE void i_store(void *row, size_t pad, size_t i, vf t)
{
    (void)pad;
    vst1_s16((int16_t *)row + i, vmovn_s32(vreinterpretq_s32_f32(t)));
}

#else

typedef int32_t vi;
typedef struct {
    int8_t of[INT8_GROUP];
} vw;

VEC_INLINE vi i_zero(void) { return 0; }
VEC_INLINE vi i_set1(int32_t x) { return x; }
VEC_INLINE vw i_weights(const int8_t *p) { return (vw){{p[0], p[1]}}; }
VEC_INLINE vi i_dot(vi sum, vw w, vi x)
{
    int16_t of[INT8_GROUP];
    memcpy(of, &x, sizeof of);
    return sum + w.of[0] * of[0] + w.of[1] * of[1];
}
VEC_INLINE vf i_to_float(vi a) { return (float)a; }
VEC_INLINE void i_store(void *row, size_t pad, size_t i, vf t)
{
    (void)pad;
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    const uint16_t low = (uint16_t)bits;
    memcpy((char *)row + i * sizeof low, &low, sizeof low);
}

#endif

VEC_INLINE vi i_total(vi low, vi high, int32_t offset)
{
    (void)high, (void)offset;
    return low;
}

#define BYTES_GROUP INT8_GROUP

VEC_INLINE vi i_dot_bytes(vi sum, vw w, vi x) { return i_dot(sum, w, x); }
VEC_INLINE void i_store_bytes(void *row, size_t i, vf t) { i_store(row, 0, i, t); }

#endif

#if VEC_WIDTH == 16
VEC_INLINE vi i_load(const int32_t *p) { return _mm512_loadu_si512(p); }
VEC_INLINE vi i_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
VEC_INLINE vi i_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
VEC_INLINE vi i_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
#elif VEC_WIDTH == 8
VEC_INLINE vi i_load(const int32_t *p) { return _mm256_loadu_si256((const void *)p); }
VEC_INLINE vi i_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
VEC_INLINE vi i_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
VEC_INLINE vi i_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
#elif VEC_WIDTH == 4
VEC_INLINE vi i_load(const int32_t *p) { return vld1q_s32(p); }
VEC_INLINE vi i_add(vi a, vi b) { return vaddq_s32(a, b); }
VEC_INLINE vi i_sub(vi a, vi b) { return vsubq_s32(a, b); }
VEC_INLINE vi i_mul(vi a, vi b) { return vmulq_s32(a, b); }
#else
VEC_INLINE vi i_load(const int32_t *p) { return *p; }
VEC_INLINE vi i_add(vi a, vi b) { return a + b; }
VEC_INLINE vi i_sub(vi a, vi b) { return a - b; }
VEC_INLINE vi i_mul(vi a, vi b) { return a * b; }
#endif
