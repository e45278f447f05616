/* Weights in fewer bits: packed matrices, and the products with them. */
#ifndef LSTMRT_LOWBITS_H
#define LSTMRT_LOWBITS_H

#include "dispatch.h"
#include "pack.h"

/* A weight's whole numbers are at most this large. */
enum { LSTMRT_INT8_LARGEST_WEIGHT = 127 };

/* scale q, in the panels of int8_product; scales stand output by output, padded to whole vectors. */
typedef struct {
    int8_t *weights;
    float *scales;
    size_t inputs, vectors;
} lstmrt_int8_matrix;

/* Quantizes and packs a matrix whose element (input k, column j) is data[k * k_stride + j * j_stride]. A column with a
 * NaN or an infinity gets the scale NaN. After a failure there is something to free all the same. */
lstmrt_status lstmrt_int8_pack(const lstmrt_isa *isa, const float *data, size_t inputs, size_t k_stride,
                               size_t j_stride, const lstmrt_columns *columns, lstmrt_int8_matrix *matrix);
/* The same a panel at a time: room for a matrix; the panel that begins at packed column `begin`, whose columns are those
 * of `source`. Returns where the next panel begins. */
lstmrt_status lstmrt_int8_new(const lstmrt_isa *isa, size_t inputs, size_t vectors, lstmrt_int8_matrix *matrix);
size_t lstmrt_int8_pack_panel(const lstmrt_isa *isa, const float *data, size_t k_stride, size_t j_stride,
                              const int64_t *source, size_t begin, lstmrt_int8_matrix *matrix);
void lstmrt_int8_free(lstmrt_int8_matrix *matrix);

/* The scale of weights that are at most `largest` in size: largest / 127, rounded up to 16 significant bits, so that
 * scale q is exact in a float and quantizing it again gives scale and q. 0 for weights that all count as 0. */
float lstmrt_int8_scale(float largest);

/* The whole number of a weight. */
int8_t lstmrt_int8_weight(float weight, float scale);

#endif
