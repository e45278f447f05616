/* Kernels in plain C, for every machine. */
#include "vec_scalar.h"
#include "kernels_table.h"
