// y = x W^T + b, with the weights as they lie in the file: row after row, no packing.
//
// A tile of weight rows is read once and used for several rows of x, so that one row of x costs what reading the weights
// costs. The rows of a tile lie far apart: each is the head of a stream of its own, and a few streams are read from
// memory faster than one. Every output is summed in the same order whatever else is in the batch: the answer to a request
// does not depend on its neighbours.
#pragma once
#include "lanes.h"
#include "native.h"

constexpr int64_t HELD = 768 << 10;  // bytes of x that stay in the second cache beside weights and outputs
constexpr int64_t NEAR = 24 << 10;   // bytes of the rows of x of a tile that stay in the first cache beside weights and sums
constexpr int64_t SOON = 1024;       // bytes of a row's stream from what is multiplied to what is fetched
constexpr int64_t ROWS = 48;         // of weights that are multiplied with x span by span, at most

// The size of parts of `count`, each at most `most` and all about the same, in whole `step`s: `most` is one, too.
static inline int64_t even(int64_t count, int64_t most, int64_t step) {
  const int64_t parts = std::max<int64_t>(1, (count + most - 1) / most);
  return ((count + parts - 1) / parts + step - 1) / step * step;
}

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

#if defined(__AVX512F__)
constexpr bool WIDE = true;  // 32 registers, not 16
#else
constexpr bool WIDE = false;
#endif

// What each number format is multiplied with, how much one step takes, and with how many rows of x at most: beyond them
// the sums do not fit the registers.
struct OpF32 {
  typedef float W;
  typedef float X;
  typedef vf Acc;
  typedef float Sum;
  typedef vf Wv;
  static constexpr int STEP = LANES, MOST = WIDE ? 6 : 4;
  static inline Wv w(const W *at) { return load<vf>(at); }
  static inline Acc fma(Acc a, Wv w, const X *x) { return a + w * load<vf>(x); }
  static inline Sum tail(W w, X x) { return w * x; }
};
// Two weights in 32 bits are two floats but for a shift and a mask; x is woven alike (`weave`). The processor's bfloat16
// instruction is no faster than float32 where there are no matrix tiles, and would round x.
struct OpBF16 {
  typedef uint16_t W;
  typedef float X;
  typedef vf Acc;
  typedef float Sum;
  typedef vu Wv;
  static constexpr int STEP = 2 * LANES, MOST = WIDE ? 6 : 2;
  static inline Wv w(const W *at) { return load<vu>(at); }
  static inline Acc fma(Acc a, Wv w, const X *x) {
    a = a + (vf)(w << 16) * load<vf>(x);
    return a + (vf)(w & 0xffff0000u) * load<vf>(x + LANES);
  }
  static inline Sum tail(W w, X x) { return widen1(w) * x; }
};
// Whole numbers from -127 to 127 on both sides; the sums are exact, so that every processor gives the same.
struct OpI8 {
  typedef int8_t W;
  typedef vi Acc;
  typedef int32_t Sum;
  static constexpr int MOST = WIDE ? 6 : 4;
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
#elif defined(__AVX2__)  // the same; bytes are not quicker: they cost an instruction that moves signs
  typedef int16_t X;
  static constexpr int STEP = 16, ADDED = 0;
  typedef __m256i Wv;
  static inline Wv w(const W *at) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(at)));
  }
  static inline Acc fma(Acc a, Wv w, const X *x) {
    return a + (vi)_mm256_madd_epi16(w, _mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)));
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
  return rounded(float(OpI8::ADDED ? s - l.shift[row] : s) * (l.scale[row] * x_scale));
}

// Neighbouring outputs of one row of x, as many as a vector holds: the arithmetic of `finish` and `act`.
template <class F, class I>
static inline F finish_several(const Linear &l, I sums, int64_t row, float x_scale) {
  if (OpI8::ADDED) sums -= load<I>(l.shift + row);
  return rounded(__builtin_convertvector(sums, F) * (load<F>(l.scale + row) * x_scale));
}
template <class F> static inline void give_several(const Linear &l, F f, int64_t row, float *y, bool relu) {
  if (l.bias) f += load<F>(l.bias + row);
  if (relu) f = f < 0 ? F{} : f;
  std::memcpy(y + row, &f, sizeof(f));
}

typedef float vf4 __attribute__((vector_size(16)));
typedef int32_t vi4 __attribute__((vector_size(16)));
static inline vf4 finish_four(const Linear &, const float *sums, int64_t, float) { return load<vf4>(sums); }
static inline vf4 finish_four(const Linear &l, const int32_t *sums, int64_t row, float x_scale) {
  return finish_several<vf4>(l, load<vi4>(sums), row, x_scale);
}

// What is left of a row after the last whole step.
template <class Op>
__attribute__((noinline)) static typename Op::Sum rest(const typename Op::W *w, const typename Op::X *x, int64_t i,
                                                       int64_t k) {
  typename Op::Sum sum = 0;
  for (; i < k; i++) sum += Op::tail(w[i], x[i]);
  return sum;
}

// Weights that come later, fetched meanwhile: half as many bytes as are multiplied, in one of `every` steps, which is a
// power of two. Memory gives them at its own pace: all in a few parts would hold those up.
struct Later {
  const char *from;
  int64_t every;
};

// The total of each of a tile's sums. All is unrolled: a sum that is found by a variable would lie in memory, not in a
// register.
template <class Op, int R, int M>
static inline void sum_up(const typename Op::Acc (&acc)[M][R], typename Op::Sum (&sums)[M][R]) {
  if constexpr (R == 4) {
#pragma GCC unroll 8
    for (int m = 0; m + 2 <= M; m += 2) totals_of_eight(acc[m], sums[m]);
    if constexpr (M % 2) totals(acc[M - 1], sums[M - 1]);
  } else {
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
      for (int r = 0; r < R; r++) sums[m][r] = total(acc[m][r]);
  }
}

// Numbers [from, to) of every row of weights and of x. Sums wait from one span to the next.
struct Span {
  int64_t from, to;
};

// Rows row, row + apart, row + 2 apart.. of the weights, R of them, with M rows of x; `kept` are M x R sums.
template <class Op, int R, int M, bool AHEAD>
static inline void tile(const Linear &l, int64_t row, int64_t apart, Span span, typename Op::Acc *kept,
                        const typename Op::X *x, const float *x_scale, float *y, bool relu, Later later) {
  constexpr int64_t FETCHED = R * Op::STEP * sizeof(typename Op::W) / 2;
  const int64_t k = l.k, skipped = (later.every - 1) * Op::STEP;
  const typename Op::W *w = static_cast<const typename Op::W *>(l.weight) + row * k;
  typename Op::Acc acc[M][R] = {};
  if (span.from) std::memcpy(acc, kept, sizeof(acc));
  int64_t i = span.from;
  for (; i + Op::STEP <= span.to; i += Op::STEP) {
    if (AHEAD && !(i & skipped)) {
      for (int64_t b = 0; b < FETCHED; b += 64) __builtin_prefetch(later.from + b, 0, 2);
      later.from += FETCHED;
    }
    for (int r = 0; r < R; r++) {
      const typename Op::W *at = w + r * apart * k + i;
      if (!AHEAD && apart != 1) __builtin_prefetch(reinterpret_cast<const char *>(at) + SOON, 0, 2);
      const typename Op::Wv wv = Op::w(at);
      for (int m = 0; m < M; m++) acc[m][r] = Op::fma(acc[m][r], wv, x + m * k + i);
    }
  }
  if (span.to < k) {
    std::memcpy(kept, acc, sizeof(acc));
    return;
  }
  typename Op::Sum sums[M][R];
  sum_up<Op, R, M>(acc, sums);
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    if (i < k)
      for (int r = 0; r < R; r++) sums[m][r] += rest<Op>(w + r * apart * k, x + m * k, i, k);
    if (R == 4 && apart == 1) {
      give_several(l, finish_four(l, sums[m], row, x_scale ? x_scale[m] : 0.f), row, y + m * l.n, relu);
      continue;
    }
    for (int r = 0; r < R; r++) {
      const int64_t at = row + r * apart;
      const float f = finish(l, sums[m][r], at, x_scale ? x_scale[m] : 0.f);
      y[m * l.n + at] = act(l.bias ? f + l.bias[at] : f, relu);
    }
  }
}

// Rows [from, to) of the weights with M rows of x: a few of them span by span, so that x stays in the first cache for all.
// Those of many that a tile takes lie far apart; those of a few are neighbours, whose outputs are written at once.
template <class Op, int M, bool AHEAD>
__attribute__((noinline)) static void column(const Linear &l, int64_t from, int64_t to, const typename Op::X *x,
                                             const float *xs, float *y, bool relu, Later later) {
  constexpr int R = !WIDE && M > 3 ? 3 : 4;
  const bool many = to - from > ROWS;
  const int64_t part = (to - from) / R, apart = many ? part : 1, next = many ? 1 : R;
  const int64_t step = many ? l.k : even(l.k, NEAR / (M * int64_t(sizeof(typename Op::X))), 16 * Op::STEP);
  typename Op::Acc kept[ROWS * M];
  for (Span span{0, std::min(step, l.k)}; span.from < l.k; span = {span.to, std::min(span.to + step, l.k)}) {
    const int64_t fetched = AHEAD ? R * (span.to - span.from) * int64_t(sizeof(typename Op::W)) / 2 / later.every : 0;
    for (int64_t i = 0; i < part; i++, later.from += fetched)
      tile<Op, R, M, AHEAD>(l, from + i * next, apart, span, kept + i * R * M, x, xs, y, relu, later);
  }
  for (int64_t row = from + R * part; row < to; row++) tile<Op, 1, M, false>(l, row, 0, {0, l.k}, kept, x, xs, y, relu, {});
}

template <class Op, int M>
static void columns(int64_t count, const Linear &l, int64_t from, int64_t to, const typename Op::X *x, const float *xs,
                    float *y, bool relu, Later later) {
  if constexpr (M > 1)
    if (count < M) return columns<Op, M - 1>(count, l, from, to, x, xs, y, relu, later);
  later.from ? column<Op, M, true>(l, from, to, x, xs, y, relu, later)
             : column<Op, M, false>(l, from, to, x, xs, y, relu, {});
}

// Rows [from, to) of the weights with m rows of x. What one tile can take is one part and reads the weights straight
// through. More are several parts of even sizes, as many at a time as the second cache holds: some rows of weights at a
// time stay there for all of them, and most parts fetch a share of the rows that follow.
template <class Op>
static void product(const Linear &l, int64_t from, int64_t to, int64_t m, const typename Op::X *x, const float *xs,
                    float *y, bool relu) {
  const int64_t parts = (m + Op::MOST - 1) / Op::MOST, row_bytes = l.k * sizeof(typename Op::W);
  const int64_t dozens = std::max<int64_t>(1, (288 << 10) / row_bytes / 12);  // whole tiles, of three rows or of four
  const int64_t chunk = parts == 1 ? to - from : std::min(ROWS, 12 * dozens);
  const int64_t held = even(parts, std::max<int64_t>(2, HELD / (Op::MOST * l.k * int64_t(sizeof(typename Op::X)))), 1);
  for (int64_t first = 0; first < parts; first += held) {
    const int64_t last = std::min(parts, first + held);
    int64_t every = 1;  // two parts fetch all that follows if they do it in each step
    while (4 * every <= last - first) every *= 2;
    for (int64_t row = from; row < to; row += chunk) {
      const int64_t end = std::min(to, row + chunk), share = (end - row) * row_bytes / 2 / every;
      const char *next = static_cast<const char *>(l.weight) + end * row_bytes;
      for (int64_t part = first; part < last; part++) {
        const int64_t j = m * part / parts, count = m * (part + 1) / parts - j, at = part - first;
        const Later later{parts > 1 && at < 2 * every ? next + at * share : nullptr, every};
        columns<Op, Op::MOST>(count, l, row, end, x + j * l.k, xs ? xs + j : nullptr, y + j * l.n, relu, later);
      }
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

// A row of x as two bfloat16 weights at a time are multiplied with: each step's even numbers, then its odd ones.
static inline void weave(const float *x, int64_t count, float *to) {
  int64_t i = 0;
  for (; i + OpBF16::STEP <= count; i += OpBF16::STEP)
    for (int j = 0; j < LANES; j++) {
      to[i + j] = x[i + 2 * j];
      to[i + LANES + j] = x[i + 2 * j + 1];
    }
  for (; i < count; i++) to[i] = x[i];
}

// A row of x as int8 weights are multiplied with; returns its scale, from its largest number.
static inline float round_to_int8(const float *x, int64_t count, OpI8::X *to) {
  typedef OpI8::X vx __attribute__((vector_size(LANES * sizeof(OpI8::X))));
  const float round = 12582912.f;  // added and taken away, leaves the nearest whole number
  const float top = largest(x, count), inverse = top > 0 ? 127.f / top : 0.f;
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    vf v = (load<vf>(x + i) * inverse + round) - round;
    vx q = __builtin_convertvector(__builtin_convertvector(v, vi) + OpI8::ADDED, vx);
    std::memcpy(to + i, &q, sizeof(vx));
  }
  for (; i < count; i++) to[i] = OpI8::X(int32_t((x[i] * inverse + round) - round) + OpI8::ADDED);
  return top / 127.f;
}
