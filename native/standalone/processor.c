#include "processor.h"

#include <stddef.h>
#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>

enum { EAX, EBX, ECX, EDX };

// What the system must save of a thread: nothing in particular, the AVX registers, those of AVX-512 too.
enum { ANY = 0, AVX = 0x6, AVX512 = 0xe6 };

typedef struct {
  const char *name;
  unsigned leaf, subleaf;
  int reg, bit;
  unsigned saved;
} feature;

static const feature known[] = {
    {"pni", 1, 0, ECX, 0, ANY},
    {"ssse3", 1, 0, ECX, 9, ANY},
    {"fma", 1, 0, ECX, 12, AVX},
    {"sse4_1", 1, 0, ECX, 19, ANY},
    {"sse4_2", 1, 0, ECX, 20, ANY},
    {"movbe", 1, 0, ECX, 22, ANY},
    {"popcnt", 1, 0, ECX, 23, ANY},
    {"avx", 1, 0, ECX, 28, AVX},
    {"f16c", 1, 0, ECX, 29, AVX},
    {"bmi1", 7, 0, EBX, 3, ANY},
    {"avx2", 7, 0, EBX, 5, AVX},
    {"bmi2", 7, 0, EBX, 8, ANY},
    {"avx512f", 7, 0, EBX, 16, AVX512},
    {"avx512dq", 7, 0, EBX, 17, AVX512},
    {"avx512ifma", 7, 0, EBX, 21, AVX512},
    {"avx512cd", 7, 0, EBX, 28, AVX512},
    {"avx512bw", 7, 0, EBX, 30, AVX512},
    {"avx512vl", 7, 0, EBX, 31, AVX512},
    {"avx512vbmi", 7, 0, ECX, 1, AVX512},
    {"avx512_vbmi2", 7, 0, ECX, 6, AVX512},
    {"gfni", 7, 0, ECX, 8, ANY},
    {"avx512_vnni", 7, 0, ECX, 11, AVX512},
    {"avx512_bitalg", 7, 0, ECX, 12, AVX512},
    {"avx512_vpopcntdq", 7, 0, ECX, 14, AVX512},
    {"avx512_fp16", 7, 0, EDX, 23, AVX512},
    {"avx_vnni", 7, 1, EAX, 4, AVX},
    {"avx512_bf16", 7, 1, EAX, 5, AVX512},
    {"abm", 0x80000001, 0, ECX, 5, ANY},
};

// The registers that the system saves, as XCR0 tells.
static unsigned saved_registers(void) {
  unsigned eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 27 & 1)) return 0;
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static bool present(const feature *wanted) {
  unsigned found[4];
  if (!__get_cpuid_count(wanted->leaf, wanted->subleaf, &found[EAX], &found[EBX], &found[ECX], &found[EDX])) {
    return false;
  }
  return (found[wanted->reg] >> wanted->bit & 1) && (saved_registers() & wanted->saved) == wanted->saved;
}

#elif defined(__aarch64__)

#include <sys/auxv.h>

typedef struct {
  const char *name;
  unsigned long list;
  int bit;
} feature;

static const feature known[] = {
    {"asimd", AT_HWCAP, 1},     {"crc32", AT_HWCAP, 7},    {"atomics", AT_HWCAP, 8},
    {"asimdhp", AT_HWCAP, 10},  {"asimdrdm", AT_HWCAP, 12}, {"asimddp", AT_HWCAP, 20},
    {"sve", AT_HWCAP, 22},      {"i8mm", AT_HWCAP2, 13},   {"bf16", AT_HWCAP2, 14},
};

static bool present(const feature *wanted) { return getauxval(wanted->list) >> wanted->bit & 1; }

#else
#error "expected x86-64 or aarch64"
#endif

bool has_feature(const char *name) {
  for (size_t i = 0; i < sizeof known / sizeof known[0]; ++i) {
    if (strcmp(known[i].name, name) == 0) return present(&known[i]);
  }
  return false;
}
