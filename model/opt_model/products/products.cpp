// C = A B (+ bias, or + C) in float32 by a processor's matrix tiles (AMX), which multiply bfloat16.
//
// A float32 number is the sum of three bfloat16 ones: each takes eight more of its 24 bits. Of the nine products of parts
// the six largest are made, exactly, and added up in float32; what is left out is 2^-26 of a product, a quarter of the
// rounding of float32 itself (Henry, Tang, Heinecke: arXiv 1904.06376). Sums are of 768 products each, which are added up.
// What is not finite, or not less than 3.39e38, makes outputs that are no numbers; what is smaller than 2^-108 loses its
// last bits.
//
// Tiles are always full, filled up with zeros, and every sum is made in one order, whatever the threads.
#include <omp.h>
#include <atomic>
#include "packing.h"

struct Product {
  Factor a, b;  // C [a.rows, b.rows]
  int64_t k;
  float *c;
  int64_t c_row;
  const float *bias;  // [b.rows], or null
  int32_t add;        // to what C holds
};

#if defined(__AMX_BF16__)
constexpr int64_t DEPTH = 24;    // steps that are worked off before the next: 768 numbers
constexpr int64_t TOGETHER = 6;  // panels of one factor that stay in the second cache for all of the other

// A panel of A with one of B: four tiles of C, whose rows are `c_row` bytes apart. They begin with the bias.
static inline void multiply(const char *a, const char *b, int64_t steps, const float *bias, float *c, int64_t c_row,
                            Fetch &later) {
  if (bias) {  // one line as all rows
    _tile_loadd(0, bias, 0);
    _tile_loadd(1, bias + TILE, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, bias + TILE, 0);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
#define LOAD(first, second, at, part)                        \
  _tile_loadd(first, at + 2 * (part) * PIECE, TILE_BYTES);   \
  _tile_loadd(second, at + (2 * (part) + 1) * PIECE, TILE_BYTES);
#define DOT                \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7);
  for (int64_t s = 0; s < steps; s++, a += PACKED, b += PACKED) {
    later.step();
    for (int64_t r = 2 * s; r < 2 * s + 2 && r < PANEL; r++)  // C, before it is written
      for (int64_t i = 0; i < 2; i++) __builtin_prefetch((char *)c + r * c_row + i * TILE_BYTES, 1, 3);
    LOAD(4, 5, a, 2) LOAD(6, 7, b, 0) DOT  // each pair of parts needs but one of the two anew
    LOAD(4, 5, a, 1) DOT
    LOAD(6, 7, b, 1) DOT
    LOAD(4, 5, a, 0) DOT
    LOAD(6, 7, b, 2) DOT
    LOAD(6, 7, b, 0) DOT
  }
#undef LOAD
#undef DOT
  _tile_stored(0, c, c_row);
  _tile_stored(1, c + TILE, c_row);
  _tile_stored(2, (char *)c + TILE * c_row, c_row);
  _tile_stored(3, (char *)c + TILE * c_row + TILE_BYTES, c_row);
}

// The outputs of a panel of A with one of B, of one depth. Those of the next are added to what C holds, so that long
// sums are sums of short ones.
static void outputs(const Product &p, int64_t i, int64_t j, const char *a, const char *b, int64_t steps, bool first,
                    Fetch &later) {
  const int64_t row = i * PANEL, column = j * PANEL;
  const int64_t rows = std::min(PANEL, p.a.rows - row), columns = std::min(PANEL, p.b.rows - column);
  const bool adds = p.add || !first;
  float *c = p.c + row * p.c_row + column;
  alignas(TILE_BYTES) float edge[PANEL * PANEL], bias[PANEL] = {};
  const bool biased = first && p.bias;
  if (biased) std::memcpy(bias, p.bias + column, columns * sizeof(float));
  if (!adds && rows == PANEL && columns == PANEL)
    return multiply(a, b, steps, biased ? p.bias + column : nullptr, c, p.c_row * sizeof(float), later);
  multiply(a, b, steps, biased ? bias : nullptr, edge, PANEL * sizeof(float), later);
  for (int64_t r = 0; r < rows; r++, c += p.c_row)
    for (int64_t i = 0; i < columns; i++) c[i] = adds ? c[i] + edge[r * PANEL + i] : edge[r * PANEL + i];
}

static int64_t panels_of(const Factor &f) { return (f.rows + PANEL - 1) / PANEL; }

// The factor with fewer rows is packed whole, a depth at a time; of the other a group of panels at a time by each thread.
template <bool A_WHOLE> struct Work {
  const Product &p;
  const Factor &whole = A_WHOLE ? p.a : p.b, &other = A_WHOLE ? p.b : p.a;
  const int64_t panels = panels_of(whole), others = panels_of(other), all = (p.k + STEP - 1) / STEP;
  const int64_t depths = (all + DEPTH - 1) / DEPTH, depth = (all + depths - 1) / depths, size = depth * PACKED;
  const int64_t groups;
  std::atomic<int64_t> taken{0};

  // As many groups for each thread.
  Work(const Product &p, int threads)
      : p(p), groups(std::min(others, (others + TOGETHER * threads - 1) / (TOGETHER * threads) * threads)) {}

  int64_t start(int64_t group) const { return others * group / groups; }

  void pack_all(int64_t from, int64_t to, char *far) {
#pragma omp for schedule(static)
    for (int64_t j = 0; j < panels; j++) pack<A_WHOLE>(whole, p.k, j, from, to, far + j * size);
  }

  // A thread takes the next group before it works on one, to fetch it meanwhile.
  void multiply_groups(int64_t from, int64_t to, const char *far, char *near) {
    for (int64_t group = taken++, next; group < groups; group = next) {
      const int64_t first = start(group), last = start(group + 1);
      for (int64_t i = first; i < last; i++) pack<!A_WHOLE>(other, p.k, i, from, to, near + (i - first) * size);
      next = taken++;
      Fetch later = fetch_group(other, start(next), last - first, from, to, panels);
      for (int64_t j = 0; j < panels; j++)
        for (int64_t i = first; i < last; i++) {
          const char *one = far + j * size, *two = near + (i - first) * size;
          A_WHOLE ? outputs(p, j, i, one, two, to - from, from == 0, later)
                  : outputs(p, i, j, two, one, to - from, from == 0, later);
        }
    }
  }
};

template <bool A_WHOLE> static void run(const Product &p, int threads) {
  static const TileShapes shapes;
  static thread_local Lines<char> all_packed;
  Work<A_WHOLE> work(p, threads);
  char *far = scratch(all_packed, work.panels * work.size);
#pragma omp parallel num_threads(threads)
  {
    static thread_local Lines<char> group_packed;
    char *near = scratch(group_packed, TOGETHER * work.size);
    _tile_loadconfig(&shapes);
    for (int64_t from = 0; from < work.all; from += work.depth) {
      const int64_t to = std::min(work.all, from + work.depth);
      work.pack_all(from, to, far);
      work.multiply_groups(from, to, far, near);
#pragma omp barrier
#pragma omp single
      work.taken = 0;
    }
    _tile_release();
  }
}

extern "C" {
int32_t products_abi() { return 1; }

void products_multiply(const Product *p, int32_t threads) {
  p->a.rows <= p->b.rows ? run<true>(*p, threads) : run<false>(*p, threads);
}
}
#else
extern "C" {
int32_t products_abi() { return 1; }
}
#endif
