// Weights from the formats of files to those of products, row by row, with the bits that torch makes.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__F16C__)
#include <immintrin.h>
#endif

enum Format { FLOAT32 = 0, BFLOAT16 = 1, FLOAT16 = 3 };  // as in `library.py`

// A matrix as it lies in a file.
struct Stored {
  const void *numbers;
  int64_t rows, width, stride;  // numbers from one row to the next
  int32_t format;
};

static inline float of_half(uint16_t h) {
#if defined(__F16C__)
  return _cvtsh_ss(h);
#else
  _Float16 f;
  std::memcpy(&f, &h, 2);
  return float(f);
#endif
}

// One row in float32: where it lies, or a copy in `room`.
static const float *wide_row(const Stored &s, int64_t row, std::vector<float> &room) {
  const int64_t n = s.width;
  if (s.format == FLOAT32) return (const float *)s.numbers + row * s.stride;
  const uint16_t *at = (const uint16_t *)s.numbers + row * s.stride;
  room.resize(n);
  float *x = room.data();
  int64_t i = 0;
  if (s.format == BFLOAT16) {
    uint32_t *bits = (uint32_t *)x;
    for (; i < n; i++) bits[i] = uint32_t(at[i]) << 16;
    return x;
  }
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(x + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at + i))));
#endif
  for (; i < n; i++) x[i] = of_half(at[i]);
  return x;
}

// bfloat16 to nearest, ties to even; what is no number stays none.
static void narrow_row(const float *x, int64_t n, uint16_t *to) {
  const uint32_t *bits = (const uint32_t *)x;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    const uint32_t u = bits[i];
    to[i] = (u & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  }
}

// int8 with the scale of the row, its largest number being 127, and 128 times its sum. A row with a number that is none
// has such a scale, so that it shows in what is computed.
static void quantise_row(const float *x, int64_t n, int8_t *small, float *scale, int32_t *shift) {
  float most = 0;
  int32_t none = 0, sum = 0;
#pragma omp simd reduction(max : most) reduction(| : none)
  for (int64_t i = 0; i < n; i++) {
    const float size = std::fabs(x[i]);
    most = size > most ? size : most;
    none |= !(x[i] == x[i]);
  }
  const float step = none ? NAN : most / 127 < 1e-30f ? 1e-30f : most / 127;
  const float even = 12582912;  // 1.5 x 2^23: adding it rounds to a whole number, ties to even
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; i++) {
    const int32_t whole = int32_t((x[i] / step + even) - even);
    small[i] = int8_t(whole);
    sum += int8_t(whole);
  }
  *scale = step;
  *shift = sum * 128;
}
