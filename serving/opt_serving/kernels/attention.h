// Attention over a paged cache. A page holds PAGE positions: of each layer the keys of all heads, then their values.
// Keys of a head are [head size][PAGE], so that a step of the loop makes the scores of many positions; its values are
// [PAGE][head size].
//
// Queries of a prompt go head by head, in groups that share what is read. A query of a sequence that decodes shares it
// with none: what counts is reading, so all heads of a page are read as they lie before the next page is.
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
  int64_t to_values;     // from keys to values
  int64_t head_size;
  const int32_t *table;  // pages of this sequence
  T *keys(int64_t page) const { return pool + table[page] * page_stride + offset; }
  T *values(int64_t page) const { return keys(page) + to_values; }
  Cache of(int64_t head) const {
    return {pool, page_stride, offset + head * head_size * PAGE, to_values, head_size, table};
  }
};

static inline int64_t pages_of(int64_t length) { return (length + PAGE - 1) / PAGE; }

template <class T> static void store(const Cache<T> &c, int64_t position, const float *k, const float *v) {
  T *keys = c.keys(position / PAGE) + position % PAGE;
  T *values = c.values(position / PAGE) + position % PAGE * c.head_size;
  for (int64_t d = 0; d < c.head_size; d++) {
    put(keys + d * PAGE, k[d]);
    put(values + d, v[d]);
  }
}

// Scores of C queries with the positions of one page, [C][PAGE] in rows of lds.
template <class T, int C>
static inline void score_page(const T *keys, int64_t head_size, const float *const *q, float scale, float *scores,
                              int64_t lds) {
  constexpr int S = C == 1 ? PAGE / LANES : TOGETHER;
  for (int64_t at = 0; at < PAGE; at += S * LANES) {
    vf acc[C][S] = {};
    for (int64_t d = 0; d < head_size; d++)
      for (int s = 0; s < S; s++) {
        const vf kv = load_as_float(keys + d * PAGE + at + s * LANES);
        for (int i = 0; i < C; i++) acc[i][s] += kv * q[i][d];
      }
    for (int i = 0; i < C; i++)
      for (int s = 0; s < S; s++) {
        const vf y = acc[i][s] * scale;
        std::memcpy(scores + i * lds + at + s * LANES, &y, sizeof(vf));
      }
  }
}

// Which of the numbers from the t-th on are among the first `count`.
static inline vi among(int64_t t, int64_t count) {
  vi lanes;
  for (int i = 0; i < LANES; i++) lanes[i] = i;
  return lanes < vi{} + int32_t(count - t);
}

// The largest of the first `count` scores.
static inline float largest_of(const float *scores, int64_t count) {
  constexpr int AT_ONCE = PAGE / LANES;
  vf tops[AT_ONCE];
  for (vf &top : tops) top = vf{} - INFINITY;
  int64_t t = 0;
  for (; t + PAGE <= count; t += PAGE)
    for (int i = 0; i < AT_ONCE; i++) tops[i] = larger(load<vf>(scores + t + i * LANES), tops[i]);
  for (; t < count; t += LANES) tops[0] = larger(among(t, count) ? load<vf>(scores + t) : vf{} - INFINITY, tops[0]);
  for (int i = 1; i < AT_ONCE; i++) tops[0] = larger(tops[i], tops[0]);
  return largest(tops[0]);
}

// Softmax over the first `count` scores; the rest up to `padded` become 0. Not normalised: returns the sum.
static inline float soften(float *scores, int64_t count, int64_t padded) {
  const float most = largest_of(scores, count);
  vf sum = {};
  for (int64_t t = 0; t < padded; t += LANES) {
    const vf e = among(t, count) ? exponential(load<vf>(scores + t) - most) : vf{};
    sum += e;
    std::memcpy(scores + t, &e, sizeof(vf));
  }
  return total(sum);
}

// Adds probabilities [C][ldp] x values of `count` positions of one page, D vectors of each row.
template <class T, int C, int D>
static inline void mix_page(const T *values, int64_t head_size, int64_t count, const float *p, int64_t ldp,
                            vf (&sums)[C][D]) {
  for (int64_t t = 0; t < count; t++)
    for (int j = 0; j < D; j++) {
      const vf v = load_as_float(values + t * head_size + j * LANES);
      for (int i = 0; i < C; i++) sums[i][j] += v * p[i * ldp + t];
    }
}

static inline int64_t positions_of(int64_t page, int64_t length) {
  return std::min<int64_t>(PAGE, length - page * PAGE);
}

template <class T, int C, int D>
static void mix_lanes(const Cache<T> &c, const float *p, int64_t ldp, const float *sums, int64_t length, int64_t d,
                      float *const *out) {
  vf acc[C][D] = {};
  for (int64_t page = 0; page < pages_of(length); page++)
    mix_page(c.values(page) + d, c.head_size, positions_of(page, length), p + page * PAGE, ldp, acc);
  for (int i = 0; i < C; i++)
    for (int j = 0; j < D; j++) {
      const vf y = acc[i][j] / sums[i];
      std::memcpy(out[i] + d + j * LANES, &y, sizeof(vf));
    }
}

// out = probabilities x values, for C queries.
template <class T, int C>
static void mix(const Cache<T> &c, const float *p, int64_t ldp, const float *sums, int64_t length, float *const *out) {
  int64_t d = 0;
  for (; d + TOGETHER * LANES <= c.head_size; d += TOGETHER * LANES)
    mix_lanes<T, C, TOGETHER>(c, p, ldp, sums, length, d, out);
  for (; d + LANES <= c.head_size; d += LANES) mix_lanes<T, C, 1>(c, p, ldp, sums, length, d, out);
  for (; d < c.head_size; d++)
    for (int i = 0; i < C; i++) {
      float s = 0.f;
      for (int64_t t = 0; t < length; t++) s += p[i * ldp + t] * one(c.values(t / PAGE) + t % PAGE * c.head_size + d);
      out[i][d] = s / sums[i];
    }
}

// Adds to the D vectors from number d on of one query's sums.
template <class T, int D>
static inline void add_lanes(const T *values, int64_t head_size, int64_t count, const float *p, int64_t d, float *sums) {
  vf acc[1][D];
  std::memcpy(acc, sums + d, sizeof(acc));
  mix_page(values + d, head_size, count, p, 0, acc);
  std::memcpy(sums + d, acc, sizeof(acc));
}

// Adds probabilities x values of one page to the sums of one query, [head size].
template <class T> static void add_page(const T *values, int64_t head_size, int64_t count, const float *p, float *sums) {
  int64_t d = 0;
  for (; d + 4 * LANES <= head_size; d += 4 * LANES) add_lanes<T, 4>(values, head_size, count, p, d, sums);
  for (; d + LANES <= head_size; d += LANES) add_lanes<T, 1>(values, head_size, count, p, d, sums);
  for (; d < head_size; d++)
    for (int64_t t = 0; t < count; t++) sums[d] += p[t] * one(values + t * head_size + d);
}

// Queries at consecutive positions of one sequence, rows of `width` numbers; each sees the positions up to its own.
template <class T> class ByLoops {
 public:
  typedef T Number;
  static constexpr int64_t MOST = GROUP;
  static bool few(int64_t count) { return count < GROUP / 2; }
  ByLoops(float scale, int64_t width) : scale(scale), width(width) {}

  void put(const Cache<T> &c, int64_t position, int64_t count, const float *k, const float *v) {
    for (int64_t i = 0; i < count; i++) store(c, position + i, k + i * width, v + i * width);
  }

  void attend(const Cache<T> &c, int64_t position, int64_t count, const float *q, float *out) {
    int64_t i = 0;
    auto by = [&](auto together) {
      constexpr int C = decltype(together)::value;
      for (; i + C <= count; i += C) group<C>(c, position + i, q + i * width, out + i * width);
    };
    by(std::integral_constant<int, GROUP>{});
    by(std::integral_constant<int, GROUP / 2>{});
    attend_few(c, 1, position + i, count - i, q + i * width, out + i * width);
  }

  // Of heads side by side.
  void attend_few(const Cache<T> &c, int64_t heads, int64_t position, int64_t count, const float *q, float *out) {
    for (int64_t i = 0; i < count; i++) alone(c, heads, position + i + 1, q + i * width, out + i * width);
  }

 private:
  template <int C> void group(const Cache<T> &c, int64_t position, const float *q, float *out) {
    static thread_local Lines<float> held;
    const int64_t length = position + C, pages = pages_of(length), padded = pages * PAGE;
    float *scores = scratch(held, C * padded), sums[C], *outs[C];
    const float *queries[C];
    for (int i = 0; i < C; i++) queries[i] = q + i * width, outs[i] = out + i * width;
    for (int64_t page = 0; page < pages; page++)
      score_page<T, C>(c.keys(page), c.head_size, queries, scale, scores + page * PAGE, padded);
    for (int i = 0; i < C; i++) sums[i] = soften(scores + i * padded, position + i + 1, padded);
    mix<T, C>(c, scores, padded, sums, length, outs);
  }

  void alone(const Cache<T> &c, int64_t heads, int64_t length, const float *q, float *out) {
    static thread_local Lines<float> held;
    const int64_t hs = c.head_size, piece = hs * PAGE, pages = pages_of(length), padded = pages * PAGE;
    float *scores = scratch(held, heads * (padded + 1)), *sums = scores + heads * padded;
    for (int64_t page = 0; page < pages; page++)
      for (int64_t h = 0; h < heads; h++) {
        const float *queries[] = {q + h * hs};
        score_page<T, 1>(c.keys(page) + h * piece, hs, queries, scale, scores + h * padded + page * PAGE, 0);
      }
    for (int64_t h = 0; h < heads; h++) sums[h] = soften(scores + h * padded, length, padded);
    std::fill_n(out, heads * hs, 0.f);
    for (int64_t page = 0; page < pages; page++)
      for (int64_t h = 0; h < heads; h++)
        add_page(c.values(page) + h * piece, hs, positions_of(page, length), scores + h * padded + page * PAGE,
                 out + h * hs);
    for (int64_t h = 0; h < heads; h++)
      for (int64_t d = 0; d < hs; d++) out[h * hs + d] /= sums[h];
  }

  const float scale;
  const int64_t width;
};
