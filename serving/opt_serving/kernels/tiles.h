// Products by the processor's matrix tiles (AMX): bfloat16, and int8 with the very sums of `linear.h`.
//
// A tile holds 16 rows of 64 bytes. Sixteen rows of weights are one as they lie; a tile of x is a part of a bundle. Tiles
// are full, or narrower for fewer than sixteen rows of x: an output is summed in the same order whatever else is in the
// batch. In bfloat16 x is rounded, as in every library that multiplies so.
#pragma once
#include "bundled.h"

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)
constexpr int64_t NEXT = 512;  // bytes of a stream from what is multiplied to what is fetched

// R x 16 rows of weights with T x 16 rows of x over `steps` times 64 bytes; sums to `sums`, a tile after the other.
template <int KIND, int R, int T, bool ONE>
static inline void multiply(const char *w, int64_t stride, const char *x, int64_t steps, Ahead ahead, Behind behind,
                            int32_t *sums) {
#define DOT(to, a, b)         \
  if (KIND == BF16)           \
    _tile_dpbf16ps(to, a, b); \
  else                        \
    _tile_dpbsud(to, a, b)
  const char *x2 = x + steps * TILE * TILE_BYTES;
  _tile_zero(0);
  if (T > 1) _tile_zero(1);
  if (R > 1) _tile_zero(2);
  if (R > 1 && T > 1) _tile_zero(3);
  for (int64_t s = 0; s < steps; s++) {
    ahead.step<R, ONE>(s);
    behind.step<R>(s);
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

// A tile for each column of sums and of x: narrower ones for fewer rows of x.
struct FewShapes : TileShapes {
  explicit FewShapes(int64_t m) { row_bytes[0] = row_bytes[6] = uint16_t(m * sizeof(int32_t)); }
};

// Outputs of up to sixteen neighbouring rows of weights, of one row of x.
template <int KIND>
static inline void give_some(const Linear &l, int64_t row, int64_t count, __m512i sums, float x_scale, float *y, bool relu) {
  if (count == TILE) return give<KIND>(l, row, sums, x_scale, y, relu);
  typename std::conditional<KIND == BF16, float, int32_t>::type each[TILE];
  std::memcpy(each, &sums, sizeof(each));
  for (int64_t t = 0; t < count; t++) {
    const float f = finish(l, each[t], row + t, x_scale);
    y[row + t] = act(l.bias ? f + l.bias[row + t] : f, relu);
  }
}

// Rows [from, to) of the weights, whole tiles of them, with up to sixteen rows of x, which wait for memory: a tile takes
// sixteen rows of weights that lie far apart. Each is the head of a stream of its own, as in `linear.h`, and fetched some
// lines ahead.
template <int KIND>
static void streamed(const Linear &l, int64_t from, int64_t to, int64_t m, const uint32_t *x, const float *xs, float *y,
                     bool relu) {
  const FewShapes shapes(m);
  _tile_loadconfig(&shapes);
  alignas(64) int32_t sums[TILE][TILE * TILE];
  const __m512i rows = places(m);
  const int64_t stride = l.k * (KIND == BF16 ? 2 : 1), steps = stride / TILE_BYTES, part = (to - from) / TILE;
  const int64_t x_row = m * sizeof(int32_t), stream = part * stride;
  const char *w = static_cast<const char *>(l.weight) + from * stride;
  for (int64_t i = 0; i < part; i += TILE) {
    const int64_t count = std::min(TILE, part - i);
    for (int64_t t = 0; t < count; t++, w += stride) {
      _tile_zero(0);
      for (int64_t s = 0; s < steps; s++) {
        for (int64_t j = 0; j < TILE; j++) __builtin_prefetch(w + j * stream + s * TILE_BYTES + NEXT, 0, 2);
        _tile_loadd(4, w + s * TILE_BYTES, stream);
        _tile_loadd(6, x + s * TILE * m, x_row);
        if (KIND == BF16)
          _tile_dpbf16ps(0, 4, 6);
        else
          _tile_dpbsud(0, 4, 6);
      }
      _tile_stored(0, sums[t], x_row);
    }
    for (int64_t j = 0; j < m; j++) {
      __m512i columns[TILE];
      columns_of([&](int t) { return _mm512_i32gather_epi32(rows, sums[t] + j, 4); }, columns);
      for (int64_t r = 0; r < TILE; r++)
        give_some<KIND>(l, from + r * part + i, count, columns[r], xs ? xs[j] : 0.f, y + j * l.n, relu);
    }
  }
  _tile_release();
}
#endif
