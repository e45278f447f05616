#include "os.h"
#include "sample.h"

struct lstmrt_picker {
    lstmrt_sampler sampler;
};

lstmrt_status lstmrt_picker_new(const lstmrt_decode_options *options, size_t vocabulary, lstmrt_picker **picker)
{
    lstmrt_picker *made = lstmrt_allocate(sizeof *made);
    *picker = NULL;
    if (!made) return LSTMRT_OUT_OF_MEMORY;
    const lstmrt_status status = lstmrt_sampler_init(&made->sampler, options, vocabulary);
    if (status)
        lstmrt_picker_free(made);
    else
        *picker = made;
    return status;
}

void lstmrt_picker_free(lstmrt_picker *picker)
{
    if (!picker) return;
    lstmrt_sampler_free(&picker->sampler);
    lstmrt_release(picker);
}

void lstmrt_picker_see(lstmrt_picker *picker, int64_t id) { lstmrt_sampler_see(&picker->sampler, id); }

int64_t lstmrt_picker_pick(lstmrt_picker *picker, const float *logits)
{
    return (int64_t)lstmrt_choose(&picker->sampler, logits);
}
