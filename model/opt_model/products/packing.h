// Panels of factors, cut into the three bfloat16 parts of each number and laid out as tiles take them.
#pragma once
#include <algorithm>
#include <cstring>
#include "native.h"

// A matrix [rows, k], as which both factors are seen: element (r, i) is at[r * row + i * step], and one of the two is 1.
struct Factor {
  const float *at;
  int64_t rows, row, step;
};

#if defined(__AMX_BF16__)
constexpr int64_t STEP = 32;                    // numbers of a row of a tile
constexpr int64_t PANEL = 2 * TILE, PARTS = 3;  // rows that are multiplied together
constexpr int64_t PIECE = TILE * TILE_BYTES, PACKED = PARTS * 2 * PIECE;  // bytes: one tile; what a step has of a panel

// Pairs of numbers, 16 `even` ones and 16 `odd` ones, as pairs of bfloat16: first parts, second parts, third parts.
static inline void split(__m512 even, __m512 odd, char *to) {
  const __m512i weave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                         20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i upper = _mm512_set1_epi32(int(0xffff0000u));
  for (int p = 0; p < PARTS; p++, to += 2 * PIECE) {
    const __m512i part = _mm512_permutexvar_epi16(weave, (__m512i)_mm512_cvtne2ps_pbh(odd, even));
    _mm512_store_si512(to, part);
    even = _mm512_sub_ps(even, (__m512)_mm512_slli_epi32(part, 16));
    odd = _mm512_sub_ps(odd, (__m512)_mm512_and_si512(part, upper));
  }
}

// Sixteen rows of one step, none missing: to PIECE bytes for each part. A tile of A has rows, one of B has pairs of
// neighbours of all rows. Where the numbers lie the other way, they are turned first.
template <bool OF_A, bool ALONG> static inline void pack_tile(const float *at, int64_t apart, char *to) {
  const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odds = _mm512_add_epi32(evens, _mm512_set1_epi32(1));
  if constexpr (!OF_A && !ALONG) {
    for (int i = 0; i < TILE; i++, to += TILE_BYTES)
      split(_mm512_loadu_ps(at + 2 * i * apart), _mm512_loadu_ps(at + (2 * i + 1) * apart), to);
    return;
  }
  if constexpr (OF_A && ALONG) {
    for (int i = 0; i < TILE; i++, to += TILE_BYTES) {
      const __m512 low = _mm512_loadu_ps(at + i * apart), high = _mm512_loadu_ps(at + i * apart + TILE);
      split(_mm512_permutex2var_ps(low, evens, high), _mm512_permutex2var_ps(low, odds, high), to);
    }
    return;
  }
  __m512i first[TILE], second[TILE];
  columns_of([&](int i) { return _mm512_loadu_si512(at + i * apart); }, first);
  columns_of([&](int i) { return _mm512_loadu_si512(ALONG ? at + i * apart + TILE : at + (i + TILE) * apart); }, second);
  for (int i = 0; i < TILE; i++, to += TILE_BYTES) {
    if constexpr (OF_A) {
      const __m512 low = (__m512)first[i], high = (__m512)second[i];
      split(_mm512_permutex2var_ps(low, evens, high), _mm512_permutex2var_ps(low, odds, high), to);
    } else {
      const __m512i *half = i < TILE / 2 ? first : second;
      const int j = 2 * i % TILE;
      split((__m512)half[j], (__m512)half[j + 1], to);
    }
  }
}

// Fetches the numbers that a tile has, of another panel.
static inline void fetch_tile(const Factor &f, const float *at) {
  const bool along = f.step == 1;
  for (int64_t i = 0; i < (along ? TILE : STEP); i++, at += along ? f.row : f.step) {
    __builtin_prefetch(at, 0, 2);
    if (along) __builtin_prefetch(at + TILE, 0, 2);
  }
}

// A panel of steps [from, to) of a factor with k numbers in a row; the next one is fetched.
template <bool OF_A>
static void pack(const Factor &f, int64_t k, int64_t panel, int64_t from, int64_t to, char *into) {
  alignas(TILE_BYTES) float edge[TILE * STEP];
  for (int64_t s = from; s < to; s++, into += PACKED)
    for (int64_t t = 0; t < PANEL / TILE; t++) {
      const int64_t first = panel * PANEL + t * TILE, rows = std::min(TILE, f.rows - first);
      const int64_t count = std::min(STEP, k - s * STEP);
      const float *at = f.at + first * f.row + s * STEP * f.step;
      char *tile = into + t * PIECE;
      if (rows == TILE && count == STEP) {
        fetch_tile(f, at + PANEL * f.row);
        f.step == 1 ? pack_tile<OF_A, true>(at, f.row, tile) : pack_tile<OF_A, false>(at, f.step, tile);
        continue;
      }
      std::memset(edge, 0, sizeof(edge));
      for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < count; i++) edge[r * STEP + i] = at[r * f.row + i * f.step];
      pack_tile<OF_A, true>(edge, STEP, tile);
    }
}

// Memory that is fetched into the second cache while other things are multiplied: `lines` cache lines of rows that lie
// `row` bytes apart, `each` of them in a step.
struct Fetch {
  const char *at;
  int64_t row, lines, each, line;
  inline void step() {
    for (int64_t i = 0; i < each; i++) {
      __builtin_prefetch(at + line * TILE_BYTES, 0, 2);
      if (++line == lines) at += row, line = 0;
    }
  }
};

// Steps [from, to) of some panels, fetched while as many are multiplied with `panels` others.
static Fetch fetch_group(const Factor &f, int64_t first, int64_t count, int64_t from, int64_t to, int64_t panels) {
  const bool along = f.step == 1;
  const int64_t steps = to - from, numbers = TILE_BYTES / sizeof(float);
  const int64_t rows = along ? count * PANEL : steps * STEP, lines = (along ? steps * STEP : count * PANEL) / numbers;
  const int64_t each = (rows * lines + panels * count * steps - 1) / (panels * count * steps);
  const float *at = f.at + first * PANEL * f.row + from * STEP * f.step;
  return {(const char *)at, (along ? f.row : f.step) * int64_t(sizeof(float)), lines, each, 0};
}
#endif
