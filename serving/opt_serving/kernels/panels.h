// y = x W^T + b for many rows of x, in panels of up to 32 of them: by matrix tiles (`tiles.h`), or by dot products in int8
// (`dots.h`).
#pragma once
#include "dots.h"
#include "tiles.h"

#if defined(__AVX512VNNI__)

template <int KIND, int R, int T, bool ONE>
static void block_of(const Linear &l, int64_t row, int64_t first, int64_t m, const uint32_t *x, const float *xs,
                     float *y, bool relu, Ahead ahead) {
  alignas(64) int32_t sums[4 * 256];
  const int64_t stride = l.k * (KIND == BF16 ? 2 : 1), steps = stride / TILE_BYTES;
  const char *w = static_cast<const char *>(l.weight) + row * stride;
  const char *at = reinterpret_cast<const char *>(x) + first * stride;
  multiply<KIND, R, T, ONE>(w, stride, at, steps, ahead, {y + first * l.n + row, l.n, std::min(m - first, T * TILE)}, sums);
  for (int r = 0; r < R; r++)
    for (int64_t t = 0; t < T && first + t * TILE < m; t++) {
      const int64_t j = first + t * TILE, count = std::min(m - j, TILE);
      give_all<KIND>(l, row + r * TILE, sums + (2 * r + t) * 256, count, xs ? xs + j : nullptr, y + j * l.n, relu);
    }
}

// R x 16 rows of the weights with rows [begin, end) of x. The block stays in the cache for all of them; meanwhile the
// first few fetch the next, each its part: all at once would hold up the first of them.
template <int KIND, int R>
static void rows_of(const Linear &l, int64_t row, int64_t begin, int64_t end, const uint32_t *x, const float *xs,
                    float *y, bool relu) {
  constexpr int64_t LINES = R * TILE / STREAMS;  // of a stream, for each step of a whole block
  const int64_t stride = l.k * (KIND == BF16 ? 2 : 1), panels = (end - begin + 2 * TILE - 1) / (2 * TILE);
  Ahead ahead{static_cast<const char *>(l.weight) + (row + R * TILE) * stride, LINES * stride,
              (LINES + panels - 1) / panels};
  if (panels == 1) return block_of<KIND, R, 2, true>(l, row, begin, end, x, xs, y, relu, ahead);
  for (int64_t first = begin, left = LINES; first < end; first += 2 * TILE) {
    end - first > TILE ? block_of<KIND, R, 2, false>(l, row, first, end, x, xs, y, relu, ahead)
                       : block_of<KIND, R, 1, false>(l, row, first, end, x, xs, y, relu, ahead);
    ahead.from += ahead.each * stride;
    left -= ahead.each;
    if (left <= 0) ahead.each = 0;
  }
}

// Rows [from, to) of the weights, whole tiles of them, with m rows of x: as many at a time as the second cache holds,
// and no few left over at the end, for which all weights would be read once more.
template <int KIND>
static void panelled(const Linear &l, int64_t from, int64_t to, int64_t m, const uint32_t *x, const float *xs, float *y,
                     bool relu) {
#if defined(__AMX_INT8__)
  if (m <= TILE) {
    if (m) streamed<KIND>(l, from, to, m, x, xs, y, relu);
    return;
  }
  static const TileShapes shapes;
  _tile_loadconfig(&shapes);
#endif
  const int64_t most = std::max<int64_t>(1, HELD / (2 * TILE * l.k * (KIND == BF16 ? 2 : 1))) * 2 * TILE;
  const int64_t held = even(m, most, 2 * TILE);
  for (int64_t begin = 0; begin < m; begin += held) {
    const int64_t end = std::min(m, begin + held);
    int64_t row = from;
    for (; row + 2 * TILE <= to; row += 2 * TILE) rows_of<KIND, 2>(l, row, begin, end, x, xs, y, relu);
    for (; row < to; row += TILE) rows_of<KIND, 1>(l, row, begin, end, x, xs, y, relu);
  }
#if defined(__AMX_INT8__)
  _tile_release();
#endif
}

// Whether panels are what m rows of x are multiplied in with this matrix, but for what its rows are more than whole tiles.
// A few rows in int8 are quicker without: one reads no row of x more than it needs, and whole numbers have the same sum
// either way.
static inline bool takes_panels(const Linear &l, int64_t m) {
#if defined(__AMX_INT8__)
  if (l.kind == BF16) return 2 * l.k % TILE_BYTES == 0;
  constexpr int64_t FEWER = FEW;
#else
  constexpr int64_t FEWER = 2 * TILE - 1;  // a panel that is not full costs as much as one that is
#endif
  return l.kind == I8 && m > FEWER && l.k % TILE_BYTES == 0;
}
#else
static inline bool takes_panels(const Linear &, int64_t) { return false; }
static inline void bundle(const uint32_t *, int64_t, int64_t, uint32_t *) {}
template <int KIND>
static void panelled(const Linear &, int64_t, int64_t, int64_t, const uint32_t *, const float *, float *, bool) {}
#endif
