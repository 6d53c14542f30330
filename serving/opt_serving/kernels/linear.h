// y = x W^T + b for few rows of x, with the weights as they lie in the file: row after row, no packing.
//
// A tile of weight rows is read once and used for all rows of x, so that one row of x costs what reading the weights
// costs. Every output is summed in the same order whatever else is in the batch: the answer to a request does not
// depend on its neighbours.
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
typedef uint8_t vub __attribute__((vector_size(LANES)));

enum Kind : int32_t { F32 = 0, BF16 = 1, I8 = 2 };

// One weight matrix [n, k]. I8 has a scale for each row, and 128 x the sum of each row.
struct Linear {
  const void *weight;
  const float *bias;   // may be null
  const float *scale;  // I8
  const int32_t *shift;  // I8
  int64_t n, k;
  int32_t kind;
};

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
static inline float widen1(uint16_t h) {
  uint32_t u = uint32_t(h) << 16;
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}
template <class V> static inline auto total(V v) {  // halves onto halves, down to one
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) v[i] += v[i + width];
  return v[0];
}
// The totals of four vectors; each in the order of `total`.
template <class V> static inline void totals(const V *v, float *to) {
  for (int i = 0; i < 4; i++) to[i] = float(total(v[i]));
}
#if defined(__AVX512F__)
static inline __m128 quarter(vf v) {
  __m512 x = (__m512)v;
  __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  return _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
}
static inline __m128i quarter(vi v) {
  __m512i x = (__m512i)v;
  __m256i y = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti32x8_epi32(x, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}
template <> inline void totals(const vf *v, float *to) {
  __m128 a = quarter(v[0]), b = quarter(v[1]), c = quarter(v[2]), d = quarter(v[3]);
  _MM_TRANSPOSE4_PS(a, b, c, d);
  _mm_storeu_ps(to, _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d)));
}
template <> inline void totals(const vi *v, float *to) {
  __m128i ab = _mm_hadd_epi32(quarter(v[0]), quarter(v[1])), cd = _mm_hadd_epi32(quarter(v[2]), quarter(v[3]));
  _mm_storeu_ps(to, _mm_cvtepi32_ps(_mm_hadd_epi32(ab, cd)));
}
static inline float total(vf v) {
  const vf four[4] = {v, v, v, v};
  float sums[4];
  totals(four, sums);
  return sums[0];
}
#endif

// What each number format is multiplied with, and how much one step takes.
struct OpF32 {
  typedef float W;
  typedef float X;
  typedef vf Acc;
  static constexpr int STEP = LANES;
  struct Wv { vf v; };
  static inline Wv w(const W *at) { return {load<vf>(at)}; }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w.v * load<vf>(x); }
  static inline float tail(W w, X x) { return w * x; }
};
// Widened, not multiplied by the processor's bfloat16 instruction: that is no faster than float32 where there are no
// matrix tiles, and x keeps its precision.
struct OpBF16 {
  typedef uint16_t W;
  typedef float X;
  typedef vf Acc;
  static constexpr int STEP = LANES;
  struct Wv { vf v; };
  static inline Wv w(const W *at) { return {widen(load<vh>(at))}; }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w.v * load<vf>(x); }
  static inline float tail(W w, X x) { return widen1(w) * x; }
};
// x is stored with 128 added, as the processor's instruction multiplies unsigned with signed bytes.
struct OpI8 {
  typedef int8_t W;
  typedef uint8_t X;
  typedef vi Acc;
#if defined(__AVX512VNNI__)
  static constexpr int STEP = 64;
  struct Wv { __m512i v; };
  static inline Wv w(const W *at) { return {_mm512_loadu_si512(at)}; }
  static inline Acc fma(Acc a, Wv w, const X *x) {
    return (vi)_mm512_dpbusd_epi32((__m512i)a, _mm512_loadu_si512(x), w.v);
  }
#else
  static constexpr int STEP = LANES;
  struct Wv { vi v; };
  static inline Wv w(const W *at) { return {__builtin_convertvector(load<vb>(at), vi)}; }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w.v * __builtin_convertvector(load<vub>(x), vi); }
#endif
  static inline int32_t tail(W w, X x) { return int32_t(w) * int32_t(x); }
};

static inline float act(float y, bool relu) { return relu && y < 0 ? 0.f : y; }

template <class Op> static inline float finish(const Linear &, float s, int64_t, float) { return s; }
template <> inline float finish<OpI8>(const Linear &l, float s, int64_t row, float x_scale) {
  return (s - float(l.shift[row])) * (l.scale[row] * x_scale);
}

// R rows of weights with M rows of x; eight sums at least, so that the adder never waits for itself. The R rows lie side
// by side in memory: while they are multiplied, the rows after them are fetched, line after line.
template <class Op, int R, int M, bool FETCH>
static inline void tile(const Linear &l, int64_t row, const typename Op::X *x, int64_t ldx, const float *x_scale,
                        float *y, int64_t ldy, bool relu) {
  const int64_t k = l.k;
  const typename Op::W *w = static_cast<const typename Op::W *>(l.weight) + row * k;
  const char *next = reinterpret_cast<const char *>(w + R * k);
  typename Op::Acc acc[M][R] = {};
  int64_t i = 0;
  for (; i + Op::STEP <= k; i += Op::STEP) {
    typename Op::Wv wv[R];
    for (int r = 0; r < R; r++) wv[r] = Op::w(w + r * k + i);
    if (FETCH)
      for (int64_t b = 0; b < int64_t(R * Op::STEP * sizeof(typename Op::W)); b += 64)
        __builtin_prefetch(next + R * i * sizeof(typename Op::W) + b, 0, 2);
    for (int m = 0; m < M; m++)
      for (int r = 0; r < R; r++) acc[m][r] = Op::fma(acc[m][r], wv[r], x + m * ldx + i);
  }
  for (int m = 0; m < M; m++) {
    float s[R];
    if (R % 4 == 0)
      for (int r = 0; r + 4 <= R; r += 4) totals(acc[m] + r, s + r);
    else
      for (int r = 0; r < R; r++) s[r] = float(total(acc[m][r]));
    for (int r = 0; r < R; r++) {
      for (int64_t j = i; j < k; j++) s[r] += float(Op::tail(w[r * k + j], x[m * ldx + j]));
      float f = finish<Op>(l, s[r], row + r, x_scale ? x_scale[m] : 0.f);
      if (l.bias) f += l.bias[row + r];
      y[m * ldy + row + r] = act(f, relu);
    }
  }
}

template <class Op, int M, bool FETCH>
static void column(const Linear &l, int64_t from, int64_t to, const typename Op::X *x, const float *xs, float *y,
                   int64_t ldy, bool relu) {
  constexpr int R = M == 1 ? 8 : 4;
  int64_t row = from;
  for (; row + R <= to; row += R) tile<Op, R, M, FETCH>(l, row, x, l.k, xs, y, ldy, relu);
  for (; row < to; row++) tile<Op, 1, M, false>(l, row, x, l.k, xs, y, ldy, relu);
}

// Rows [from, to) of the weights with m rows of x, of which a few at a time stay in the first cache; the weights come
// from memory for the first of them and from the second cache for the others.
template <class Op>
static void product(const Linear &l, int64_t from, int64_t to, int64_t m, const typename Op::X *x, const float *xs,
                    float *y, int64_t ldy, bool relu) {
  const int64_t parts = (m + 5) / 6;  // of even sizes, so that none is too small to keep the adders busy
  const int64_t chunk = parts == 1 ? to - from : std::max<int64_t>(8, (256 << 10) / (l.k * sizeof(typename Op::W)) / 8 * 8);
  for (int64_t row = from; row < to; row += chunk) {
    const int64_t end = std::min(to, row + chunk);
    for (int64_t part = 0, j = 0; part < parts; part++) {
      const int64_t next = m * (part + 1) / parts;
#define COLUMN(M) \
  (j ? column<Op, M, false>(l, row, end, x + j * l.k, xs ? xs + j : nullptr, y + j * ldy, ldy, relu) \
     : column<Op, M, true>(l, row, end, x, xs, y, ldy, relu))
      switch (next - j) {
        case 6: COLUMN(6); break;
        case 5: COLUMN(5); break;
        case 4: COLUMN(4); break;
        case 3: COLUMN(3); break;
        case 2: COLUMN(2); break;
        default: COLUMN(1);
      }
#undef COLUMN
      j = next;
    }
  }
}

static inline float largest(const float *x, int64_t count) {
  vf top = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    vf v = (vf)(load<vi>(x + i) & 0x7fffffff);
    top = v > top ? v : top;
  }
  float found = 0.f;
  for (int j = 0; j < LANES; j++) found = std::max(found, top[j]);
  for (; i < count; i++) found = std::max(found, std::fabs(x[i]));
  return found;
}

// Rows of x as int8 weights are multiplied with: each with a scale of its own, from its largest number.
static inline void prepare(const Linear &l, const float *x, int64_t m, uint8_t *to, float *scale) {
  if (l.kind != I8) return;
  const float round = 12582912.f;  // added and taken away, leaves the nearest whole number
  for (int64_t r = 0; r < m; r++, x += l.k, to += l.k) {
    const float top = largest(x, l.k), inverse = top > 0 ? 127.f / top : 0.f;
    scale[r] = top / 127.f;
    int64_t i = 0;
    for (; i + LANES <= l.k; i += LANES) {
      vf v = (load<vf>(x + i) * inverse + round) - round;
      vub q = __builtin_convertvector(__builtin_convertvector(v, vi) + 128, vub);
      std::memcpy(to + i, &q, LANES);
    }
    for (; i < l.k; i++) to[i] = uint8_t(int32_t((x[i] * inverse + round) - round) + 128);
  }
}

static inline void rows(const Linear &l, int64_t from, int64_t to, int64_t m, const float *x, const uint8_t *prepared,
                        const float *scale, float *y, int64_t ldy, bool relu) {
  if (l.kind == F32)
    product<OpF32>(l, from, to, m, x, nullptr, y, ldy, relu);
  else if (l.kind == BF16)
    product<OpBF16>(l, from, to, m, x, nullptr, y, ldy, relu);
  else
    product<OpI8>(l, from, to, m, prepared, scale, y, ldy, relu);
}
