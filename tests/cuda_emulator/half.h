// CUDA's half and half2 (cuda_fp16.h). Arithmetic is done in float and rounded once, which for +, -, * and / is the
// result of half arithmetic.
#pragma once

#include <cmath>
#include <cstring>

struct __half {
  _Float16 value;
  __half() = default;
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
  __half(T number) : value(static_cast<_Float16>(number)) {}
  operator float() const { return static_cast<float>(value); }
  __half& operator+=(__half other) { return *this = __half(float(*this) + float(other)); }
  __half& operator-=(__half other) { return *this = __half(float(*this) - float(other)); }
  __half& operator*=(__half other) { return *this = __half(float(*this) * float(other)); }
  __half& operator/=(__half other) { return *this = __half(float(*this) / float(other)); }
};
using half = __half;
struct alignas(4) __half2 {
  __half x, y;
};
using half2 = __half2;

#define EFFGEN_HALF_OPERATOR(op)                                                              \
  inline __half operator op(__half a, __half b) { return __half(float(a) op float(b)); }      \
  inline __half2 operator op(__half2 a, __half2 b) { return {a.x op b.x, a.y op b.y}; }
EFFGEN_HALF_OPERATOR(+)
EFFGEN_HALF_OPERATOR(-)
EFFGEN_HALF_OPERATOR(*)
EFFGEN_HALF_OPERATOR(/)
#undef EFFGEN_HALF_OPERATOR
inline __half operator-(__half a) { return __half(-float(a)); }
inline __half2 operator-(__half2 a) { return {-a.x, -a.y}; }

#define EFFGEN_HALF_COMPARISON(op, name)                                           \
  inline bool operator op(__half a, __half b) { return float(a) op float(b); }     \
  inline bool name(__half a, __half b) { return float(a) op float(b); }
EFFGEN_HALF_COMPARISON(<, __hlt)
EFFGEN_HALF_COMPARISON(>, __hgt)
EFFGEN_HALF_COMPARISON(<=, __hle)
EFFGEN_HALF_COMPARISON(>=, __hge)
EFFGEN_HALF_COMPARISON(==, __heq)
EFFGEN_HALF_COMPARISON(!=, __hne)
#undef EFFGEN_HALF_COMPARISON

inline float __half2float(__half a) { return a; }
inline __half __float2half(float a) { return a; }
inline __half __float2half_rn(float a) { return a; }
inline __half __double2half(double a) { return a; }
inline __half __int2half_rn(int a) { return a; }
inline int __half2int_rn(__half a) { return int(std::nearbyint(float(a))); }
inline int __half2int_rz(__half a) { return int(float(a)); }
inline __half __ushort_as_half(unsigned short bits) {
  __half result;
  memcpy(&result, &bits, 2);
  return result;
}
inline unsigned short __half_as_ushort(__half a) {
  unsigned short bits;
  memcpy(&bits, &a, 2);
  return bits;
}
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __half2 make_half2(__half a, __half b) { return {a, b}; }
inline __half2 __half2half2(__half a) { return {a, a}; }
inline __half2 __float2half2_rn(float a) { return {a, a}; }
inline __half2 __floats2half2_rn(float a, float b) { return {a, b}; }
inline __half2 __float22half2_rn(float2 a) { return {a.x, a.y}; }
inline float2 __half22float2(__half2 a) { return {a.x, a.y}; }
inline __half __low2half(__half2 a) { return a.x; }
inline __half __high2half(__half2 a) { return a.y; }
inline float __low2float(__half2 a) { return a.x; }
inline float __high2float(__half2 a) { return a.y; }

inline bool __hisnan(__half a) { return std::isnan(float(a)); }
inline __half __hmax(__half a, __half b) { return __half(fmaxf(a, b)); }
inline __half __hmin(__half a, __half b) { return __half(fminf(a, b)); }
// A product of halves is exact in double, so that the sum rounds twice only where float would too.
inline __half __hfma(__half a, __half b, __half c) { return __half(double(float(a)) * float(b) + float(c)); }
inline __half __hadd(__half a, __half b) { return a + b; }
inline __half __hsub(__half a, __half b) { return a - b; }
inline __half __hmul(__half a, __half b) { return a * b; }
inline __half __hdiv(__half a, __half b) { return a / b; }
inline __half __hneg(__half a) { return -a; }
inline __half __habs(__half a) { return __half(fabsf(a)); }
inline __half2 __hadd2(__half2 a, __half2 b) { return a + b; }
inline __half2 __hsub2(__half2 a, __half2 b) { return a - b; }
inline __half2 __hmul2(__half2 a, __half2 b) { return a * b; }
inline __half2 __h2div(__half2 a, __half2 b) { return a / b; }
inline __half2 __hneg2(__half2 a) { return -a; }
inline __half2 __hmax2(__half2 a, __half2 b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
inline __half2 __hmin2(__half2 a, __half2 b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }

#define EFFGEN_HALF_UNARY(name, function)                                      \
  inline __half h##name(__half a) { return __half(function(float(a))); }       \
  inline __half2 h2##name(__half2 a) { return {h##name(a.x), h##name(a.y)}; }
EFFGEN_HALF_UNARY(exp, expf)
EFFGEN_HALF_UNARY(exp2, exp2f)
EFFGEN_HALF_UNARY(log, logf)
EFFGEN_HALF_UNARY(log2, log2f)
EFFGEN_HALF_UNARY(sqrt, sqrtf)
EFFGEN_HALF_UNARY(rsqrt, rsqrtf)
EFFGEN_HALF_UNARY(rcp, 1.0f /)
EFFGEN_HALF_UNARY(sin, sinf)
EFFGEN_HALF_UNARY(cos, cosf)
EFFGEN_HALF_UNARY(tanh, tanhf)
EFFGEN_HALF_UNARY(floor, floorf)
EFFGEN_HALF_UNARY(ceil, ceilf)
EFFGEN_HALF_UNARY(trunc, truncf)
EFFGEN_HALF_UNARY(rint, rintf)
#undef EFFGEN_HALF_UNARY
