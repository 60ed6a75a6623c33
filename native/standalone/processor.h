// Has this processor what the kernels were compiled for?
#ifndef EFFGEN_PROCESSOR_H
#define EFFGEN_PROCESSOR_H

#include <stdbool.h>

// Whether this processor, and its system, has the instruction set that /proc/cpuinfo calls so. False for an unknown name.
bool has_feature(const char *name);

#endif
