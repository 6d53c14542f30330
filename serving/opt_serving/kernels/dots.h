// Products in int8 by the processor's dot products of four bytes (AVX-512 VNNI), where it has no matrix tiles: sixteen rows
// of x side by side in a register, one row of weights after the other. Nothing is added up across a register, which for
// rows as short as a model's takes as long as multiplying.
#pragma once
#include "bundled.h"

#if defined(__AVX512VNNI__) && !defined(__AMX_INT8__)

// 16 / T rows of weights with T x 16 rows of x over `groups` of four numbers; sums to T tiles, from one of their rows on.
// So many sums keep the processor busy while each waits for the one before.
template <int T>
static inline void dots(const char *w, int64_t stride, const char *x, int64_t panel, int64_t groups, int32_t *sums) {
  constexpr int ROWS_AT_ONCE = TILE / T;
  __m512i acc[ROWS_AT_ONCE][T] = {};
  for (int64_t g = 0; g < groups; g++) {
    __m512i some[T];
    for (int t = 0; t < T; t++) some[t] = _mm512_loadu_si512(x + t * panel + g * TILE_BYTES);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS_AT_ONCE; r++) {
      int32_t four;
      std::memcpy(&four, w + r * stride + g * sizeof(four), sizeof(four));
      const __m512i each = _mm512_set1_epi32(four);
      for (int t = 0; t < T; t++) acc[r][t] = _mm512_dpbusd_epi32(acc[r][t], some[t], each);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS_AT_ONCE; r++)
    for (int t = 0; t < T; t++) _mm512_store_si512(sums + t * TILE * TILE + r * TILE, acc[r][t]);
}

// R x 16 rows of weights with T x 16 rows of x over `steps` times 64 bytes; sums to `sums`, a tile after the other.
template <int KIND, int R, int T, bool ONE>
static inline void multiply(const char *w, int64_t stride, const char *x, int64_t steps, Ahead ahead, Behind behind,
                            int32_t *sums) {
  static_assert(KIND == I8, "bfloat16 is multiplied by `linear.h`");
  constexpr int AT_ONCE = TILE / T;
  for (int64_t s = 0; s < steps; s++) {
    ahead.step<R, ONE>(s);
    behind.step<R>(s);
  }
  for (int row = 0; row < R * TILE; row += AT_ONCE)
    dots<T>(w + row * stride, stride, x, steps * TILE * TILE_BYTES, steps * TILE,
            sums + row / TILE * 2 * TILE * TILE + row % TILE * TILE);
}
#endif
