/* Activation functions on vectors, in registers.
 *
 * sigmoid and tanh rest on e^y for y <= 0 as s (1 + q), with s = 2^n and q = e^r - 1 for |r| <= ln(2)/2, so that neither
 * subtracts nearly equal numbers nor has a denormal in between: both are within 4 ULP over all floats whose result is normal (make exhaustive
 * prints the worst of each instruction set). NaN goes to NaN everywhere.
 */

/* s = 2^n and q = e^(y - n ln 2) - 1 for y in [-88, 88.7]. The polynomial's relative error is below 2^-26 (minimax on
 * |r| <= 0.3468, fitted by iteratively reweighted least squares, coefficients rounded to float). */
typedef struct {
    vf s, q;
} v_exp_parts;

VEC_INLINE v_exp_parts v_exp_split(vf y, vf s_shift)
{
    const vf magic = v_set1(0x1.8p23f); /* adding it rounds to an integer, kept in the low bits */
    const vf t = v_fma(y, v_set1(0x1.715476p0f), magic);
    const vf n = v_sub(t, magic);
    vf r = v_fma(n, v_set1(-0.693359375f), y); /* exact: the constant has 10 bits */
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    vf p = v_set1(0.0013898234f);
    p = v_fma(p, r, v_set1(0.008366067f));
    p = v_fma(p, r, v_set1(0.041666854f));
    p = v_fma(p, r, v_set1(0.16666548f));
    p = v_fma(p, r, v_set1(0.5f));
    const vf q = v_fma(v_mul(r, r), p, r);
    return (v_exp_parts){v_exponent(v_sub(t, s_shift)), q};
}

/* e^x, 0 below about -87. The power of two is applied in two halves, as 2^128 has no float. */
VEC_INLINE vf v_exp(vf x)
{
    const vf y = v_max(v_set1(-87.33f), v_min(v_set1(89.0f), x));
    const v_exp_parts e = v_exp_split(y, v_set1(1.0f));
    return v_mul(v_mul(e.s, v_add(v_set1(1.0f), e.q)), v_set1(2.0f));
}

/* n / d, not yet divided: cells divide products of several only once. */
typedef struct {
    vf n, d;
} v_fraction;

/* 1 / (1 + e^-x), for negative x as e^x / (1 + e^x); 1 <= d <= 2. In *rest the numerator of 1 - sigmoid. */
VEC_INLINE v_fraction v_sigmoid_fraction(vf x, vf *rest)
{
    const vf one = v_set1(1.0f), zero = v_set1(0.0f);
    const v_exp_parts e = v_exp_split(v_max(v_set1(-88.0f), v_sub(zero, v_abs(x))), zero);
    const vf t = v_mul(e.s, v_add(one, e.q));
    *rest = v_select_lt(x, zero, one, t);
    return (v_fraction){v_select_lt(x, zero, t, one), v_add(one, t)};
}

/* With m = (e^(-2|x|) - 1) / 2: tanh |x| = -m / (1 + m); 1/2 <= d <= 1. */
VEC_INLINE v_fraction v_tanh_fraction(vf x)
{
    const vf y = v_max(v_set1(-40.0f), v_mul(v_set1(-2.0f), v_abs(x))), half = v_set1(0.5f);
    const v_exp_parts e = v_exp_split(y, v_set1(0.0f));
    const vf s = v_mul(half, e.s), m = v_fma(s, e.q, v_sub(s, half));
    return (v_fraction){v_copysign(m, x), v_add(v_set1(1.0f), m)};
}

VEC_INLINE vf v_sigmoid(vf x)
{
    vf rest;
    const v_fraction y = v_sigmoid_fraction(x, &rest);
    return v_div(y.n, y.d);
}

VEC_INLINE vf v_tanh(vf x)
{
    const v_fraction y = v_tanh_fraction(x);
    return v_div(y.n, y.d);
}

static float softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }

/* The functions that few models use, one lane at a time through libm. */
static float activate_float(lstmrt_function function, float x)
{
    if (isnan(x)) return x;
    switch (function) {
    case LSTMRT_SOFTPLUS: return softplus(x);
    case LSTMRT_MISH: return x * tanhf(softplus(x));
    case LSTMRT_GELU: return 0.5f * x * erfcf(-0.70710678f * x);
    case LSTMRT_SQRT: return sqrtf(x);
    case LSTMRT_LOG: return logf(fabsf(x) < 0x1p-126f ? 0.0f : x); /* libm is not made for flushed denormals */
    case LSTMRT_ERF: return erff(x);
    default: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x))); /* LSTMRT_GELU_TANH */
    }
}

VEC_INLINE vf v_activate_lanes(lstmrt_function function, vf x)
{
    float lanes[VEC_WIDTH];
    v_store(lanes, x);
    for (size_t i = 0; i < VEC_WIDTH; i++) lanes[i] = activate_float(function, lanes[i]);
    return v_load(lanes);
}

/* x where positive, scale (e^x - 1) elsewhere; e^x - 1 keeps its relative accuracy near 0. */
VEC_INLINE vf v_elu(vf x, vf scale)
{
    const v_exp_parts e = v_exp_split(v_max(v_set1(-40.0f), v_min(v_set1(0.0f), x)), v_set1(0.0f));
    const vf m = v_fma(e.s, e.q, v_sub(e.s, v_set1(1.0f)));
    return v_select_lt(v_set1(0.0f), x, x, v_mul(scale, m));
}

/* All but the two that every trained cell uses; not inlined, as it is large and they are rare. */
static __attribute__((noinline)) vf v_activate_other(lstmrt_activation activation, vf x)
{
    const vf zero = v_set1(0.0f), one = v_set1(1.0f);
    const vf a = v_set1(activation.alpha), b = v_set1(activation.beta);
    switch (activation.function) {
    case LSTMRT_RELU: return v_max(zero, x);
    case LSTMRT_AFFINE: return v_add(v_mul(a, x), b);
    case LSTMRT_LEAKY_RELU: return v_select_lt(x, zero, v_mul(a, x), x);
    case LSTMRT_THRESHOLDED_RELU: return v_max(v_select_lt(a, x, x, zero), v_min(zero, x)); /* lets NaN by */
    case LSTMRT_SCALED_TANH: return v_mul(a, v_tanh(v_mul(b, x)));
    case LSTMRT_HARD_SIGMOID: return v_min(one, v_max(zero, v_add(v_mul(a, x), b)));
    case LSTMRT_ELU: return v_elu(x, a);
    case LSTMRT_SELU: return v_mul(b, v_elu(x, a));
    case LSTMRT_SOFTSIGN: return v_div(x, v_add(one, v_abs(x)));
    case LSTMRT_EXP: return v_exp(x);
    case LSTMRT_SWISH: return v_mul(x, v_sigmoid(x));
    case LSTMRT_CLIP: return v_min(b, v_max(a, x));
    case LSTMRT_SOFTPLUS:
    case LSTMRT_MISH:
    case LSTMRT_GELU:
    case LSTMRT_SQRT:
    case LSTMRT_LOG:
    case LSTMRT_ERF:
    case LSTMRT_GELU_TANH: return v_activate_lanes(activation.function, x);
    default: return x; /* LSTMRT_IDENTITY */
    }
}

VEC_INLINE vf v_activate(lstmrt_activation activation, vf x)
{
    if (activation.function == LSTMRT_SIGMOID) return v_sigmoid(x);
    if (activation.function == LSTMRT_TANH) return v_tanh(x);
    return v_activate_other(activation, x);
}

VEC_INLINE vf v_clip(float clip, vf x) { return v_min(v_set1(clip), v_max(v_set1(-clip), x)); }
