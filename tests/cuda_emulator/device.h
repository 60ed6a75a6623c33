// CUDA C++ as TVM's code generator writes it, for a host compiler (g++ 12, C++20): force-included before the source.
//
// build_kernels (__init__.py) rewrites the declarations of __shared__ arrays, all else is macros, types and functions.
// Arithmetic is the host's: IEEE float, correctly rounded division and square root, glibc's expf; fast intrinsics
// (__expf) are as precise as the others.
#pragma once

// Standard headers come first: the source defines macros such as `uint`, and so does this file.
#include <sys/types.h>

#include <cassert>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <type_traits>
#include <utility>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __grid_constant__
#define __CUDA_ARCH__ 900
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0

// ---- Vectors: aligned as on the GPU, where a misaligned access is an error ----

#define EFFGEN_VECTORS(T, name, two, four)                                                                            \
  struct name##1 { T x; };                                                                                            \
  struct alignas(two) name##2 { T x, y; };                                                                            \
  struct alignas(four) name##4 { T x, y, z, w; };                                                                     \
  inline name##1 make_##name##1(T x) { return {x}; }                                                                  \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                                          \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
EFFGEN_VECTORS(signed char, char, 2, 4)
EFFGEN_VECTORS(unsigned char, uchar, 2, 4)
EFFGEN_VECTORS(short, short, 4, 8)
EFFGEN_VECTORS(unsigned short, ushort, 4, 8)
EFFGEN_VECTORS(int, int, 8, 16)
EFFGEN_VECTORS(unsigned, uint, 8, 16)
EFFGEN_VECTORS(float, float, 8, 16)
EFFGEN_VECTORS(long, long, 16, 16)
EFFGEN_VECTORS(unsigned long, ulong, 16, 16)
EFFGEN_VECTORS(long long, longlong, 16, 16)
EFFGEN_VECTORS(unsigned long long, ulonglong, 16, 16)
EFFGEN_VECTORS(double, double, 16, 16)
#undef EFFGEN_VECTORS
#define EFFGEN_VECTOR3(T, name)     \
  struct name##3 { T x, y, z; };    \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }
EFFGEN_VECTOR3(int, int)
EFFGEN_VECTOR3(float, float)
EFFGEN_VECTOR3(double, double)
#undef EFFGEN_VECTOR3
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }

// ---- Arithmetic ----

// Of floats, the number wins over a NaN.
template <class A, class B>
  requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
inline auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return T(std::fmax(T(a), T(b)));
  else return T(a) > T(b) ? T(a) : T(b);
}
template <class A, class B>
  requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
inline auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return T(std::fmin(T(a), T(b)));
  else return T(a) < T(b) ? T(a) : T(b);
}

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float exp10f_(float x) { return powf(10.0f, x); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __frcp_approx(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
// Never contracted with what follows, on the GPU as here.
__attribute__((optimize("fp-contract=off"), noinline)) inline float __fmul_rn(float a, float b) { return a * b; }
__attribute__((optimize("fp-contract=off"), noinline)) inline float __fadd_rn(float a, float b) { return a + b; }
__attribute__((optimize("fp-contract=off"), noinline)) inline float __fsub_rn(float a, float b) { return a - b; }
// glibc declares these names for itself, hence macros.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f_(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __tanhf(x) tanhf(x)

inline int __mul24(int a, int b) { return a * b; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline int __mulhi(int a, int b) { return int((int64_t(a) * b) >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += int8_t(a >> 8 * i) * int8_t(b >> 8 * i);
  return c;
}
namespace emulated {
template <class To, class From>
inline To as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace emulated
inline int __float_as_int(float x) { return emulated::as<int>(x); }
inline unsigned __float_as_uint(float x) { return emulated::as<unsigned>(x); }
inline float __int_as_float(int x) { return emulated::as<float>(x); }
inline float __uint_as_float(unsigned x) { return emulated::as<float>(x); }
inline int __float2int_rn(float x) { return int(nearbyintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline int __float2int_rd(float x) { return int(floorf(x)); }
inline float __int2float_rn(int x) { return float(x); }

// ---- Memory ----

#define EFFGEN_LOAD(name)           \
  template <class T>                \
  inline T name(const T* pointer) { \
    return *pointer;                \
  }
EFFGEN_LOAD(__ldg)
EFFGEN_LOAD(__ldcg)
EFFGEN_LOAD(__ldca)
EFFGEN_LOAD(__ldcs)
EFFGEN_LOAD(__ldlu)
EFFGEN_LOAD(__ldcv)
#undef EFFGEN_LOAD
#define EFFGEN_STORE(name)                     \
  template <class T>                           \
  inline void name(T* pointer, const T value) { \
    *pointer = value;                          \
  }
EFFGEN_STORE(__stwb)
EFFGEN_STORE(__stcg)
EFFGEN_STORE(__stcs)
EFFGEN_STORE(__stwt)
#undef EFFGEN_STORE

// Addresses in shared memory, as PTX has them: counted from its begin.
inline unsigned __cvta_generic_to_shared(const void* pointer) {
  return unsigned(static_cast<const char*>(pointer) - reinterpret_cast<char*>(&emulated::runner->shared));
}
namespace emulated {
inline void copy_async(unsigned to, const void* from, unsigned bytes, unsigned read) {
  runner->copies().add(reinterpret_cast<char*>(&runner->shared) + to, from, bytes, read);
}
}  // namespace emulated

// Blocks run on several OS threads, hence real atomics.
namespace emulated {
template <class T, class F>
inline T atomic_update(T* pointer, F change) {
  T before;
  __atomic_load(pointer, &before, __ATOMIC_RELAXED);
  while (true) {
    T after = change(before);
    if (__atomic_compare_exchange(pointer, &before, &after, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return before;
  }
}
}  // namespace emulated
#define EFFGEN_ATOMIC(name, expression)                                            \
  template <class T>                                                               \
  inline T name(T* pointer, std::type_identity_t<T> b) {                           \
    return emulated::atomic_update(pointer, [b](T a) -> T { return expression; }); \
  }
EFFGEN_ATOMIC(atomicAdd, a + b)
EFFGEN_ATOMIC(atomicSub, a - b)
EFFGEN_ATOMIC(atomicMax, a > b ? a : b)
EFFGEN_ATOMIC(atomicMin, a < b ? a : b)
EFFGEN_ATOMIC(atomicExch, (static_cast<void>(a), b))
EFFGEN_ATOMIC(atomicAnd, a & b)
EFFGEN_ATOMIC(atomicOr, a | b)
#undef EFFGEN_ATOMIC
template <class T>
inline T atomicCAS(T* pointer, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return emulated::atomic_update(pointer, [=](T a) { return a == expected ? value : a; });
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) {}

// ---- Barriers and warp collectives ----

#define __syncthreads() emulated::runner->barrier(__LINE__)
inline unsigned __activemask() { return emulated::runner->active_lanes(); }

namespace emulated {

template <class T>
struct Exchange {
  T value;
  unsigned source;
  T result;
};

template <class T>
inline void exchange_all(void* const* entries, unsigned lanes) {
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    if (!(lanes >> lane & 1)) continue;
    auto me = static_cast<Exchange<T>*>(entries[lane]);
    if (!(lanes >> me->source & 1)) die("lane %u shuffles from lane %u, which does not take part", lane, me->source);
    me->result = static_cast<Exchange<T>*>(entries[me->source])->value;
  }
}

// A lane beyond its segment of `width` lanes reads itself.
template <class T>
inline T shuffle(unsigned mask, T value, int source, int width) {
  const int lane = int(runner->lane()), first = lane / width * width;
  const bool inside = source >= first && source < first + width;
  Exchange<T> mine{value, unsigned(inside ? source : lane), value};
  runner->collective(mask, &mine, &exchange_all<T>);
  return mine.result;
}

struct Vote {
  bool yes;
  unsigned result;
};
inline void count_votes(void* const* entries, unsigned lanes) {
  unsigned votes = 0;
  for (unsigned lane = 0; lane < kWarp; ++lane)
    if (lanes >> lane & 1 && static_cast<Vote*>(entries[lane])->yes) votes |= 1u << lane;
  for (unsigned lane = 0; lane < kWarp; ++lane)
    if (lanes >> lane & 1) static_cast<Vote*>(entries[lane])->result = votes;
}
inline void meet(void* const*, unsigned) {}

}  // namespace emulated

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int first = int(emulated::runner->lane()) / width * width;
  return emulated::shuffle(mask, value, first + (source & (width - 1)), width);
}
template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulated::shuffle(mask, value, int(emulated::runner->lane() + delta), width);
}
template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  return emulated::shuffle(mask, value, int(emulated::runner->lane()) - int(delta), width);
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32) {
  return emulated::shuffle(mask, value, int(emulated::runner->lane()) ^ lanes, width);
}
inline void __syncwarp(unsigned mask = ~0u) {
  emulated::runner->collective(mask, nullptr, &emulated::meet);
}
inline unsigned __ballot_sync(unsigned mask, int yes) {
  emulated::Vote vote{yes != 0, 0};
  emulated::runner->collective(mask, &vote, &emulated::count_votes);
  return vote.result;
}
inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, !yes) == 0; }

#include "half.h"
#include "wmma.h"
