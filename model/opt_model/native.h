// What compiled loops have in common: memory that begins with a cache line, and matrix tiles (AMX).
#pragma once
#include <cstdint>
#include <new>
#include <vector>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// Memory that begins with a cache line: sixteen numbers that lie in two of them are fetched twice, which for tiles takes
// twice as long.
template <class T> struct LineAllocator {
  typedef T value_type;
  LineAllocator() = default;
  template <class U> LineAllocator(const LineAllocator<U> &) {}
  T *allocate(size_t count) { return static_cast<T *>(::operator new(count * sizeof(T), std::align_val_t(64))); }
  void deallocate(T *at, size_t) { ::operator delete(at, std::align_val_t(64)); }
  template <class U> bool operator==(const LineAllocator<U> &) const { return true; }
  template <class U> bool operator!=(const LineAllocator<U> &) const { return false; }
};
template <class T> using Lines = std::vector<T, LineAllocator<T>>;

template <class T> static T *scratch(Lines<T> &held, int64_t count) {
  if (int64_t(held.size()) < count) held.resize(count);
  return held.data();
}

constexpr int64_t TILE = 16, TILE_BYTES = 64;  // rows of a tile, and bytes of a row

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)
// Eight tiles of full size, as `_tile_loadconfig` takes them.
struct alignas(64) TileShapes {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16];
  uint8_t rows[16];
  TileShapes() {
    for (int i = 0; i < 16; i++) row_bytes[i] = i < 8 ? TILE_BYTES : 0, rows[i] = i < 8 ? TILE : 0;
  }
};
#endif

#if defined(__AVX512F__)
// Sixteen rows of sixteen 32-bit numbers, which `row(i)` gives, as sixteen columns.
template <class F> static inline void columns_of(F row, __m512i *to) {
  __m512i a[TILE], b[TILE];
  for (int i = 0; i < TILE; i++) a[i] = row(i);
  for (int i = 0; i < TILE; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < TILE; i += 4)
    for (int j = 0; j < 2; j++) {
      a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
      a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
    }
  for (int i = 0; i < TILE; i += 8)
    for (int j = 0; j < 4; j++) {
      b[i + j] = _mm512_shuffle_i32x4(a[i + j], a[i + 4 + j], 0x88);
      b[i + 4 + j] = _mm512_shuffle_i32x4(a[i + j], a[i + 4 + j], 0xdd);
    }
  for (int j = 0; j < 8; j++) {
    to[j] = _mm512_shuffle_i32x4(b[j], b[8 + j], 0x88);
    to[8 + j] = _mm512_shuffle_i32x4(b[j], b[8 + j], 0xdd);
  }
}
#endif
