/* The allocator for arrays inside kernels, with forbidden pages around each: the generated code calls these two instead
 * of TVM's, where guards.child puts them in its place, or of native/pool/scratch.c, in whose place they are linked. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LIVE = 4096, ALIGNMENT = 64 };
static const uint32_t POISON = 0x7FC5A5A5u;

typedef struct {
  char* map;
  size_t mapped, guard, pages;
  char* data;
  size_t bytes;
} Block;

static Block blocks[LIVE];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Set and read from outside: where blocks are placed (1: at the end of their pages), how many there were, how many had
 * something written beside them. */
#define PUBLIC __attribute__((visibility("default")))
PUBLIC int guard_at_end = 1;
PUBLIC int64_t guard_blocks = 0, guard_broken = 0;

static void fill(char* from, char* to) {
  for (char* at = from; at < to; ++at) *at = (char)(POISON >> 8 * ((uintptr_t)at % 4));
}

static int is_poison(const char* from, const char* to) {
  for (const char* at = from; at < to; ++at)
    if (*at != (char)(POISON >> 8 * ((uintptr_t)at % 4))) return 0;
  return 1;
}

static int make(Block* block, uint64_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  block->bytes = bytes;
  block->pages = (bytes + page - 1) / page * page;
  block->guard = block->pages > 16 * page ? block->pages : 16 * page;
  block->mapped = block->pages + 2 * block->guard;
  block->map = mmap(NULL, block->mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block->map == MAP_FAILED) return -1;
  char* inner = block->map + block->guard;
  if (mprotect(inner, block->pages, PROT_READ | PROT_WRITE)) return -1;
  fill(inner, inner + block->pages);
  block->data = inner + (guard_at_end ? (block->pages - bytes) / ALIGNMENT * ALIGNMENT : 0);
  return 0;
}

PUBLIC void* guarded_alloc(int device_type, int device_id, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device_id, (void)code, (void)bits;
  Block block;
  if (make(&block, bytes ? bytes : 1)) return NULL;
  pthread_mutex_lock(&lock);
  void* data = NULL;
  for (int i = 0; i < LIVE && !data; ++i)
    if (!blocks[i].map) blocks[i] = block, data = block.data;
  guard_blocks += 1;
  pthread_mutex_unlock(&lock);
  return data;
}

PUBLIC int guarded_free(int device_type, int device_id, void* data) {
  (void)device_type, (void)device_id;
  Block block = {0};
  pthread_mutex_lock(&lock);
  for (int i = 0; i < LIVE; ++i)
    if (blocks[i].map && blocks[i].data == data) {
      block = blocks[i];
      memset(&blocks[i], 0, sizeof(Block));
      break;
    }
  if (block.map) {
    const char* inner = block.map + block.guard;
    guard_broken += !(is_poison(inner, block.data) && is_poison(block.data + block.bytes, inner + block.pages));
  }
  pthread_mutex_unlock(&lock);
  return block.map ? munmap(block.map, block.mapped) : -1;
}

/* The rest of what native/pool/scratch.h declares: nothing is kept here. */
void* (*const __TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = guarded_alloc;
int (*const __TVMBackendFreeWorkspace)(int, int, void*) = guarded_free;

void scratch_reclaim_all(void* pool) { (void)pool; }

void scratch_free_all(void* worker) { (void)worker; }
