#include "lstmrt.h"

static const char *const TEXTS[LSTMRT_STATUS_COUNT] = {
#define X(name, text) text,
#include "status.def"
#undef X
};

const char *lstmrt_status_text(lstmrt_status status)
{
    return (unsigned)status < LSTMRT_STATUS_COUNT ? TEXTS[status] : "no status";
}
