/* Packed weights that several models of a process have in common, once in memory. */
#ifndef LSTMRT_BLOCKS_H
#define LSTMRT_BLOCKS_H

#include <stddef.h>

/* Puts a block with the same content in the place of *block, if a model has one, or else offers this one to others. Nobody
 * writes to it any more. Small blocks stay as they are. */
void lstmrt_block_share(void *block_pointer, size_t bytes);
/* Releases memory of lstmrt_allocate that may have been shared; NULL: nothing. */
void lstmrt_block_release(void *block);

#endif
