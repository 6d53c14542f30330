// AdamW as one pass over memory (arXiv 1711.05101, algorithm 2), and the squared norms that a step reports.
//
// Parts are cut into pieces, and threads take equal shares of these. The squares of a piece are summed in LANES sums in
// float32, those of pieces in float64, in their order: a norm is the same whatever the threads and the processor.
#include <omp.h>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>
#include <vector>

constexpr int LANES = 16;
constexpr int64_t PIECE = 1 << 13;  // numbers
constexpr int64_t AHEAD = 512;      // numbers from those at work to those that are fetched: a tenth less time

struct Part {
  float *master, *first, *second;
  void *compute;  // null where the model computes on the masters, in float32
  const void *gradient;
  int64_t count;
};
struct Rates {
  float unscale, keep, new_first, keep_second, new_second, size, root, epsilon;
};
struct Float {
  typedef float type;
  static float wide(float x) { return x; }
  static float narrow(float x) { return x; }
};
struct Bfloat {
  typedef uint16_t type;
  static float wide(uint16_t x) {
    const uint32_t u = uint32_t(x) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
  }
  static uint16_t narrow(float x) {  // to nearest, ties to even; what is no number stays none
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return x == x ? uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16) : uint16_t(0x7fc0);
  }
};
struct Half {
  typedef _Float16 type;
  static float wide(_Float16 x) { return float(x); }
  static _Float16 narrow(float x) { return _Float16(x); }
};

static double total(const float *lanes) {
  double sum = 0;
  for (int l = 0; l < LANES; l++) sum += lanes[l];
  return sum;
}

template <class G> static double squares_of(const typename G::type *__restrict x, int64_t count) {
  float lanes[LANES] = {};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES)
#pragma omp simd
    for (int l = 0; l < LANES; l++) lanes[l] += G::wide(x[i + l]) * G::wide(x[i + l]);
  for (int l = 0; i < count; i++, l++) lanes[l] += G::wide(x[i]) * G::wide(x[i]);
  return total(lanes);
}

// One piece; returns the squared norm of the new weights. With C = Float the model computes on the masters themselves.
template <class G, class C> static double update_piece(const Part &p, int64_t from, int64_t count, const Rates &r) {
  float *__restrict w = p.master + from, *__restrict m = p.first + from, *__restrict v = p.second + from;
  const bool apart = !std::is_same<C, Float>::value;
  typename C::type *__restrict c = (typename C::type *)p.compute + (apart ? from : 0);
  const typename G::type *__restrict g = (const typename G::type *)p.gradient + from;
  float lanes[LANES] = {};
  const auto one = [&](int64_t i, int lane) __attribute__((always_inline)) {
    const float given = G::wide(g[i]) * r.unscale;
    m[i] += r.new_first * (given - m[i]);
    v[i] = v[i] * r.keep_second + r.new_second * (given * given);
    w[i] = w[i] * r.keep - r.size * m[i] / (std::sqrt(v[i]) * r.root + r.epsilon);
    if (apart) c[i] = C::narrow(w[i]);
    lanes[lane] += w[i] * w[i];
  };
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (const float *at : {w, m, v}) __builtin_prefetch(at + i + AHEAD, 1);
    __builtin_prefetch(g + i + AHEAD, 0);
    if (apart) __builtin_prefetch(c + i + AHEAD, 1);
#pragma omp simd
    for (int l = 0; l < LANES; l++) one(i + l, l);
  }
  for (int l = 0; i < count; i++, l++) one(i, l);
  return total(lanes);
}

// f(part, from, count) -> the square of a piece, for all pieces of all parts; sums them up to one a part.
template <class F> static void pieces(const Part *parts, int64_t number, int threads, double *squares, F f) {
  std::vector<int64_t> first(number + 1);
  for (int64_t n = 0; n < number; n++) first[n + 1] = first[n] + (parts[n].count + PIECE - 1) / PIECE;
  std::vector<double> found(first[number]);
#pragma omp parallel num_threads(threads)
  {
    const int64_t team = omp_get_num_threads(), me = omp_get_thread_num();
    int64_t n = 0;
    for (int64_t p = first[number] * me / team; p < first[number] * (me + 1) / team; p++) {
      while (first[n + 1] <= p) n++;
      const int64_t from = (p - first[n]) * PIECE, left = parts[n].count - from;
      found[p] = f(parts[n], from, left < PIECE ? left : PIECE);
    }
  }
  for (int64_t n = 0; n < number; n++) {
    squares[n] = 0;
    for (int64_t p = first[n]; p < first[n + 1]; p++) squares[n] += found[p];
  }
}

typedef double (*Update)(const Part &, int64_t, int64_t, const Rates &);
typedef double (*Squares)(const Part &, int64_t, int64_t);
template <class G> static double squares_piece(const Part &p, int64_t from, int64_t count) {
  return squares_of<G>((const typename G::type *)p.gradient + from, count);
}

// Number formats, as in `kernel.py`: 0 float32, 1 bfloat16, 2 float16.
static const Squares SQUARES[] = {squares_piece<Float>, squares_piece<Bfloat>, squares_piece<Half>};
static const Update UPDATE[3][3] = {  // [gradients][what the model computes with]
    {update_piece<Float, Float>, update_piece<Float, Bfloat>, update_piece<Float, Half>},
    {update_piece<Bfloat, Float>, update_piece<Bfloat, Bfloat>, update_piece<Bfloat, Half>},
    {update_piece<Half, Float>, update_piece<Half, Bfloat>, update_piece<Half, Half>},
};

extern "C" {
int32_t update_abi() { return 1; }

// The squared norm of each part's gradient.
void update_squares(const Part *parts, int64_t number, int32_t format, int32_t threads, double *squares) {
  pieces(parts, number, threads, squares, SQUARES[format]);
}

// One update of every part; the squared norm of each one's new weights.
void update_all(const Part *parts, int64_t number, int32_t gradient, int32_t compute, const Rates *rates,
                int32_t threads, double *squares) {
  const Update one = UPDATE[gradient][compute];
  pieces(parts, number, threads, squares,
         [&](const Part &p, int64_t from, int64_t count) { return one(p, from, count, *rates); });
}
}
