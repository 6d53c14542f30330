// y = x W^T + b by the processor's matrix tiles (AMX): bfloat16, and int8 with the very sums of `linear.h`.
//
// A tile holds 16 rows of 64 bytes. Sixteen rows of weights are one as they lie; sixteen rows of x are bundled so that a
// row of the tile has one group of each (two bfloat16 or four int8 numbers that are multiplied and added at once). Tiles
// are always full: where x has fewer rows, the last one stands in for those that are missing, so that an output is summed
// in the same order whatever else is in the batch. In bfloat16 x is rounded, as in every library that multiplies so.
#pragma once
#include "linear.h"

constexpr int64_t TILE = 16, TILE_BYTES = 64, FEW = 4, STREAMS = 8;

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)

struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16];
  uint8_t rows[16];
  TileShapes() {
    for (int i = 0; i < 16; i++) row_bytes[i] = i < 8 ? TILE_BYTES : 0, rows[i] = i < 8 ? TILE : 0;
  }
};

// The 32-bit groups of m rows of x, [m][groups], as [m / 16][groups][16].
static inline void bundle(const uint32_t *x, int64_t m, int64_t groups, uint32_t *to) {
  alignas(64) int32_t row[TILE];
  for (int64_t first = 0; first < m; first += TILE) {
    for (int64_t j = 0; j < TILE; j++) row[j] = int32_t((std::min(first + j, m - 1) - first) * groups);
    const __m512i at = _mm512_load_si512(row);
    for (int64_t g = 0; g < groups; g++, to += TILE)
      _mm512_storeu_si512(to, _mm512_i32gather_epi32(at, x + first * groups + g, 4));
  }
}

// R x 16 rows of weights with T x 16 rows of x over `steps` times 64 bytes; sums to `sums`, a tile after the other.
template <int KIND, int R, int T>
static inline void multiply(const char *w, int64_t stride, const char *x, int64_t steps, const char *ahead,
                            int32_t *sums) {
#define DOT(to, a, b)         \
  if (KIND == BF16)           \
    _tile_dpbf16ps(to, a, b); \
  else                        \
    _tile_dpbsud(to, a, b)
  constexpr int64_t SHARE = R * TILE / STREAMS;  // of the rows that follow, and of a step's cache lines
  const char *x2 = x + steps * TILE * TILE_BYTES;
  _tile_zero(0);
  if (T > 1) _tile_zero(1);
  if (R > 1) _tile_zero(2);
  if (R > 1 && T > 1) _tile_zero(3);
  for (int64_t s = 0; s < steps; s++) {
    if (ahead)  // in a few streams straight through memory, which it gives faster than rows side by side
      for (int64_t stream = 0; stream < STREAMS; stream++)
        for (int64_t i = 0; i < SHARE; i++)
          __builtin_prefetch(ahead + SHARE * (stream * stride + s * TILE_BYTES) + i * TILE_BYTES, 0, 2);
    _tile_loadd(4, w + s * TILE_BYTES, stride);
    if (R > 1) _tile_loadd(5, w + TILE * stride + s * TILE_BYTES, stride);
    _tile_loadd(6, x + s * TILE * TILE_BYTES, TILE_BYTES);
    if (T > 1) _tile_loadd(7, x2 + s * TILE * TILE_BYTES, TILE_BYTES);
    DOT(0, 4, 6);
    if (T > 1) {
      DOT(1, 4, 7);
    }
    if (R > 1) {
      DOT(2, 5, 6);
    }
    if (R > 1 && T > 1) {
      DOT(3, 5, 7);
    }
  }
#undef DOT
  _tile_stored(0, sums, TILE_BYTES);
  if (T > 1) _tile_stored(1, sums + 256, TILE_BYTES);
  if (R > 1) _tile_stored(2, sums + 512, TILE_BYTES);
  if (R > 1 && T > 1) _tile_stored(3, sums + 768, TILE_BYTES);
}

// Sixteen outputs of one row of x, from a column of a tile; the arithmetic of `finish` and `act`.
template <int KIND>
static inline void give(const Linear &l, int64_t row, const int32_t *column, float x_scale, float *y, bool relu) {
  const __m512i every16th = _mm512_slli_epi32(
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), 4);
  const __m512i sums = _mm512_i32gather_epi32(every16th, column, 4);
  vf f = (vf)sums;
  if (KIND == I8) {
    const vi whole = (vi)sums - load<vi>(l.shift + row);
    f = rounded(__builtin_convertvector(whole, vf) * (load<vf>(l.scale + row) * x_scale));
  }
  if (l.bias) f += load<vf>(l.bias + row);
  if (relu) f = f < 0 ? vf{} : f;
  std::memcpy(y + row, &f, sizeof(f));
}

template <int KIND, int R, int T>
static void block_of(const Linear &l, int64_t row, int64_t first, int64_t m, const uint32_t *x, const float *xs,
                     float *y, bool relu, bool fetch) {
  alignas(64) int32_t sums[4 * 256];
  const int64_t stride = l.k * (KIND == BF16 ? 2 : 1), steps = stride / TILE_BYTES;
  const char *w = static_cast<const char *>(l.weight) + row * stride;
  const char *at = reinterpret_cast<const char *>(x) + first * stride;
  multiply<KIND, R, T>(w, stride, at, steps, fetch ? w + R * TILE * stride : nullptr, sums);
  for (int r = 0; r < R; r++)
    for (int64_t j = first; j < std::min(m, first + T * TILE); j++) {
      const int64_t t = (j - first) / TILE;
      give<KIND>(l, row + r * TILE, sums + (2 * r + t) * 256 + (j - first) % TILE, xs ? xs[j] : 0.f, y + j * l.n, relu);
    }
}

template <int KIND, int R>
static void rows_of(const Linear &l, int64_t row, int64_t m, const uint32_t *x, const float *xs, float *y, bool relu) {
  for (int64_t first = 0; first < m; first += 2 * TILE)
    m - first > TILE ? block_of<KIND, R, 2>(l, row, first, m, x, xs, y, relu, first == 0)
                     : block_of<KIND, R, 1>(l, row, first, m, x, xs, y, relu, first == 0);
}

// Rows [from, to) of the weights, whole tiles of them, with m rows of x. A block of weights stays in the cache for all
// rows of x; the first of them fetch what follows.
template <int KIND>
static void tiled(const Linear &l, int64_t from, int64_t to, int64_t m, const uint32_t *x, const float *xs, float *y,
                  bool relu) {
  static const TileShapes shapes;
  _tile_loadconfig(&shapes);
  int64_t row = from;
  for (; row + 2 * TILE <= to; row += 2 * TILE) rows_of<KIND, 2>(l, row, m, x, xs, y, relu);
  for (; row < to; row += TILE) rows_of<KIND, 1>(l, row, m, x, xs, y, relu);
  _tile_release();
}

// Whether tiles multiply m rows of x with this matrix, but for what its rows are more than whole tiles. A few rows in int8
// are quicker without: one reads no row of x more than it needs, and whole numbers have the same sum either way.
static inline bool takes_tiles(const Linear &l, int64_t m) {
  if (l.kind == I8) return m > FEW && l.k % TILE_BYTES == 0;
  return l.kind == BF16 && 2 * l.k % TILE_BYTES == 0;
}
#else
static inline bool takes_tiles(const Linear &, int64_t) { return false; }
static inline void bundle(const uint32_t *, int64_t, int64_t, uint32_t *) {}
template <int KIND>
static void tiled(const Linear &, int64_t, int64_t, int64_t, const uint32_t *, const float *, float *, bool) {}
#endif
