#include "scratch.h"

#include <stdint.h>
#include <stdlib.h>

#include "tvm_abi.h"

enum { ALIGNMENT = 64 };

// Lies before the data that a kernel gets.
struct block {
  _Alignas(ALIGNMENT) block *next;
  uint64_t bytes;  // of the data
};

static void push(block **list, block *pushed) {
  pushed->next = *list;
  *list = pushed;
}

static block *new_block(uint64_t bytes) {
  if (bytes > SIZE_MAX - sizeof(block) - ALIGNMENT) return NULL;
  const size_t whole = sizeof(block) + (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  block *made = aligned_alloc(ALIGNMENT, whole);
  if (made != NULL) made->bytes = bytes;
  return made;
}

// The first block that is large enough; else the first of all makes room for a larger one, so that there never are more
// than were in use at once.
static void *allocate(int device, int id, uint64_t bytes, int type_code, int type_bits) {
  (void)device, (void)id, (void)type_code, (void)type_bits;
  worker *self = current_worker;
  if (self == NULL) {  // kernels that are called without a pool
    block *alone = new_block(bytes);
    return alone == NULL ? NULL : alone + 1;
  }
  block **link = &self->free_blocks;
  while (*link != NULL && (*link)->bytes < bytes) link = &(*link)->next;
  block *found = *link;
  if (found != NULL) {
    *link = found->next;
  } else {
    block *small = self->free_blocks;
    if (small != NULL) {
      self->free_blocks = small->next;
      free(small);
    }
    found = new_block(bytes);
  }
  if (found == NULL) return NULL;
  push(&self->used_blocks, found);
  return found + 1;
}

static int give_back(int device, int id, void *data) {
  (void)device, (void)id;
  block *freed = (block *)data - 1;
  if (current_worker == NULL) {
    free(freed);
    return 0;
  }
  block **link = &current_worker->used_blocks;
  while (*link != freed) link = &(*link)->next;
  *link = freed->next;
  push(&current_worker->free_blocks, freed);
  return 0;
}

void *(*const __TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = allocate;
int (*const __TVMBackendFreeWorkspace)(int, int, void *) = give_back;

static void reclaim(worker *worker) {
  while (worker->used_blocks != NULL) {
    block *next = worker->used_blocks->next;
    push(&worker->free_blocks, worker->used_blocks);
    worker->used_blocks = next;
  }
}

void scratch_reclaim_all(pool *pool) {
  for (int index = 0; index < pool_threads(pool); ++index) reclaim(pool_worker(pool, index));
}

void scratch_free_all(worker *worker) {
  while (worker->free_blocks != NULL) {
    block *next = worker->free_blocks->next;
    free(worker->free_blocks);
    worker->free_blocks = next;
  }
}
