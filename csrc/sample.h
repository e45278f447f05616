/* Token choice: what the logits' kernel argmax does not do. Double precision and no libm function that machines
 * round differently, so that one seed draws the same token from the same logits everywhere. */
#ifndef LSTMRT_SAMPLE_H
#define LSTMRT_SAMPLE_H

#include "lstmrt.h"

/* The fields are sample.c's own; the struct stands here so that a decoder can hold one. */
typedef struct {
    size_t vocabulary;
    bool do_sample;
    double temperature, top_p, repetition_penalty;
    size_t top_k;
    uint64_t random[4]; /* xoshiro256** */
    uint8_t *seen;      /* (vocabulary): 1 where the repetition penalty applies */
    double *scores;     /* (vocabulary): scratch */
    uint32_t *order;    /* (vocabulary): scratch */
} lstmrt_sampler;

/* Allocates everything; free it also after a failure. BAD_ARGUMENT: an empty vocabulary or one above 2^32 - 1, a
 * penalty that is not finite and positive; when sampling, such a temperature too, or a top_p outside (0, 1]. */
lstmrt_status lstmrt_sampler_init(lstmrt_sampler *sampler, const lstmrt_decode_options *options, size_t vocabulary);
void lstmrt_sampler_free(lstmrt_sampler *sampler);

/* `id` stands in the prompt or the continuation. An id outside the vocabulary is ignored: no logit is its own. */
void lstmrt_sampler_see(lstmrt_sampler *sampler, int64_t id);

/* The next id for `logits` (vocabulary): the repetition penalty (logit / p where positive, logit * p elsewhere, for
 * every id seen; Keskar et al. 2019, and transformers), then the largest, or when sampling temperature, top_k (ties
 * go to the lower index), top_p (the fewest of the most probable whose mass reaches it) and one uniform draw.
 *
 * Greedy is NumPy's argmax: lowest index on ties, first NaN wins. When sampling a NaN counts as -inf; where some
 * logits are +inf only they can be drawn, equally likely; where none is above -inf all are equally likely. */
size_t lstmrt_choose(lstmrt_sampler *sampler, const float *logits);

#endif
