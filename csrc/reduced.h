/* Weights in fewer bits: packed matrices, and the products with them. */
#ifndef LSTMRT_REDUCED_H
#define LSTMRT_REDUCED_H

#include "dispatch.h"
#include "pack.h"

/* In the panels that the products of reduced weights read; scales, of int8 and bytes, stand output by output. */
typedef struct {
    const lstmrt_reduced_kernels *kernels; /* that multiply with it */
    void *weights; /* NULL: there is no matrix */
    float *scales;
    int32_t *sums; /* bytes: of each output's weights */
    int32_t zero;  /* bytes */
    size_t inputs, vectors;
} lstmrt_reduced_matrix;

/* Each reduces and packs a matrix whose element (input k, column j) is data[k * k_stride + j * j_stride]. A column of an
 * int8 matrix with a NaN or an infinity gets the scale NaN. After a failure there is something to free all the same. */
lstmrt_status lstmrt_int8_pack(const lstmrt_isa *isa, const float *data, size_t inputs, size_t k_stride,
                               size_t j_stride, const lstmrt_columns *columns, lstmrt_reduced_matrix *matrix);
lstmrt_status lstmrt_bf16_pack(const float *data, size_t inputs, size_t k_stride, size_t j_stride,
                               const lstmrt_columns *columns, lstmrt_reduced_matrix *matrix);
/* Of a weight that is bytes. */
lstmrt_status lstmrt_bytes_pack(const lstmrt_isa *isa, const lstmrt_weight *weight, size_t inputs, size_t k_stride,
                                size_t j_stride, const lstmrt_columns *columns, lstmrt_reduced_matrix *matrix);
void lstmrt_reduced_free(lstmrt_reduced_matrix *matrix);

/* lstmrt_int8_pack a panel at a time: room for a matrix; the panel that begins at packed column `begin`, whose columns are
 * those of `source`. Returns where the next panel begins. */
lstmrt_status lstmrt_int8_new(const lstmrt_isa *isa, size_t inputs, size_t vectors, lstmrt_reduced_matrix *matrix);
size_t lstmrt_int8_pack_panel(const lstmrt_isa *isa, const float *data, size_t k_stride, size_t j_stride,
                              const int64_t *source, size_t begin, lstmrt_reduced_matrix *matrix);

/* The scale of weights that are at most `largest` in size: largest / 127, rounded to 16 significant bits (up, but where
 * that would be infinite), so that scale q is exact in a float and quantizing it again gives scale and q. 0 for weights
 * that all count as 0. */
float lstmrt_int8_scale(float largest);
/* The whole number, at most 127 in size, of a weight. */
int8_t lstmrt_int8_weight(float weight, float scale);

/* The nearest bf16, of two the even one; its float. */
uint16_t lstmrt_bf16_of(float x);
float lstmrt_bf16_float(uint16_t bits);

#endif
