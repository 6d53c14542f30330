// y = x W^T + b by the processor's matrix tiles (AMX): bfloat16, and int8 with the very sums of `linear.h`.
//
// A tile holds 16 rows of 64 bytes. Sixteen rows of weights are one as they lie; sixteen rows of x are bundled so that a
// row of the tile has one group of each (two bfloat16 or four int8 numbers that are multiplied and added at once). Tiles
// are full, or narrower for fewer than sixteen rows of x: an output is summed in the same order whatever else is in the
// batch. In bfloat16 x is rounded, as in every library that multiplies so.
#pragma once
#include <type_traits>
#include "linear.h"

constexpr int64_t FEW = 4, STREAMS = 8;
constexpr int64_t NEXT = 512;  // bytes of a stream from what is multiplied to what is fetched

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)

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

// Sixteen outputs of one row of x, from its sums; the arithmetic of `finish` and `act`.
template <int KIND>
static inline void give(const Linear &l, int64_t row, __m512i sums, float x_scale, float *y, bool relu) {
  vf f = (vf)sums;
  if (KIND == I8) {
    const vi whole = (vi)sums - load<vi>(l.shift + row);
    f = rounded(__builtin_convertvector(whole, vf) * (load<vf>(l.scale + row) * x_scale));
  }
  if (l.bias) f += load<vf>(l.bias + row);
  if (relu) f = f < 0 ? vf{} : f;
  std::memcpy(y + row, &f, sizeof(f));
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

// Rows [from, to) of the weights, whole tiles of them, with m rows of x: as many at a time as the second cache holds,
// and no few left over at the end, for which all weights would be read once more.
template <int KIND>
static void tiled(const Linear &l, int64_t from, int64_t to, int64_t m, const uint32_t *x, const float *xs, float *y,
                  bool relu) {
  if (m <= TILE) {
    if (m) streamed<KIND>(l, from, to, m, x, xs, y, relu);
    return;
  }
  static const TileShapes shapes;
  _tile_loadconfig(&shapes);
  const int64_t most = std::max<int64_t>(1, HELD / (2 * TILE * l.k * (KIND == BF16 ? 2 : 1))) * 2 * TILE;
  const int64_t held = even(m, most, 2 * TILE);
  for (int64_t begin = 0; begin < m; begin += held) {
    const int64_t end = std::min(m, begin + held);
    int64_t row = from;
    for (; row + 2 * TILE <= to; row += 2 * TILE) rows_of<KIND, 2>(l, row, begin, end, x, xs, y, relu);
    for (; row < to; row += TILE) rows_of<KIND, 1>(l, row, begin, end, x, xs, y, relu);
  }
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
