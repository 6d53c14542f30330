// Products with whatever the processor has for a matrix, after its rows of x were brought into the form it takes.
#pragma once
#include "panels.h"

// Rows of x as the weights of a matrix are multiplied with.
struct Inputs {
  const float *plain = nullptr;
  Lines<float> woven, scale;
  Lines<OpI8::X> rounded;
  Lines<uint16_t> narrowed;
  Lines<uint32_t> bundled;
};

static inline void prepare(const Linear &l, const float *x, int64_t m, Inputs &to) {
  const bool panels = takes_panels(l, m), others = !panels || l.n % TILE;
  to.plain = x;
  if (l.kind == BF16 && others)
    for (int64_t r = 0; r < m; r++) weave(x + r * l.k, l.k, scratch(to.woven, m * l.k) + r * l.k);
  if (l.kind == I8)
    for (int64_t r = 0; r < m; r++)
      scratch(to.scale, m)[r] = round_to_int8(x + r * l.k, l.k, scratch(to.rounded, m * l.k) + r * l.k);
  if (panels) {
    const int64_t groups = l.k / (l.kind == BF16 ? 2 : 4);
    const void *from = to.rounded.data();
    if (l.kind == BF16) {
      uint16_t *narrowed = scratch(to.narrowed, m * l.k);
      narrow_to(x, m * l.k, narrowed);
      from = narrowed;
    }
    bundle(static_cast<const uint32_t *>(from), m, groups, scratch(to.bundled, (m + TILE - 1) / TILE * TILE * groups));
  }
}

// Whether rows of x that were prepared for one matrix are as another takes them.
static inline bool same_form(const Linear &a, const Linear &b) {
  return a.kind == b.kind && a.k == b.k && a.n == b.n;
}

static inline void rows(const Linear &l, int64_t from, int64_t to, int64_t m, const Inputs &x, float *y, bool relu) {
  if (takes_panels(l, m)) {
    const int64_t end = from + (to - from) / TILE * TILE;
    const float *xs = x.scale.data();
#if defined(__AMX_BF16__)
    if (l.kind == BF16) panelled<BF16>(l, from, end, m, x.bundled.data(), nullptr, y, relu);
#endif
    if (l.kind == I8) panelled<I8>(l, from, end, m, x.bundled.data(), xs, y, relu);
    from = end;
  }
  if (from == to) return;
  if (l.kind == F32)
    product<OpF32>(l, from, to, m, x.plain, nullptr, y, relu);
  else if (l.kind == BF16)
    product<OpBF16>(l, from, to, m, x.woven.data(), nullptr, y, relu);
  else
    product<OpI8>(l, from, to, m, x.rounded.data(), x.scale.data(), y, relu);
}
