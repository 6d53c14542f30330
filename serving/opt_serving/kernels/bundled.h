// What products of many rows of x share, however the processor multiplies: rows of x in bundles, what is fetched meanwhile,
// and outputs from sums.
//
// Sixteen rows of x are bundled so that 64 bytes have one group of each: two bfloat16 or four int8 numbers, which are
// multiplied and added at once. Sums of sixteen rows of weights with sixteen of x are a tile: [16][16], a row of weights
// each.
#pragma once
#include <type_traits>
#include "linear.h"

#if defined(__AVX512VNNI__)
constexpr int64_t FEW = 4, STREAMS = 8;

// The 32-bit groups of m rows of x, [m][groups], as [m / 16][groups][16], or [groups][m] of up to sixteen rows; groups are
// whole sixteens.
static inline void bundle(const uint32_t *x, int64_t m, int64_t groups, uint32_t *to) {
  if (m == 1) {
    std::memcpy(to, x, groups * sizeof(uint32_t));
    return;
  }
  const int64_t width = std::min(m, TILE);
  const __mmask16 given = __mmask16((1u << width) - 1);
  __m512i columns[TILE];
  for (int64_t first = 0; first < m; first += TILE)
    for (int64_t g = 0; g < groups; g += TILE) {
      columns_of([&](int i) { return _mm512_loadu_si512(x + std::min(first + i, m - 1) * groups + g); }, columns);
      for (int64_t i = 0; i < TILE; i++, to += width) _mm512_mask_storeu_epi32(to, given, columns[i]);
    }
}

// Where sixteen numbers are that lie `apart` from each other.
static inline __m512i places(int64_t apart) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_mullo_epi32(lanes, _mm512_set1_epi32(int(apart)));
}

// What a block of R x 16 rows of weights fetches of the next while it is multiplied, in a few streams straight through
// memory, which it gives faster than rows side by side: `each` cache lines of every stream in a step. Where x is one part
// it fetches all; several parts share, and line after line disturbs their products less.
struct Ahead {
  const char *from;
  int64_t stream, each;  // bytes of a stream; lines
  template <int R, bool ONE> inline void step(int64_t s) const {
    constexpr int64_t ALL = R * TILE / STREAMS;
    if (ONE)
      for (int64_t j = 0; j < STREAMS; j++)
        for (int64_t i = 0; i < ALL; i++) line(j, s * ALL + i);
    else
      for (int64_t i = s * each; i < (s + 1) * each; i++)
        for (int64_t j = 0; j < STREAMS; j++) line(j, i);
  }
  inline void line(int64_t j, int64_t i) const { __builtin_prefetch(from + j * stream + i * TILE_BYTES, 0, 2); }
};

// Where `count` rows of outputs are written: their cache lines are fetched while it is multiplied.
struct Behind {
  float *y;
  int64_t n, count;
  template <int R> inline void step(int64_t s) const {
    for (int64_t j = 2 * s; j < 2 * s + 2 && j < count; j++)
      for (int r = 0; r < R; r++) __builtin_prefetch(y + j * n + r * TILE, 1, 3);
  }
};

// Sixteen outputs of one row of x, from its sums.
template <int KIND>
static inline void give(const Linear &l, int64_t row, __m512i sums, float x_scale, float *y, bool relu) {
  give_several(l, KIND == I8 ? finish_several<vf>(l, (vi)sums, row, x_scale) : (vf)sums, row, y, relu);
}

// Outputs of the first `count` columns of a tile, each a row of x. To turn the whole tile takes as long as four of them.
template <int KIND>
static inline void give_all(const Linear &l, int64_t row, const int32_t *tile, int64_t count, const float *x_scale,
                            float *y, bool relu) {
  __m512i columns[TILE];
  if (count > FEW) {
    columns_of([&](int i) { return _mm512_load_si512(tile + i * TILE); }, columns);
  } else {
    const __m512i every16th = places(TILE);
    for (int64_t j = 0; j < count; j++) columns[j] = _mm512_i32gather_epi32(every16th, tile + j, 4);
  }
  for (int64_t j = 0; j < count; j++)
    give<KIND>(l, row, columns[j], x_scale ? x_scale[j] : 0.f, y + j * l.n, relu);
}
#endif
