/* Every kernel body for the vector vocabulary that was included before, and the table of them. */
#include <math.h>

#include "kernels.h"
#include "kernels_activations.h"
#include "kernels_stream.h"
#include "kernels_dense.h"
#include "kernels_recurrent.h"
#include "kernels_elementwise.h"
#include "kernels_probe.h"

#define TABLE_NAME_(isa) lstmrt_kernels_##isa
#define TABLE_NAME(isa) TABLE_NAME_(isa)

const lstmrt_kernels TABLE_NAME(VEC_ISA) = {
    .name = VEC_NAME,
    .width = VEC_WIDTH,
#define X(kernel) .kernel = kernel_##kernel,
#include "kernels.def"
#undef X
};
