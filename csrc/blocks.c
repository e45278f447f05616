#include "blocks.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "os.h"

enum { SMALLEST = 1 << 14 }; /* bytes */

typedef struct shared_block shared_block;

struct shared_block {
    void *data;
    size_t bytes, users;
    uint64_t hash;
    shared_block *next;
};

static shared_block *blocks;

static uint64_t hash_of(const void *data, size_t bytes)
{
    uint64_t hashes[4] = {1, 2, 3, 4}, word; /* which do not wait for one another */
    for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        memcpy(&word, (const char *)data + i, sizeof word);
        uint64_t *hash = &hashes[i / sizeof word % 4];
        *hash = (*hash ^ word) * 0x9e3779b97f4a7c15;
        *hash ^= *hash >> 29;
    }
    return hashes[0] ^ hashes[1] * 3 ^ hashes[2] * 5 ^ hashes[3] * 7;
}

static shared_block *find_equal(const void *data, size_t bytes, uint64_t hash)
{
    for (shared_block *block = blocks; block; block = block->next)
        if (block->hash == hash && block->bytes == bytes && memcmp(block->data, data, bytes) == 0) return block;
    return NULL;
}

void lstmrt_block_share(void *block_pointer, size_t bytes)
{
    void *data, *unused = NULL;
    memcpy(&data, block_pointer, sizeof data);
    if (!data || bytes < SMALLEST) return;
    const uint64_t hash = hash_of(data, bytes);
    shared_block *made = lstmrt_allocate(sizeof *made);
    if (!made) return; /* it stays its owner's alone */
    lstmrt_lock();
    shared_block *known = find_equal(data, bytes, hash);
    if (known) {
        known->users++;
        unused = data;
        memcpy(block_pointer, &known->data, sizeof known->data);
    } else {
        *made = (shared_block){data, bytes, 1, hash, blocks};
        blocks = made;
    }
    lstmrt_unlock();
    lstmrt_release(unused);
    if (known) lstmrt_release(made);
}

void lstmrt_block_release(void *data)
{
    if (!data) return;
    shared_block *ended = NULL;
    lstmrt_lock();
    shared_block **place = &blocks;
    while (*place && (*place)->data != data) place = &(*place)->next;
    const bool shared = *place && --(*place)->users > 0;
    if (*place && !shared) {
        ended = *place;
        *place = ended->next;
    }
    lstmrt_unlock();
    lstmrt_release(ended);
    if (!shared) lstmrt_release(data);
}
