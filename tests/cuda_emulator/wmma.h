// nvcuda::wmma (mma.h): m16n16k16, m32n8k16 and m8n32k16 of half, m16n16k8 of tf32.
//
// A lane keeps `num_elements` neighbours of the matrix, counted by rows. CUDA leaves open who keeps which, so that code
// which is correct there is correct here. Stricter than a GPU where CUDA demands something: pointers are aligned to 32
// bytes, leading dimensions to 16.
#pragma once

#include "half.h"

namespace nvcuda::wmma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };
namespace precision {
struct tf32;
}

namespace emulated_detail {
template <class T>
struct Stored {
  using type = T;
};
template <>
struct Stored<precision::tf32> {
  using type = float;
};

template <class Use, int M, int N, int K>
struct Shape;
template <int M, int N, int K>
struct Shape<matrix_a, M, N, K> {
  static constexpr int rows = M, columns = K;
};
template <int M, int N, int K>
struct Shape<matrix_b, M, N, K> {
  static constexpr int rows = K, columns = N;
};
template <int M, int N, int K>
struct Shape<accumulator, M, N, K> {
  static constexpr int rows = M, columns = N;
};

constexpr bool supported(int m, int n, int k) {
  return k == 8 ? m == 16 && n == 16 : k == 16 && m * n == 256 && (m == 8 || m == 16 || m == 32);
}
}  // namespace emulated_detail

template <class Use, int M, int N, int K, class T, class Layout = void>
struct fragment {
  static_assert(emulated_detail::supported(M, N, K), "no such shape");
  using shape = emulated_detail::Shape<Use, M, N, K>;
  using element_type = typename emulated_detail::Stored<T>::type;
  using storage_element_type = element_type;
  static constexpr int num_elements = shape::rows * shape::columns / 32;
  static constexpr int num_storage_elements = num_elements;
  element_type x[num_elements];
};

namespace emulated_detail {

template <class E>
void check(const E* pointer, unsigned stride) {
  if (reinterpret_cast<uintptr_t>(pointer) % 32)
    emulated::die("a matrix for wmma at %p: aligned to 32 bytes expected", static_cast<const void*>(pointer));
  if (stride * sizeof(E) % 16) emulated::die("a matrix for wmma with leading dimension %u: not 16 bytes", stride);
}

// Offset in memory of the lane's element `e`.
template <class F>
size_t offset(int e, unsigned stride, bool by_rows) {
  const unsigned number = emulated::runner->lane() * F::num_elements + unsigned(e);
  const size_t row = number / F::shape::columns, column = number % F::shape::columns;
  return by_rows ? row * stride + column : column * stride + row;
}

template <class F, class E>
void load(F& to, const E* from, unsigned stride, bool by_rows) {
  check(from, stride);
  for (int e = 0; e < F::num_elements; ++e) to.x[e] = from[offset<F>(e, stride, by_rows)];
}

// As the tensor cores see it: tf32 keeps ten bits of the mantissa.
template <class T, class E>
float factor(E value) {
  float result = value;
  if constexpr (std::is_same_v<T, precision::tf32>) {
    uint32_t bits;
    memcpy(&bits, &result, 4);
    bits &= 0xffffe000u;
    memcpy(&result, &bits, 4);
  }
  return result;
}

template <class A, class B, class C, class D>
struct Operands {
  const A* a;
  const B* b;
  const C* c;
  D* d;
};

// The whole warp's product, by the last lane to arrive.
template <int M, int N, int K, class T, class A, class B, class C, class D>
void multiply(void* const* entries, unsigned lanes) {
  if (lanes != ~0u) emulated::die("wmma needs a whole warp, lanes 0x%08x are here", lanes);
  auto of = [&](int lane) { return static_cast<const Operands<A, B, C, D>*>(entries[lane]); };
  float a[M * K], b[K * N], d[M * N];
  for (int i = 0; i < M * K; ++i) a[i] = factor<T>(of(i / A::num_elements)->a->x[i % A::num_elements]);
  for (int i = 0; i < K * N; ++i) b[i] = factor<T>(of(i / B::num_elements)->b->x[i % B::num_elements]);
  for (int i = 0; i < M * N; ++i) d[i] = of(i / C::num_elements)->c->x[i % C::num_elements];
  for (int m = 0; m < M; ++m)
    for (int k = 0; k < K; ++k)
      for (int n = 0; n < N; ++n) d[m * N + n] += a[m * K + k] * b[k * N + n];
  for (int i = 0; i < M * N; ++i) of(i / D::num_elements)->d->x[i % D::num_elements] = d[i];
}

}  // namespace emulated_detail

template <class Use, int M, int N, int K, class T, class Layout, class V>
void fill_fragment(fragment<Use, M, N, K, T, Layout>& to, V value) {
  for (auto& element : to.x) element = value;
}

template <class Use, int M, int N, int K, class T, class Layout, class E>
void load_matrix_sync(fragment<Use, M, N, K, T, Layout>& to, const E* from, unsigned stride) {
  emulated_detail::load(to, from, stride, std::is_same_v<Layout, row_major>);
}
template <int M, int N, int K, class T, class E>
void load_matrix_sync(fragment<accumulator, M, N, K, T>& to, const E* from, unsigned stride, layout_t layout) {
  emulated_detail::load(to, from, stride, layout == mem_row_major);
}
template <int M, int N, int K, class T, class E>
void store_matrix_sync(E* to, const fragment<accumulator, M, N, K, T>& from, unsigned stride, layout_t layout) {
  using F = fragment<accumulator, M, N, K, T>;
  emulated_detail::check(to, stride);
  for (int e = 0; e < F::num_elements; ++e)
    to[emulated_detail::offset<F>(e, stride, layout == mem_row_major)] = from.x[e];
}

template <int M, int N, int K, class T, class TC, class TD, class LA, class LB>
void mma_sync(fragment<accumulator, M, N, K, TD>& d, const fragment<matrix_a, M, N, K, T, LA>& a,
              const fragment<matrix_b, M, N, K, T, LB>& b, const fragment<accumulator, M, N, K, TC>& c) {
  using A = fragment<matrix_a, M, N, K, T, LA>;
  using B = fragment<matrix_b, M, N, K, T, LB>;
  using C = fragment<accumulator, M, N, K, TC>;
  using D = fragment<accumulator, M, N, K, TD>;
  emulated_detail::Operands<A, B, C, D> operands{&a, &b, &c, &d};
  emulated::runner->collective(~0u, &operands, &emulated_detail::multiply<M, N, K, T, A, B, C, D>);
}

inline float __float_to_tf32(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = (bits + 0x1000u) & 0xffffe000u;
  memcpy(&value, &bits, 4);
  return value;
}

}  // namespace nvcuda::wmma
