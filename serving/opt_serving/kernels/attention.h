// Attention over a paged cache. A page holds PAGE positions of one layer and head: keys as [head size][PAGE], so that
// a step of the loop makes the scores of many positions, and values as [PAGE][head size].
#pragma once
#include <type_traits>

#include "linear.h"

constexpr int PAGE = 32;
constexpr int GROUP = LANES == 16 ? 8 : 4;  // queries of one sequence that share a pass over its keys and values
constexpr int TOGETHER = 2;  // vectors of keys or values that a group is multiplied with at once: its sums take half the registers
static_assert(PAGE % (TOGETHER * LANES) == 0, "a page is whole steps");

static inline vf load_as_float(const float *at) { return load<vf>(at); }
static inline vf load_as_float(const uint16_t *at) { return widen(load<vh>(at)); }
static inline float one(const float *at) { return *at; }
static inline float one(const uint16_t *at) { return widen1(*at); }
static inline void put(float *at, float x) { *at = x; }
static inline void put(uint16_t *at, float x) { *at = narrow(x); }

// e^x for x <= 0; relative error below 2e-7 (polynomial of Cephes' expf).
static inline vf exponential(vf x) {
  const vf low = vf{} - 87.f;
  x = x < low ? low : x;
  vf n = x * 1.44269504088896341f;
  n = (n + 12582912.f) - 12582912.f;  // to the nearest whole number
  vf r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vf p = vf{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  vi e = (__builtin_convertvector(n, vi) + 127) << 23;
  return p * (vf)e;
}

// Where the pages of one layer and head lie.
template <class T> struct Cache {
  T *pool;
  int64_t page_stride;   // numbers from one page to the next
  int64_t offset;        // of this layer and head's keys within a page
  int64_t head_size;
  const int32_t *table;  // pages of this sequence
  T *keys(int64_t page) const { return pool + table[page] * page_stride + offset; }
  T *values(int64_t page) const { return keys(page) + head_size * PAGE; }
  // What is read after the keys of a page, of `count` pages, and after its values. Pages lie far apart: a processor
  // that reads one straight through does not know where the next begins.
  const T *after_keys(int64_t page, int64_t count) const { return page + 1 < count ? keys(page + 1) : values(0); }
  const T *after_values(int64_t page, int64_t count) const { return values(std::min(page + 1, count - 1)); }
};

template <class T> static void store(const Cache<T> &c, int64_t position, const float *k, const float *v) {
  T *keys = c.keys(position / PAGE) + position % PAGE;
  T *values = c.values(position / PAGE) + position % PAGE * c.head_size;
  for (int64_t d = 0; d < c.head_size; d++) {
    put(keys + d * PAGE, k[d]);
    put(values + d, v[d]);
  }
}

// Scores of C queries with every position of their sequence up to `length`, [C][length to whole pages].
template <class T, int C>
static void score(const Cache<T> &c, const float *const *q, int64_t length, float scale, float *scores, int64_t lds) {
  constexpr int S = C == 1 ? PAGE / LANES : TOGETHER;
  for (int64_t at = 0; at < length; at += S * LANES) {
    const T *keys = c.keys(at / PAGE) + at % PAGE;
    const T *next = c.after_keys(at / PAGE, (length + PAGE - 1) / PAGE) + at % PAGE;
    vf acc[C][S] = {};
    for (int64_t d = 0; d < c.head_size; d++)
      for (int s = 0; s < S; s++) {
        if (s * LANES * sizeof(T) % 64 == 0) __builtin_prefetch(next + d * PAGE + s * LANES);
        vf kv = load_as_float(keys + d * PAGE + s * LANES);
        for (int i = 0; i < C; i++) acc[i][s] += kv * q[i][d];
      }
    for (int i = 0; i < C; i++)
      for (int s = 0; s < S; s++) {
        vf y = acc[i][s] * scale;
        std::memcpy(scores + i * lds + at + s * LANES, &y, sizeof(vf));
      }
  }
}

// The largest of the first `count` scores; the rest up to `padded` become what softmax makes 0 of.
static inline float largest_of(float *scores, int64_t count, int64_t padded) {
  for (int64_t t = count; t < padded; t++) scores[t] = -INFINITY;
  vf top = vf{} - INFINITY;
  for (int64_t t = 0; t < padded; t += LANES) {
    vf s = load<vf>(scores + t);
    top = s > top ? s : top;
  }
  float most = top[0];
  for (int i = 1; i < LANES; i++) most = std::max(most, top[i]);
  return most;
}

// Softmax over the first `count` scores; the rest up to `padded` become 0. Not normalised: returns the sum.
static inline float soften(float *scores, int64_t count, int64_t padded) {
  const float most = largest_of(scores, count, padded);
  vf sum = {};
  for (int64_t t = 0; t < padded; t += LANES) {
    vf s = load<vf>(scores + t), e = exponential(s - most);
    e = s == vf{} - INFINITY ? vf{} : e;
    sum += e;
    std::memcpy(scores + t, &e, sizeof(vf));
  }
  return total(sum);
}

template <class T, int C, int D>
static void mix_lanes(const Cache<T> &c, const float *p, int64_t ldp, const float *sums, int64_t length, int64_t d,
                      float *const *out) {
  vf acc[C][D] = {};
  for (int64_t page = 0; page * PAGE < length; page++) {
    const T *values = c.values(page) + d, *next = c.after_values(page, (length + PAGE - 1) / PAGE) + d;
    const int64_t count = std::min<int64_t>(PAGE, length - page * PAGE);
    for (int64_t t = 0; t < count; t++)
      for (int j = 0; j < D; j++) {
        if (j * LANES * sizeof(T) % 64 == 0) __builtin_prefetch(next + t * c.head_size + j * LANES);
        vf v = load_as_float(values + t * c.head_size + j * LANES);
        for (int i = 0; i < C; i++) acc[i][j] += v * p[i * ldp + page * PAGE + t];
      }
  }
  for (int i = 0; i < C; i++)
    for (int j = 0; j < D; j++) {
      vf y = acc[i][j] / sums[i];
      std::memcpy(out[i] + d + j * LANES, &y, sizeof(vf));
    }
}

// out = probabilities x values, for C queries.
template <class T, int C>
static void mix(const Cache<T> &c, const float *p, int64_t ldp, const float *sums, int64_t length, float *const *out) {
  constexpr int D = C == 1 ? 4 : TOGETHER;
  int64_t d = 0;
  for (; d + D * LANES <= c.head_size; d += D * LANES) mix_lanes<T, C, D>(c, p, ldp, sums, length, d, out);
  for (; d + LANES <= c.head_size; d += LANES) mix_lanes<T, C, 1>(c, p, ldp, sums, length, d, out);
  for (; d < c.head_size; d++)
    for (int i = 0; i < C; i++) {
      float s = 0.f;
      for (int64_t t = 0; t < length; t++) s += p[i * ldp + t] * one(c.values(t / PAGE) + t % PAGE * c.head_size + d);
      out[i][d] = s / sums[i];
    }
}

// Queries at consecutive positions of one sequence, rows of `width` numbers; each sees the positions up to its own.
template <class T> class ByLoops {
 public:
  typedef T Number;
  static constexpr int64_t MOST = GROUP;
  ByLoops(float scale, int64_t width) : scale(scale), width(width) {}

  void put(const Cache<T> &c, int64_t position, int64_t count, const float *k, const float *v) {
    for (int64_t i = 0; i < count; i++) store(c, position + i, k + i * width, v + i * width);
  }

  void attend(const Cache<T> &c, int64_t position, int64_t count, const float *q, float *out) {
    int64_t i = 0;
    auto by = [&](auto together) {
      constexpr int C = decltype(together)::value;
      for (; i + C <= count; i += C) some<C>(c, position + i, q + i * width, out + i * width);
    };
    by(std::integral_constant<int, GROUP>{});
    by(std::integral_constant<int, GROUP / 2>{});
    by(std::integral_constant<int, 1>{});
  }

 private:
  template <int C> void some(const Cache<T> &c, int64_t position, const float *q, float *out) {
    static thread_local Lines<float> held;
    const int64_t length = position + C, padded = (length + PAGE - 1) / PAGE * PAGE;
    float *scores = scratch(held, GROUP * padded), sums[C], *outs[C];
    const float *queries[C];
    for (int i = 0; i < C; i++) queries[i] = q + i * width, outs[i] = out + i * width;
    score<T, C>(c, queries, length, scale, scores, padded);
    for (int i = 0; i < C; i++) sums[i] = soften(scores + i * padded, position + i + 1, padded);
    mix<T, C>(c, scores, padded, sums, length, outs);
  }

  const float scale;
  const int64_t width;
};
