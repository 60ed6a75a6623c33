// What the driver and a library of kernels (device.h) agree on.
#pragma once

struct effgen_dim {
  unsigned x, y, z;
};

struct effgen_launch {
  effgen_dim grid, block;
  unsigned dynamic_shared;
};

// A kernel NAME is exported as the object NAME__kernel.
struct effgen_kernel {
  const char* name;
  unsigned max_threads;       // of its launch bounds; 0: none stated
  unsigned parameters;        // how many
  const unsigned* sizes;      // of each parameter, in bytes: a captured launch keeps copies
  void (*run)(const effgen_launch& launch, void* const* parameters);
};
