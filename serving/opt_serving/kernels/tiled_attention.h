// Attention by the processor's matrix tiles (AMX) over a bfloat16 cache: sixteen queries of one sequence at a time, or as
// many as there are; a query's sums do not depend on the others'.
//
// The second factor of a tile product has its numbers in pairs, so pages are written so: keys as [head size / 2][PAGE][2],
// values as [PAGE / 2][head size][2]. Queries and probabilities are rounded to bfloat16; scores and sums are float32.
#pragma once
#include "attention.h"
#include "tiles.h"

#if defined(__AMX_BF16__) && defined(__AMX_INT8__)

// Whether heads of this size in bfloat16 are attended to by tiles; decides how pages are written, too.
static inline bool attends_by_tiles(int64_t head_size) { return head_size % 32 == 0; }

// Tiles 0 to 5 have a row for each query: sums, and the first factor. 6 and 7 are the second one, whole.
struct QueryShapes : TileShapes {
  explicit QueryShapes(int64_t queries) {
    for (int i = 0; i < 6; i++) rows[i] = uint8_t(queries);
  }
};

static inline void shape_tiles(int64_t queries) {
  static const std::vector<QueryShapes> shapes = [] {
    std::vector<QueryShapes> made;
    for (int64_t i = 0; i <= TILE; i++) made.emplace_back(std::max<int64_t>(1, i));
    return made;
  }();
  _tile_loadconfig(&shapes[queries]);
}

// Where the pairs of a position are. The first one of a page clears what later ones will hold: a probability of 0 times
// whatever lay there need not be 0.
struct Pairs {
  uint32_t *keys, *values;
  Pairs(const Cache<uint16_t> &c, int64_t position)
      : keys(reinterpret_cast<uint32_t *>(c.keys(position / PAGE)) + position % PAGE),
        values(reinterpret_cast<uint32_t *>(c.values(position / PAGE)) + position % PAGE / 2 * c.head_size) {
    if (position % PAGE == 0) std::memset(values, 0, PAGE * c.head_size * sizeof(uint16_t));
  }
};

static inline void store_pairs(const Cache<uint16_t> &c, int64_t position, const float *k, const float *v) {
  const int64_t t = position % PAGE, hs = c.head_size;
  const auto [keys, values] = Pairs(c, position);
  for (int64_t d = 0; d < hs; d += LANES) {
    const vu pair = narrow_wide(load<vf>(v + d));
    const vu both = t % 2 ? (load<vu>(values + d) & 0xffffu) | pair : pair >> 16;
    std::memcpy(values + d, &both, sizeof(both));
    uint16_t narrowed[LANES];
    narrow_to(k + d, LANES, narrowed);
    for (int64_t i = 0; i < LANES / 2; i++)
      std::memcpy(keys + (d / 2 + i) * PAGE, narrowed + 2 * i, sizeof(uint32_t));
  }
}

// Sixteen positions from a multiple of sixteen on, whose rows are `width` numbers apart.
static inline void store_tile(const Cache<uint16_t> &c, int64_t position, const float *k, const float *v, int64_t width) {
  const int64_t hs = c.head_size;
  const auto [keys, values] = Pairs(c, position);
  for (int64_t d = 0; d < hs; d += 2 * LANES) {
    __m512i pairs[TILE];
    columns_of([&](int i) {
      uint32_t row[LANES];
      narrow_to(k + i * width + d, 2 * LANES, reinterpret_cast<uint16_t *>(row));
      return _mm512_loadu_si512(row);
    }, pairs);
    for (int64_t j = 0; j < TILE; j++) _mm512_storeu_si512(keys + (d / 2 + j) * PAGE, pairs[j]);
  }
  for (int64_t i = 0; i < TILE; i += 2, v += 2 * width)
    for (int64_t d = 0; d < hs; d += LANES) {
      const vu both = narrow_wide(load<vf>(v + d)) >> 16 | narrow_wide(load<vf>(v + width + d));
      std::memcpy(values + i / 2 * hs + d, &both, sizeof(both));
    }
}

// Fetches the next page while one is multiplied: what few queries read comes from memory.
struct NextPage {
  const uint16_t *from;
  int64_t lines, steps;  // cache lines of it; how often `step` is called
  inline void step(int64_t s) const {
    for (int64_t i = s * lines / steps; i < (s + 1) * lines / steps; i++)
      __builtin_prefetch(reinterpret_cast<const char *>(from) + i * TILE_BYTES);
  }
};

// Scores of queries [queries][head size] with the positions of `pages` pages, not yet scaled.
template <bool FETCH>
static void score_by_tiles(const Cache<uint16_t> &c, const uint16_t *q, int64_t pages, float *scores, int64_t lds) {
  constexpr int64_t ROW = PAGE * 2;  // numbers of a row of pairs
  const int64_t hs = c.head_size, steps = hs / 32;
  for (int64_t page = 0; page < pages; page++) {
    const uint16_t *keys = c.keys(page);
    const NextPage next{c.after_keys(page, pages), hs * PAGE * 2 / TILE_BYTES, steps};
    _tile_zero(0);
    _tile_zero(1);
    for (int64_t s = 0; s < steps; s++) {
      if (FETCH) next.step(s);
      _tile_loadd(4, q + s * 32, hs * 2);
      _tile_loadd(6, keys + s * TILE * ROW, ROW * 2);
      _tile_loadd(7, keys + s * TILE * ROW + 32, ROW * 2);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, scores + page * PAGE, lds * 4);
    _tile_stored(1, scores + page * PAGE + TILE, lds * 4);
  }
}

// Softmax over the first `count` scores, in bfloat16; the rest up to `padded` become 0. Not normalised: returns the sum
// of what it wrote.
static inline float soften_to(float *scores, float scale, int64_t count, int64_t padded, uint16_t *p) {
  const float most = largest_of(scores, count, padded);
  vf sum = {};
  for (int64_t t = 0; t < padded; t += LANES) {
    const vf s = load<vf>(scores + t), e = exponential((s - most) * scale);
    const vu wide = narrow_wide(s == vf{} - INFINITY ? vf{} : e);
    sum += (vf)wide;
    const vh h = __builtin_convertvector(wide >> 16, vh);
    std::memcpy(p + t, &h, sizeof(h));
  }
  return total(sum);
}

// D x 16 numbers of each output from number d on, still to be divided: sums of probabilities [queries][ldp] x values.
template <int D, bool FETCH>
static void mix_by_tiles(const Cache<uint16_t> &c, const uint16_t *p, int64_t ldp, int64_t pages, int64_t d, float *to) {
  const int64_t hs = c.head_size;
#define MIX(j, second)                                       \
  if (D > j) {                                               \
    _tile_loadd(second, values + (d + j * TILE) * 2, hs * 4); \
    _tile_dpbf16ps(j, 4, second);                            \
  }
  _tile_zero(0);
  _tile_zero(1);
  if (D > 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t page = 0; page < pages; page++) {
    const uint16_t *values = c.values(page);
    if (FETCH && d == 0) NextPage{c.after_values(page, pages), hs * PAGE * 2 / TILE_BYTES, 1}.step(0);
    _tile_loadd(4, p + page * PAGE, ldp * 2);
    MIX(0, 6)
    MIX(1, 7)
    MIX(2, 6)
    MIX(3, 7)
  }
#undef MIX
  _tile_stored(0, to, D * TILE_BYTES);
  _tile_stored(1, to + TILE, D * TILE_BYTES);
  if (D > 2) {
    _tile_stored(2, to + 2 * TILE, D * TILE_BYTES);
    _tile_stored(3, to + 3 * TILE, D * TILE_BYTES);
  }
}

template <int D, bool FETCH>
static void give_mixed(const Cache<uint16_t> &c, const uint16_t *p, int64_t ldp, int64_t pages, int64_t d, int64_t count,
                       const float *sums, float *out, int64_t width) {
  alignas(64) float mixed[TILE * D * TILE];
  mix_by_tiles<D, FETCH>(c, p, ldp, pages, d, mixed);
  for (int64_t i = 0; i < count; i++)
    for (int j = 0; j < D * TILE; j += LANES) {
      const vf y = load<vf>(mixed + i * D * TILE + j) / sums[i];
      std::memcpy(out + i * width + d + j, &y, sizeof(y));
    }
}

// Queries at consecutive positions of one sequence, rows of `width` numbers; each sees the positions up to its own.
class ByTiles {
 public:
  typedef uint16_t Number;
  static constexpr int64_t MOST = TILE;
  ByTiles(float scale, int64_t width) : scale(scale), width(width) {}
  ~ByTiles() {
    if (shaped) _tile_release();
  }

  void put(const Cache<uint16_t> &c, int64_t position, int64_t count, const float *k, const float *v) {
    if (count == TILE && position % TILE == 0) return store_tile(c, position, k, v, width);
    for (int64_t i = 0; i < count; i++) store_pairs(c, position + i, k + i * width, v + i * width);
  }

  void attend(const Cache<uint16_t> &c, int64_t position, int64_t count, const float *q, float *out) {
    if (shaped != count) shape_tiles(shaped = count);
    count < FEW ? some<true>(c, position, count, q, out) : some<false>(c, position, count, q, out);
  }

 private:
  template <bool FETCH>
  void some(const Cache<uint16_t> &c, int64_t position, int64_t count, const float *q, float *out) {
    static thread_local Lines<float> scores;
    static thread_local Lines<uint16_t> queries, chances;
    const int64_t hs = c.head_size, pages = (position + count + PAGE - 1) / PAGE, padded = pages * PAGE;
    // rows that lie whole pages of memory apart fall into one set of the cache, and push each other out
    const int64_t lds = padded + TILE, ldp = padded + 2 * TILE;
    float *s = scratch(scores, TILE * lds), sums[TILE];
    uint16_t *rows = scratch(queries, TILE * hs), *p = scratch(chances, TILE * ldp);
    for (int64_t i = 0; i < count; i++) narrow_to(q + i * width, hs, rows + i * hs);
    score_by_tiles<FETCH>(c, rows, pages, s, lds);
    for (int64_t i = 0; i < count; i++)
      sums[i] = soften_to(s + i * lds, scale, position + i + 1, padded, p + i * ldp);
    int64_t d = 0;
    for (; d + 64 <= hs; d += 64) give_mixed<4, FETCH>(c, p, ldp, pages, d, count, sums, out, width);
    if (d < hs) give_mixed<2, FETCH>(c, p, ldp, pages, d, count, sums, out, width);
  }

  const float scale;
  const int64_t width;
  int64_t shaped = 0;
};
#else
static inline bool attends_by_tiles(int64_t) { return false; }
typedef ByLoops<uint16_t> ByTiles;
#endif
