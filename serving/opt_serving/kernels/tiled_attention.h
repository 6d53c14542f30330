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

// Fetches what comes next while tiles are multiplied: what few queries read comes from memory.
struct Fetching {
  const uint16_t *next;
  inline void lines(int64_t count) {
    for (int64_t i = 0; i < count; i++, next += TILE_BYTES / sizeof(uint16_t)) __builtin_prefetch(next);
  }
};
struct NotFetching {
  inline void lines(int64_t) {}
};

// Scores of queries [queries][ldq] with the positions of one page, not yet scaled.
template <class Fetch>
static inline void score_page(const uint16_t *keys, int64_t head_size, const uint16_t *q, int64_t ldq, float *scores,
                              int64_t lds, Fetch fetch) {
  constexpr int64_t ROW = PAGE * 2;  // numbers of a row of pairs
  _tile_zero(0);
  _tile_zero(1);
  for (int64_t d = 0; d < head_size; d += 2 * TILE, keys += TILE * ROW) {
    _tile_loadd(4, q + d, ldq * 2);
    fetch.lines(TILE / 2);
    _tile_loadd(6, keys, ROW * 2);
    fetch.lines(TILE / 2);
    _tile_loadd(7, keys + ROW / 2, ROW * 2);
    fetch.lines(TILE / 2);
    _tile_dpbf16ps(0, 4, 6);
    fetch.lines(TILE / 2);
    _tile_dpbf16ps(1, 4, 7);
  }
  _tile_stored(0, scores, lds * 4);
  _tile_stored(1, scores + TILE, lds * 4);
}

// 2^x for x <= 0 where `valid`, with a relative error below 3e-6 (a polynomial whose largest error is the least). 0
// elsewhere, and below 2^-125: numbers without a leading one take a processor a hundred times as long.
static inline __m512 power_of_two(__mmask16 valid, __m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, 0), r = _mm512_sub_ps(x, n);
  __m512 p = _mm512_set1_ps(0.009570099413394928f);
  for (float c : {0.05591785907745361f, 0.240247443318367f, 0.6931217908859253f, 0.9999992847442627f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  return _mm512_maskz_scalef_ps(_mm512_mask_cmp_ps_mask(valid, x, _mm512_set1_ps(-125.f), _CMP_GE_OQ), p, n);
}

// Softmax over the first `count` scores, in bfloat16; the rest up to `padded`, whole pages, become 0. Not normalised:
// returns the sum of what it wrote.
static inline float soften_to(const float *scores, float scale, int64_t count, int64_t padded, uint16_t *p) {
  static_assert(PAGE == 2 * LANES, "a page is one step");
  const float factor = scale * 1.44269504088896341f;  // e^x is 2^(x log2 e)
  const __m512 by = _mm512_set1_ps(factor), shift = _mm512_set1_ps(-largest_of(scores, count) * factor);
  const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t t = 0; t < padded; t += PAGE) {
    const int64_t left = count - t;
    const uint32_t valid = left >= PAGE ? ~0u : left <= 0 ? 0u : (1u << left) - 1;
    const auto power = [&](uint32_t of, int64_t at) {
      return power_of_two(__mmask16(of), _mm512_fmadd_ps(_mm512_loadu_ps(scores + at), by, shift));
    };
    const __m512bh both = _mm512_cvtne2ps_pbh(power(valid >> LANES, t + LANES), power(valid, t));
    std::memcpy(p + t, &both, sizeof(both));
    sum = _mm512_dpbf16_ps(sum, both, ones);
  }
  return total((vf)sum);
}

// Sums of D x 16 numbers of each output, in tiles 0 to D - 1: 2 or 4 of them.
template <int D> struct Sums {
  static void clear() {
    _tile_zero(0);
    _tile_zero(1);
    if (D > 2) _tile_zero(2);
    if (D > 2) _tile_zero(3);
  }
  static void load(const float *from, int64_t ld) {
    _tile_loadd(0, from, ld * 4);
    _tile_loadd(1, from + TILE, ld * 4);
    if (D > 2) _tile_loadd(2, from + 2 * TILE, ld * 4);
    if (D > 2) _tile_loadd(3, from + 3 * TILE, ld * 4);
  }
  // Adds probabilities [queries][ldp] x values of one page; `values` is at the first of the numbers.
  template <class Fetch>
  static void add(const uint16_t *p, int64_t ldp, const uint16_t *values, int64_t head_size, Fetch &&fetch) {
    _tile_loadd(4, p, ldp * 2);
    fetch.lines(TILE);
    _tile_loadd(6, values, head_size * 4);
    _tile_dpbf16ps(0, 4, 6);
    fetch.lines(TILE);
    _tile_loadd(7, values + 2 * TILE, head_size * 4);
    _tile_dpbf16ps(1, 4, 7);
    if (D == 2) return;
    fetch.lines(TILE);
    _tile_loadd(6, values + 4 * TILE, head_size * 4);
    _tile_dpbf16ps(2, 4, 6);
    fetch.lines(TILE);
    _tile_loadd(7, values + 6 * TILE, head_size * 4);
    _tile_dpbf16ps(3, 4, 7);
  }
  static void store(float *to, int64_t ld) {
    _tile_stored(0, to, ld * 4);
    _tile_stored(1, to + TILE, ld * 4);
    if (D > 2) _tile_stored(2, to + 2 * TILE, ld * 4);
    if (D > 2) _tile_stored(3, to + 3 * TILE, ld * 4);
  }
};

// For the numbers of a head, as many at a time as there are tiles for: f(sums, the first number).
template <class F> static inline void by_sums(int64_t head_size, F f) {
  int64_t d = 0;
  for (; d + 64 <= head_size; d += 64) f(Sums<4>{}, d);
  if (d < head_size) f(Sums<2>{}, d);
}

// Queries at consecutive positions of one sequence, rows of `width` numbers; each sees the positions up to its own.
class ByTiles {
 public:
  typedef uint16_t Number;
  static constexpr int64_t MOST = TILE;
  static bool few(int64_t count) { return count < FEW; }
  ByTiles(float scale, int64_t width) : scale(scale), width(width) {}
  ~ByTiles() {
    if (shaped) _tile_release();
  }

  void put(const Cache<uint16_t> &c, int64_t position, int64_t count, const float *k, const float *v) {
    if (count == TILE && position % TILE == 0) return store_tile(c, position, k, v, width);
    for (int64_t i = 0; i < count; i++) store_pairs(c, position + i, k + i * width, v + i * width);
  }

  void attend(const Cache<uint16_t> &c, int64_t position, int64_t count, const float *q, float *out) {
    const Room room(*this, 1, position, count, c.head_size, q);
    for (int64_t page = 0; page < room.pages; page++)
      score_page(c.keys(page), c.head_size, room.q, room.ldq, room.scores + page * PAGE, room.lds, NotFetching{});
    room.soften(0);
    by_sums(c.head_size, [&](auto sums, int64_t d) {
      sums.clear();
      for (int64_t page = 0; page < room.pages; page++)
        sums.add(room.p + page * PAGE, room.ldp, c.values(page) + d * 2, c.head_size, NotFetching{});
      sums.store(room.mixed + d, room.ldq);
    });
    room.give(0, out);
  }

  // Of heads side by side.
  void attend_few(const Cache<uint16_t> &c, int64_t heads, int64_t position, int64_t count, const float *q, float *out) {
    const int64_t hs = c.head_size, piece = hs * PAGE;
    const Room room(*this, heads, position, count, hs, q);
    const auto ahead = [&](const uint16_t *page, const uint16_t *next, int64_t head) {
      const int64_t then = head + 2;  // so far that memory answers in time
      return Fetching{then < heads ? page + then * piece : next + (then - heads) * piece};
    };
    for (int64_t page = 0; page < room.pages; page++) {
      const uint16_t *keys = c.keys(page), *next = page + 1 < room.pages ? c.keys(page + 1) : c.values(0);
      for (int64_t h = 0; h < heads; h++)
        score_page(keys + h * piece, hs, room.q + h * hs, room.ldq, room.scores_of(h) + page * PAGE, room.lds,
                   ahead(keys, next, h));
    }
    for (int64_t h = 0; h < heads; h++) room.soften(h);
    std::fill_n(room.mixed, count * room.ldq, 0.f);
    for (int64_t page = 0; page < room.pages; page++) {
      const uint16_t *values = c.values(page), *next = c.values(std::min(page + 1, room.pages - 1));
      for (int64_t h = 0; h < heads; h++) {
        auto fetch = ahead(values, next, h);
        by_sums(hs, [&](auto sums, int64_t d) {
          float *mixed = room.mixed + h * hs + d;
          sums.load(mixed, room.ldq);
          sums.add(room.p_of(h) + page * PAGE, room.ldp, values + h * piece + d * 2, hs, fetch);
          sums.store(mixed, room.ldq);
        });
      }
    }
    for (int64_t h = 0; h < heads; h++) room.give(h, out);
  }

 private:
  // Of `count` queries: their heads in bfloat16 and sums of values [count][heads x head size]; of each head scores and
  // probabilities [count][positions].
  struct Room {
    Room(ByTiles &by, int64_t heads, int64_t position, int64_t count, int64_t head_size, const float *queries)
        : by(by), position(position), count(count), head_size(head_size), pages(pages_of(position + count)),
          ldq(heads * head_size),
          // rows that lie whole pages of memory apart fall into one set of the cache, and push each other out
          lds(pages * PAGE + TILE), ldp(pages * PAGE + 2 * TILE) {
      static thread_local Lines<float> held_scores, held_mixed, held_sums;
      static thread_local Lines<uint16_t> held_q, held_p;
      if (by.shaped != count) shape_tiles(by.shaped = count);
      scores = scratch(held_scores, heads * count * lds), mixed = scratch(held_mixed, count * ldq);
      sums = scratch(held_sums, heads * count);
      q = scratch(held_q, count * ldq), p = scratch(held_p, heads * count * ldp);
      for (int64_t i = 0; i < count; i++) narrow_to(queries + i * by.width, ldq, q + i * ldq);
    }

    float *scores_of(int64_t head) const { return scores + head * count * lds; }
    uint16_t *p_of(int64_t head) const { return p + head * count * ldp; }

    void soften(int64_t head) const {
      for (int64_t i = 0; i < count; i++)
        sums[head * count + i] =
            soften_to(scores_of(head) + i * lds, by.scale, position + i + 1, pages * PAGE, p_of(head) + i * ldp);
    }

    void give(int64_t head, float *out) const {
      for (int64_t i = 0; i < count; i++)
        for (int64_t d = head * head_size; d < (head + 1) * head_size; d += LANES) {
          const vf y = load<vf>(mixed + i * ldq + d) / sums[head * count + i];
          std::memcpy(out + i * by.width + d, &y, sizeof(y));
        }
    }

    ByTiles &by;
    const int64_t position, count, head_size, pages, ldq, lds, ldp;
    float *scores, *mixed, *sums;
    uint16_t *q, *p;
  };

  const float scale;
  const int64_t width;
  int64_t shaped = 0;
};
#else
static inline bool attends_by_tiles(int64_t) { return false; }
typedef ByLoops<uint16_t> ByTiles;
#endif
