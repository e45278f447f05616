/* Every kernel body for the vector vocabulary that was included before, and the tables of them. */
#include <math.h>
#include <string.h>

#include "kernels.h"
#include "kernels_activations.h"
#include "kernels_register_tiles.h"
#include "kernels_ahead.h"
#include "kernels_stream.h"
#include "kernels_dense.h"
#include "kernels_recurrent.h"
#include "kernels_elementwise.h"
#include "kernels_attention.h"
#include "kernels_probe.h"
#include "kernels_screen.h"
#include "kernels_reduced.h"
#include "kernels_int8.h"
#include "kernels_bytes.h"
#include "kernels_bf16.h"

const lstmrt_kernels LSTMRT_TABLE(kernels, VEC_ISA) = {
    .name = VEC_NAME,
    .width = VEC_WIDTH,
    .takes_ahead = TAKES_AHEAD,
#define X(kernel) .kernel = kernel_##kernel,
#include "kernels.def"
#undef X
};
