/* The formulas of lstmrt.h in double precision, written for reading: what the C tests compare with. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <math.h>

#include "lstmrt.h"

static inline double reference_sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }

static inline double reference_softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }

static inline double reference_activate(lstmrt_activation activation, double x)
{
    const double a = activation.alpha, b = activation.beta;
    if (isnan(x)) return x;
    switch (activation.function) {
    case LSTMRT_SIGMOID: return reference_sigmoid(x);
    case LSTMRT_TANH: return tanh(x);
    case LSTMRT_RELU: return fmax(0, x);
    case LSTMRT_AFFINE: return a * x + b;
    case LSTMRT_LEAKY_RELU: return x >= 0 ? x : a * x;
    case LSTMRT_THRESHOLDED_RELU: return x > a ? x : 0;
    case LSTMRT_SCALED_TANH: return a * tanh(b * x);
    case LSTMRT_HARD_SIGMOID: return fmin(1, fmax(0, a * x + b));
    case LSTMRT_ELU: return x >= 0 ? x : a * expm1(x);
    case LSTMRT_SELU: return x > 0 ? b * x : b * a * expm1(x);
    case LSTMRT_SOFTSIGN: return x / (1 + fabs(x));
    case LSTMRT_SOFTPLUS: return reference_softplus(x);
    case LSTMRT_EXP: return exp(x);
    case LSTMRT_SWISH: return x * reference_sigmoid(x);
    case LSTMRT_GELU: return x / 2 * erfc(-x / sqrt(2));
    case LSTMRT_GELU_TANH: return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
    case LSTMRT_SQRT: return sqrt(x);
    case LSTMRT_LOG: return log(x);
    case LSTMRT_ERF: return erf(x);
    case LSTMRT_MISH: return x * tanh(reference_softplus(x));
    case LSTMRT_CLIP: return fmin(b, fmax(a, x));
    default: return x; /* LSTMRT_IDENTITY */
    }
}

static inline double reference_clip(double clip, double x) { return fmin(clip, fmax(-clip, x)); }

#endif
