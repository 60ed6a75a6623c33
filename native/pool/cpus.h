// How many threads this process can make use of; the same as effgen/machines/processor.py says.
#ifndef EFFGEN_CPUS_H
#define EFFGEN_CPUS_H

#ifdef __cplusplus
extern "C" {
#endif

// CPUs in the affinity mask.
int usable_cpus(void);

// Threads that work without taking turns, at least 1: physical cores of the affinity mask, and no more than the control
// group may use.
int default_threads(void);

#ifdef __cplusplus
}
#endif

#endif
