/* Windows of images, for convolutions: rows that a product with the weights reads. */
#include <string.h>

#include "program.h"

size_t lstmrt_windows_size(const uint32_t *along)
{
    return lstmrt_size_product(lstmrt_size_product(along[0], along[1]), along[2]);
}

bool lstmrt_windows_sound(const lstmrt_windows *w)
{
    for (size_t axis = 0; axis < LSTMRT_IMAGE_AXES; axis++) {
        const uint32_t some[] = {w->sizes[axis], w->counts[axis], w->kernel[axis], w->strides[axis], w->dilations[axis]};
        for (size_t i = 0; i < sizeof some / sizeof *some; i++)
            if (some[i] == 0 || some[i] > INT32_MAX) return false;
        if (w->before[axis] > INT32_MAX) return false;
    }
    return true;
}

/* Where element `k` of window `at` is along an axis: outside the image it may be below 0, or beyond its size. */
static int64_t place_of(const lstmrt_windows *w, size_t axis, size_t at, size_t k)
{
    return (int64_t)at * w->strides[axis] + (int64_t)k * w->dilations[axis] - w->before[axis];
}

static bool is_inside(const lstmrt_windows *w, size_t axis, int64_t place)
{
    return place >= 0 && place < (int64_t)w->sizes[axis];
}

/* The elements of one window along the last axis, of the image's row of places `line`. */
static void take_line(const lstmrt_windows *w, const float *line, size_t pitch, size_t channels, size_t at, float *to)
{
    const size_t size = channels * sizeof *to;
    const int64_t first = place_of(w, 2, at, 0), last = place_of(w, 2, at, w->kernel[2] - 1);
    if (w->dilations[2] == 1 && pitch == channels && first >= 0 && last < (int64_t)w->sizes[2]) {
        memcpy(to, line + (size_t)first * pitch, w->kernel[2] * size);
        return;
    }
    for (size_t k = 0; k < w->kernel[2]; k++, to += channels) {
        const int64_t place = place_of(w, 2, at, k);
        if (is_inside(w, 2, place))
            memcpy(to, line + (size_t)place * pitch, size);
        else
            memset(to, 0, size);
    }
}

void lstmrt_windows_take(const lstmrt_windows *w, const float *image, size_t pitch, size_t channels, size_t at, float *to)
{
    const size_t x = at % w->counts[2], rest = at / w->counts[2], y = rest % w->counts[1], z = rest / w->counts[1];
    const size_t line = w->kernel[2] * channels;
    for (size_t kz = 0; kz < w->kernel[0]; kz++)
        for (size_t ky = 0; ky < w->kernel[1]; ky++, to += line) {
            const int64_t at_z = place_of(w, 0, z, kz), at_y = place_of(w, 1, y, ky);
            if (is_inside(w, 0, at_z) && is_inside(w, 1, at_y))
                take_line(w, image + ((size_t)at_z * w->sizes[1] + (size_t)at_y) * w->sizes[2] * pitch, pitch, channels, x, to);
            else
                memset(to, 0, line * sizeof *to);
        }
}
