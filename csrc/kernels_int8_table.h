/* The int8 kernels for the vector vocabulary that was included before, and the table of them. */
#include "vec_int8.h"
#include "kernels_int8.h"

#define TABLE_NAME_(table, isa) table##isa
#define TABLE_NAME(table, isa) TABLE_NAME_(table, isa)

const lstmrt_int8_kernels TABLE_NAME(lstmrt_int8_, VEC_ISA) = {
    .group = INT8_GROUP,
    .offset = INT8_OFFSET,
    .quantize = kernel_int8_quantize,
    .product = kernel_int8_product,
};
