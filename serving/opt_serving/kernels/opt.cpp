// A whole pass of OPT in one call, and its parts for ranks that hold a share of the model.
// Tensors are float32 unless said; shapes as in opt_model.attention. Called through ctypes, which lets go of the GIL.
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "rows.h"
#include "tiled_attention.h"
#include "weights.h"

struct Norm {
  const float *weight, *bias;
};

struct Block {
  Linear q, k, v, out, fc1, fc2;
  Norm attention_norm, final_norm;
};

struct Model {
  int64_t layers, heads, hidden, head_size, position_offset;
  int32_t norm_first, cache_kind, threads, has_projections;
  const Block *blocks;
  Linear embed;             // [V, E]: looked up, and the head
  Linear positions;         // [positions + offset, D]: looked up
  Linear project_in, project_out;
  Norm final_norm;
  void *pool;               // [pages][layers][keys, values][heads][PAGE x head size]; how within, see `attention.h`
};

// A pass: N tokens, those of one sequence side by side and in order.
struct Pass {
  int64_t count, table_width;
  const int64_t *tokens, *position;
  const int64_t *sequence;  // row of `tables` of each token
  const int32_t *tables;    // [sequences, table_width]
};

template <class F> static void parallel(int threads, int64_t count, F f) {
#ifdef _OPENMP
  if (threads > 1 && count > 1) {
#pragma omp parallel num_threads(threads)
    {
      const int64_t n = omp_get_num_threads(), i = omp_get_thread_num();
      f(count * i / n, count * (i + 1) / n);
    }
    return;
  }
#endif
  f(0, count);
}

struct Output {
  const Linear *of;
  float *y;
};

// Products of the same rows of x, which are brought into form once for matrices that take one form.
static void linears(std::initializer_list<Output> outputs, int64_t m, const float *x, bool relu, int threads) {
  static thread_local Inputs inputs;
  Inputs &prepared = inputs;  // of this thread, for all
  const Linear *before = nullptr;
  for (const Output &output : outputs) {
    const Linear &l = *output.of;
    if (!before || !same_form(*before, l)) prepare(l, x, m, prepared);
    before = &l;
    parallel(threads, (l.n + 15) / 16, [&](int64_t from, int64_t to) {
      rows(l, from * 16, std::min(to * 16, l.n), m, prepared, output.y, relu);
    });
  }
}

static void linear(const Linear &l, int64_t m, const float *x, float *y, bool relu, int threads) {
  linears({{&l, y}}, m, x, relu, threads);
}

static float sum_of(const float *x, int64_t count) {
  vf sum = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) sum += load<vf>(x + i);
  float s = total(sum);
  for (; i < count; i++) s += x[i];
  return s;
}

static float square_sum(const float *x, float mean, int64_t count) {
  vf sum = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    vf v = load<vf>(x + i) - mean;
    sum += v * v;
  }
  float s = total(sum);
  for (; i < count; i++) s += (x[i] - mean) * (x[i] - mean);
  return s;
}

static void normalise(const Norm &norm, int64_t m, int64_t width, const float *x, float *y) {
  for (int64_t r = 0; r < m; r++, x += width, y += width) {
    const float mean = sum_of(x, width) / float(width);
    const float inverse = 1.f / std::sqrt(square_sum(x, mean, width) / float(width) + 1e-5f);
    for (int64_t i = 0; i < width; i++) y[i] = (x[i] - mean) * inverse * norm.weight[i] + norm.bias[i];
  }
}

static void look_up(const Linear &table, int64_t row, float *y, bool add) {
  for (int64_t i = 0; i < table.k; i++) {
    const int64_t at = row * table.k + i;
    const float x = table.kind == F32    ? static_cast<const float *>(table.weight)[at]
                    : table.kind == BF16 ? widen1(static_cast<const uint16_t *>(table.weight)[at])
                                         : static_cast<const int8_t *>(table.weight)[at] * table.scale[row];
    y[i] = add ? y[i] + x : x;
  }
}

// How attends: by loops or by tiles.
template <class How>
static void attention(const Model &model, int64_t layer, const Pass &pass, const float *q, const float *k,
                      const float *v, float *out) {
  typedef typename How::Number T;
  const int64_t hs = model.head_size, width = model.heads * hs, all = width * PAGE;
  std::vector<int64_t> starts;  // groups of neighbours in one sequence
  for (int64_t n = 0; n < pass.count; n++)
    if (n == 0 || pass.sequence[n] != pass.sequence[n - 1] || n - starts.back() == How::MOST) starts.push_back(n);
  const int64_t groups = starts.size();
  starts.push_back(pass.count);
  auto each = [&](auto f) {
    for (int64_t g = 0; g < groups; g++) {
      const int64_t at = starts[g], count = starts[g + 1] - at;
      const int32_t *table = pass.tables + pass.sequence[at] * pass.table_width;
      f(Cache<T>{static_cast<T *>(model.pool), model.layers * 2 * all, layer * 2 * all, all, hs, table},
        pass.position[at], count, at * width);
    }
  };
  parallel(model.threads, model.heads, [&](int64_t from, int64_t to) {
    How how(1.f / std::sqrt(float(hs)), width);
    each([&](auto c, int64_t position, int64_t count, int64_t at) {
      for (int64_t h = from; h < to; h++) how.put(c.of(h), position, count, k + at + h * hs, v + at + h * hs);
    });
    for (int64_t h = from; h < to; h++)
      each([&](auto c, int64_t position, int64_t count, int64_t at) {
        if (!How::few(count)) how.attend(c.of(h), position, count, q + at + h * hs, out + at + h * hs);
      });
    each([&](auto c, int64_t position, int64_t count, int64_t at) {
      if (How::few(count))
        how.attend_few(c.of(from), to - from, position, count, q + at + from * hs, out + at + from * hs);
    });
  });
}

static void attention_of_kind(const Model &model, int64_t layer, const Pass &pass, const float *q, const float *k,
                              const float *v, float *out) {
  if (model.cache_kind == F32)
    attention<ByLoops<float>>(model, layer, pass, q, k, v, out);
  else if (attends_by_tiles(model.head_size))
    attention<ByTiles>(model, layer, pass, q, k, v, out);
  else
    attention<ByLoops<uint16_t>>(model, layer, pass, q, k, v, out);
}

// A lane for each of LANES neighbours, then the first of the lanes.
static int64_t first_largest(const float *x, int64_t count) {
  vf top = vf{} - INFINITY;
  vi at = {}, here;
  for (int i = 0; i < LANES; i++) here[i] = i;
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES, here += LANES) {
    const vf v = load<vf>(x + i);
    const vi more = v > top;
    top = more ? v : top;
    at = more ? here : at;
  }
  float best = -INFINITY;
  int64_t place = 0;
  for (int lane = 0; lane < LANES; lane++)
    if (top[lane] > best || (top[lane] == best && at[lane] < place)) best = top[lane], place = at[lane];
  for (; i < count; i++)
    if (x[i] > best) best = x[i], place = i;
  return place;
}

struct Buffers {
  Lines<float> x, y, q, k, v, a, f;
};

static void add(float *x, const float *y, int64_t count) {
  for (int64_t i = 0; i < count; i++) x[i] += y[i];
}

static void block(const Model &model, int64_t layer, const Pass &pass, Buffers &b) {
  const Block &w = model.blocks[layer];
  const int64_t n = pass.count, d = model.hidden;
  const int t = model.threads;
  float *x = b.x.data(), *y = b.y.data(), *in = x;
  if (model.norm_first) normalise(w.attention_norm, n, d, x, in = y);
  linears({{&w.q, b.q.data()}, {&w.k, b.k.data()}, {&w.v, b.v.data()}}, n, in, false, t);
  attention_of_kind(model, layer, pass, b.q.data(), b.k.data(), b.v.data(), b.a.data());
  linear(w.out, n, b.a.data(), y, false, t);
  add(x, y, n * d);
  if (!model.norm_first) normalise(w.attention_norm, n, d, x, x);
  in = x;
  if (model.norm_first) normalise(w.final_norm, n, d, x, in = y);
  linear(w.fc1, n, in, b.f.data(), true, t);
  linear(w.fc2, n, b.f.data(), y, false, t);
  add(x, y, n * d);
  if (!model.norm_first) normalise(w.final_norm, n, d, x, x);
}

static void embed(const Model &model, const Pass &pass, float *x, float *narrow_x) {
  for (int64_t n = 0; n < pass.count; n++) {
    float *to = model.has_projections ? narrow_x + n * model.embed.k : x + n * model.hidden;
    look_up(model.embed, pass.tokens[n], to, false);
  }
  if (model.has_projections) linear(model.project_in, pass.count, narrow_x, x, false, model.threads);
  for (int64_t n = 0; n < pass.count; n++)
    look_up(model.positions, pass.position[n] + model.position_offset, x + n * model.hidden, true);
}

// Tokens that go through all blocks together. Their numbers stay in the second cache from one product to the next; all
// of a long pass at once would go to memory and back between any two: 2048 tokens took two thirds longer so.
constexpr int64_t SLAB = 320;

static Pass part_of(const Pass &pass, int64_t from, int64_t count) {
  Pass part = pass;
  part.count = count;
  part.tokens += from;
  part.position += from;
  part.sequence += from;
  return part;
}

extern "C" {
// Bumped with every change of a structure or a call.
int32_t opt_abi() { return 2; }
int32_t opt_page() { return PAGE; }

// Put the numbers of `count` tokens through all blocks; logits [wanted, V] of the tokens that `rows` names. Returns the last
// page that was written.
int64_t opt_forward(const Model *model, const Pass *pass, int64_t wanted, const int64_t *rows, float *logits) {
  static thread_local Buffers b;
  static thread_local Lines<float> held;
  const int64_t d = model->hidden, e = model->embed.k, f = std::max(model->blocks[0].fc1.n, e);
  const int64_t size = even(pass->count, SLAB, 32);
  for (auto *v : {&b.x, &b.y, &b.q, &b.k, &b.v, &b.a}) scratch(*v, size * std::max(d, e));
  scratch(b.f, std::max(size * f, wanted * e));
  float *y = scratch(held, wanted * d);
  for (int64_t from = 0; from < pass->count; from += size) {
    const Pass slab = part_of(*pass, from, std::min(size, pass->count - from));
    embed(*model, slab, b.x.data(), b.f.data());
    for (int64_t layer = 0; layer < model->layers; layer++) block(*model, layer, slab, b);
    for (int64_t r = 0; r < wanted; r++)
      if (from <= rows[r] && rows[r] < from + slab.count)
        std::memcpy(y + r * d, b.x.data() + (rows[r] - from) * d, d * sizeof(float));
  }
  int64_t last = 0;
  for (int64_t n = 0; n < pass->count; n++)
    last = std::max<int64_t>(last, pass->tables[pass->sequence[n] * pass->table_width + pass->position[n] / PAGE]);
  if (!wanted) return last;
  if (model->final_norm.weight) normalise(model->final_norm, wanted, d, y, y);
  if (model->has_projections) {
    linear(model->project_out, wanted, y, b.f.data(), false, model->threads);
    y = b.f.data();
  }
  linear(model->embed, wanted, y, logits, false, model->threads);
  return last;
}

// The place of the largest number of each row, the first of equal ones; rows begin `stride` numbers apart.
void opt_largest(const float *x, int64_t rows, int64_t stride, int64_t width, int64_t *places) {
  for (int64_t r = 0; r < rows; r++, x += stride) places[r] = first_largest(x, width);
}

void opt_attention(const Model *model, int64_t layer, const Pass *pass, const float *q, const float *k, const float *v,
                   float *out) {
  attention_of_kind(*model, layer, *pass, q, k, v, out);
}

void opt_linear(const Linear *l, int64_t m, const float *x, float *y, int32_t relu, int32_t threads) {
  linear(*l, m, x, y, relu, threads);
}

// A stored matrix in float32 or bfloat16, rows side by side.
void opt_convert(const Stored *from, void *to, int32_t format, int32_t threads) {
  parallel(threads, from->rows, [&](int64_t row, int64_t end) {
    std::vector<float> room;
    for (; row < end; row++) {
      const float *x = wide_row(*from, row, room);
      if (format == BFLOAT16) narrow_row(x, from->width, (uint16_t *)to + row * from->width);
      else std::memcpy((float *)to + row * from->width, x, from->width * sizeof(float));
    }
  });
}

// A stored matrix in int8, with the scale and the shift of each row.
void opt_quantise(const Stored *from, int8_t *small, float *scale, int32_t *shift, int32_t threads) {
  parallel(threads, from->rows, [&](int64_t row, int64_t end) {
    std::vector<float> room;
    for (; row < end; row++)
      quantise_row(wide_row(*from, row, room), from->width, small + row * from->width, scale + row, shift + row);
  });
}
}
