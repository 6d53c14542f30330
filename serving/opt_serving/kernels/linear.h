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
template <class V> static inline auto total(V v) {
  auto s = v[0];
  for (int i = 1; i < LANES; i++) s += v[i];
  return s;
}
#if defined(__AVX512F__)
static inline float total(vf v) { return _mm512_reduce_add_ps((__m512)v); }
static inline int32_t total(vi v) { return _mm512_reduce_add_epi32((__m512i)v); }
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

// R rows of weights with M rows of x; eight sums at least, so that the adder never waits for itself.
template <class Op, int R, int M>
static inline void tile(const Linear &l, int64_t row, const typename Op::X *x, int64_t ldx, const float *x_scale,
                        float *y, int64_t ldy, bool relu) {
  constexpr int64_t AHEAD = 2048 / sizeof(typename Op::W);
  const int64_t k = l.k;
  const typename Op::W *w = static_cast<const typename Op::W *>(l.weight) + row * k;
  typename Op::Acc acc[R][M] = {};
  int64_t i = 0;
  for (; i + Op::STEP <= k; i += Op::STEP) {
    typename Op::Wv wv[R];
    for (int r = 0; r < R; r++) {
      wv[r] = Op::w(w + r * k + i);
      __builtin_prefetch(w + r * k + i + AHEAD, 0, 0);
    }
    for (int m = 0; m < M; m++)
      for (int r = 0; r < R; r++) acc[r][m] = Op::fma(acc[r][m], wv[r], x + m * ldx + i);
  }
  for (int r = 0; r < R; r++)
    for (int m = 0; m < M; m++) {
      auto s = total(acc[r][m]);
      for (int64_t j = i; j < k; j++) s += Op::tail(w[r * k + j], x[m * ldx + j]);
      float f = finish<Op>(l, float(s), row + r, x_scale ? x_scale[m] : 0.f);
      if (l.bias) f += l.bias[row + r];
      y[m * ldy + row + r] = act(f, relu);
    }
}

template <class Op, int R>
static void rows_of(const Linear &l, int64_t row, int64_t m, const typename Op::X *x, const float *xs, float *y,
                    int64_t ldy, bool relu) {
  const int64_t parts = (m + 5) / 6;  // of even sizes, so that none is too small to keep the adders busy
  for (int64_t part = 0, j = 0; part < parts; part++) {
    const int64_t next = m * (part + 1) / parts;
#define TILE(M) tile<Op, R, M>(l, row, x + j * l.k, l.k, xs ? xs + j : nullptr, y + j * ldy, ldy, relu)
    switch (next - j) {
      case 6: TILE(6); break;
      case 5: TILE(5); break;
      case 4: TILE(4); break;
      case 3: TILE(3); break;
      case 2: TILE(2); break;
      default: TILE(1);
    }
    j = next;
  }
#undef TILE
}

// Rows [from, to) of the weights with m rows of x; x in blocks that stay in the cache.
template <class Op>
static void product(const Linear &l, int64_t from, int64_t to, int64_t m, const typename Op::X *x, const float *xs,
                    float *y, int64_t ldy, bool relu) {
  constexpr int64_t BLOCK = 48;
  for (int64_t at = 0; at < m; at += BLOCK) {
    int64_t count = std::min(BLOCK, m - at);
    const auto *xb = x + at * l.k;
    const float *sb = xs ? xs + at : nullptr;
    int64_t row = from;
    if (count == 1)
      for (; row + 8 <= to; row += 8) tile<Op, 8, 1>(l, row, xb, l.k, sb, y + at * ldy, ldy, relu);
    for (; row + 4 <= to; row += 4) rows_of<Op, 4>(l, row, count, xb, sb, y + at * ldy, ldy, relu);
    for (; row < to; row++) rows_of<Op, 1>(l, row, count, xb, sb, y + at * ldy, ldy, relu);
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
