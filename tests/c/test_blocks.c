/* Packed weights of equal content are there once, for as long as a model has them. */
#include "programs.h"

#include "blocks.h"
#include "program.h"

enum { WIDTH = 100 };

static builder layers(void)
{
    builder b = {0};
    const int32_t ids = add_input(&b, LSTMRT_I64, LSTMRT_ROWS_BATCH_TIME, 1);
    int32_t x = add_embedding(&b, ids, 90, WIDTH);
    x = add_recurrent(&b, LSTMRT_OP_LSTM, x, WIDTH);
    x = add_recurrent(&b, LSTMRT_OP_GRU, x, WIDTH);
    add_output(&b, add_dense(&b, x, 300, LSTMRT_IDENTITY));
    return b;
}

static size_t shared_of(const lstmrt_model *a, const lstmrt_model *b)
{
    size_t shared = 0;
    for (size_t i = 0; i < a->n_layers; i++) {
        const lstmrt_layer *l = &a->layers[i], *m = &b->layers[i];
        shared += (l->table && l->table == m->table) + (l->x_weights && l->x_weights == m->x_weights) +
                  (l->h_weights && l->h_weights == m->h_weights) +
                  (l->x_reduced.weights && l->x_reduced.weights == m->x_reduced.weights) +
                  (l->h_reduced.weights && l->h_reduced.weights == m->h_reduced.weights);
    }
    return shared;
}

static void run(lstmrt_model *model, const builder *b, arrays *a)
{
    CHECK(lstmrt_run(model, a->inputs, a->outputs, 2, 3, 1) == LSTMRT_OK, "%zu steps", b->n_steps);
}

static void test_models(const char *isa, lstmrt_precision precision)
{
    builder b = layers();
    b.precision = precision;
    lstmrt_model *first = model_of(&b, isa), *second = model_of(&b, isa);
    arrays a = arrays_for(&b, 2, 3), again = arrays_for(&b, 2, 3);
    CHECK(shared_of(first, second) >= 5, "%s: %zu blocks shared", isa, shared_of(first, second));
    memcpy(again.inputs[0].data, a.inputs[0].data, a.inputs[0].bytes);
    run(first, &b, &a);
    lstmrt_model_free(first);
    run(second, &b, &again);
    CHECK(memcmp(a.outputs[0].data, again.outputs[0].data, a.outputs[0].bytes) == 0, "%s: after the first model went", isa);

    ((float *)b.steps[1].weights[1].data)[7] += 100; /* R of the LSTM is another one now */
    lstmrt_model *third = model_of(&b, isa);
    CHECK(third->layers[1].h_weights == NULL || third->layers[1].h_weights != second->layers[1].h_weights, "%s", isa);
    run(third, &b, &again);
    CHECK(memcmp(a.outputs[0].data, again.outputs[0].data, a.outputs[0].bytes) != 0, "%s: with other weights", isa);
    lstmrt_model_free(second);
    lstmrt_model_free(third);
    arrays_free(&a), arrays_free(&again);
    builder_free(&b);
}

static void test_calls(void)
{
    enum { BYTES = 1 << 16 };
    char *blocks[3];
    for (size_t i = 0; i < 3; i++) {
        blocks[i] = lstmrt_allocate(BYTES);
        REQUIRE(blocks[i]);
        blocks[i][BYTES - 1] = i == 2;
        lstmrt_block_share(&blocks[i], BYTES);
    }
    CHECK(blocks[0] == blocks[1] && blocks[1] != blocks[2], "of three blocks two are equal");
    lstmrt_block_release(blocks[0]);
    CHECK(blocks[1][BYTES - 1] == 0, "one user is left");
    lstmrt_block_release(blocks[1]);
    lstmrt_block_release(blocks[2]);
    lstmrt_block_release(NULL);
}

int main(void)
{
    test_calls();
    FOR_EACH_ISA(kernels) test_models(kernels->name, LSTMRT_PRECISION_F32);
    test_models("scalar", LSTMRT_PRECISION_INT8);
    test_models("scalar", LSTMRT_PRECISION_BF16);
    return finish("test_blocks");
}
