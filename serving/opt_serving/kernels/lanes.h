// Vectors of the processor, and their sums: every sum is made in one order, whichever form of it is called.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(LANES * 2)));
typedef int8_t vb __attribute__((vector_size(LANES)));

template <class V, class T> static inline V load(const T *at) {
  V v;
  std::memcpy(&v, at, sizeof(V));
  return v;
}
static inline vf widen(vh h) { return (vf)(__builtin_convertvector(h, vu) << 16); }
static inline uint16_t narrow(float x) {  // round to nearest even
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}
static inline vu narrow_wide(vf v) {  // the same; the upper half of each number is the bfloat16 one
  const vu u = (vu)v;
  return (u + 0x7fff + ((u >> 16) & 1)) & 0xffff0000u;
}
// `count` numbers, whole vectors of them.
static inline void narrow_to(const float *x, int64_t count, uint16_t *to) {
  for (int64_t i = 0; i < count; i += LANES) {
    const vh h = __builtin_convertvector(narrow_wide(load<vf>(x + i)) >> 16, vh);
    std::memcpy(to + i, &h, sizeof(h));
  }
}
static inline vf larger(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}
static inline float largest(vf v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)v);
#else
  float most = v[0];
  for (int i = 1; i < LANES; i++) most = std::max(most, v[i]);
  return most;
#endif
}
static inline float widen1(uint16_t h) {
  uint32_t u = uint32_t(h) << 16;
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}
// A product as it is rounded by itself: not fused with what is added to it, which the compiler is free to do or not.
template <class V> static inline V rounded(V v) {
#if defined(__x86_64__)
  asm("" : "+x"(v));
#endif
  return v;
}
template <class V> static inline auto total(V v) {  // halves onto halves, down to one
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) v[i] += v[i + width];
  return v[0];
}
// The totals of four vectors; each in the order of `total`.
template <class V, class S> static inline void totals(const V *v, S *to) {
  for (int i = 0; i < 4; i++) to[i] = total(v[i]);
}
// The totals of eight vectors, the same.
template <class V, class S> static inline void totals_of_eight(const V *v, S *to) {
  totals(v, to);
  totals(v + 4, to + 4);
}
#if defined(__AVX512F__)
static inline __m256 half(vf v) {
  return _mm256_add_ps(_mm512_castps512_ps256((__m512)v), _mm512_extractf32x8_ps((__m512)v, 1));
}
static inline __m256i half(vi v) {
  return _mm256_add_epi32(_mm512_castsi512_si256((__m512i)v), _mm512_extracti32x8_epi32((__m512i)v, 1));
}
#elif defined(__AVX2__)
static inline __m256 half(vf v) { return (__m256)v; }
static inline __m256i half(vi v) { return (__m256i)v; }
#endif
#if defined(__AVX512F__) || defined(__AVX2__)
static inline __m128 quarter(vf v) {
  const __m256 y = half(v);
  return _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
}
static inline __m128i quarter(vi v) {
  const __m256i y = half(v);
  return _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}
template <> inline void totals(const vf *v, float *to) {
  __m128 a = quarter(v[0]), b = quarter(v[1]), c = quarter(v[2]), d = quarter(v[3]);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d)));
}
template <> inline void totals(const vi *v, int32_t *to) {
  __m128i ab = _mm_hadd_epi32(quarter(v[0]), quarter(v[1])), cd = _mm_hadd_epi32(quarter(v[2]), quarter(v[3]));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm_hadd_epi32(ab, cd));
}
#if defined(__AVX512F__)
// Four vectors' halves onto halves and those onto each other: four numbers of each are left, side by side.
static inline __m512 quarters(const vf *v) {
  auto halves = [](vf a, vf b) {
    return _mm512_add_ps(_mm512_shuffle_f32x4((__m512)a, (__m512)b, 0x44), _mm512_shuffle_f32x4((__m512)a, (__m512)b, 0xee));
  };
  const __m512 ab = halves(v[0], v[1]), cd = halves(v[2], v[3]);
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}
template <> inline void totals_of_eight(const vf *v, float *to) {
  const __m512d a = _mm512_castps_pd(quarters(v)), b = _mm512_castps_pd(quarters(v + 4));
  const __m512 pairs = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_permute_ps(pairs, 0xb1));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(to, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums)));
}
#endif
// The total of one, in the same order.
static inline float total(vf v) {
  const __m128 a = quarter(v), b = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
static inline int32_t total(vi v) {
  const __m128i a = quarter(v), b = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
}
#endif
