// y = x W^T + b for few rows of x, with the weights as they lie in the file: row after row, no packing.
//
// A tile of weight rows is read once and used for all rows of x, so that one row of x costs what reading the weights
// costs. Every output is summed in the same order whatever else is in the batch: the answer to a request does not
// depend on its neighbours.
#pragma once
#include "lanes.h"

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

// What each number format is multiplied with, and how much one step takes.
struct OpF32 {
  typedef float W;
  typedef float X;
  typedef vf Acc;
  typedef float Sum;
  static constexpr int STEP = LANES;
  typedef vf Wv;
  static inline Wv w(const W *at) { return load<vf>(at); }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w * load<vf>(x); }
  static inline Sum tail(W w, X x) { return w * x; }
};
// Widened, not multiplied by the processor's bfloat16 instruction: that is no faster than float32 where there are no
// matrix tiles, and x keeps its precision.
struct OpBF16 {
  typedef uint16_t W;
  typedef float X;
  typedef vf Acc;
  typedef float Sum;
  static constexpr int STEP = LANES;
  typedef vf Wv;
  static inline Wv w(const W *at) { return widen(load<vh>(at)); }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w * load<vf>(x); }
  static inline Sum tail(W w, X x) { return widen1(w) * x; }
};
// Whole numbers from -127 to 127 on both sides; the sums are exact, so that every processor gives the same.
struct OpI8 {
  typedef int8_t W;
  typedef vi Acc;
  typedef int32_t Sum;
#if defined(__AVX512VNNI__)  // multiplies unsigned with signed bytes: x is stored with 128 added
  typedef uint8_t X;
  static constexpr int STEP = 64, ADDED = 128;
  typedef __m512i Wv;
  static inline Wv w(const W *at) { return _mm512_loadu_si512(at); }
  static inline Acc fma(Acc a, Wv w, const X *x) {
    return (vi)_mm512_dpbusd_epi32((__m512i)a, _mm512_loadu_si512(x), w);
  }
#elif defined(__AVX512BW__)  // no instruction that moves signs: widened to 16 bits
  typedef int8_t X;
  static constexpr int STEP = 32, ADDED = 0;
  typedef __m512i Wv;
  static inline Wv w(const W *at) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)));
  }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + (vi)_mm512_madd_epi16(w, OpI8::w(x)); }
#elif defined(__AVX2__)  // the sign of w goes over to x; two products of at most 127 x 127 fit 16 bits
  typedef int8_t X;
  static constexpr int STEP = 32, ADDED = 0;
  typedef __m256i Wv;
  static inline Wv w(const W *at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(at)); }
  static inline Acc fma(Acc a, Wv w, const X *x) {
    const __m256i signed_x = _mm256_sign_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)), w);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), signed_x);
    return a + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }
#else
  typedef int8_t X;
  static constexpr int STEP = LANES, ADDED = 0;
  typedef vi Wv;
  static inline Wv w(const W *at) { return __builtin_convertvector(load<vb>(at), vi); }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w * __builtin_convertvector(load<vb>(x), vi); }
#endif
  static inline Sum tail(W w, X x) { return int32_t(w) * int32_t(x); }
};

static inline float act(float y, bool relu) { return relu && y < 0 ? 0.f : y; }
static inline float finish(const Linear &, float s, int64_t, float) { return s; }
static inline float finish(const Linear &l, int32_t s, int64_t row, float x_scale) {
  return float(OpI8::ADDED ? s - l.shift[row] : s) * (l.scale[row] * x_scale);
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
    typename Op::Sum s[R];
    int r = 0;
    for (; r + 4 <= R; r += 4) totals(acc[m] + r, s + r);
    for (; r < R; r++) s[r] = total(acc[m][r]);
    for (r = 0; r < R; r++) {
      for (int64_t j = i; j < k; j++) s[r] += Op::tail(w[r * k + j], x[m * ldx + j]);
      float f = finish(l, s[r], row + r, x_scale ? x_scale[m] : 0.f);
      if (l.bias) f += l.bias[row + r];
      y[m * ldy + row + r] = act(f, relu);
    }
  }
}

// Rows of weights in a tile with M rows of x: as many as there are registers for the sums.
constexpr int rows_in_tile(int m) {
  if (m == 1) return 8;
#if defined(__AVX512F__)
  return 4;
#else
  return m <= 3 ? 4 : m == 4 ? 3 : 2;
#endif
}

template <class Op, int M, bool FETCH>
static void column(const Linear &l, int64_t from, int64_t to, const typename Op::X *x, const float *xs, float *y,
                   int64_t ldy, bool relu) {
  constexpr int R = rows_in_tile(M);
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
static inline void prepare(const Linear &l, const float *x, int64_t m, OpI8::X *to, float *scale) {
  if (l.kind != I8) return;
  const float round = 12582912.f;  // added and taken away, leaves the nearest whole number
  for (int64_t r = 0; r < m; r++, x += l.k, to += l.k) {
    const float top = largest(x, l.k), inverse = top > 0 ? 127.f / top : 0.f;
    scale[r] = top / 127.f;
    int64_t i = 0;
    for (; i + LANES <= l.k; i += LANES) {
      vf v = (load<vf>(x + i) * inverse + round) - round;
      vub q = __builtin_convertvector(__builtin_convertvector(v, vi) + OpI8::ADDED, vub);
      std::memcpy(to + i, &q, LANES);
    }
    for (; i < l.k; i++) to[i] = OpI8::X(int32_t((x[i] * inverse + round) - round) + OpI8::ADDED);
  }
}

static inline void rows(const Linear &l, int64_t from, int64_t to, int64_t m, const float *x, const OpI8::X *prepared,
                        const float *scale, float *y, int64_t ldy, bool relu) {
  if (l.kind == F32)
    product<OpF32>(l, from, to, m, x, nullptr, y, ldy, relu);
  else if (l.kind == BF16)
    product<OpBF16>(l, from, to, m, x, nullptr, y, ldy, relu);
  else
    product<OpI8>(l, from, to, m, prepared, scale, y, ldy, relu);
}
