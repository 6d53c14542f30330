// How fast one thread reads memory, in GB/s: from one place and from up to 16 at once, fetched ahead, in small pages and
// in large ones. Pinned to the first processor.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

typedef float vector __attribute__((vector_size(32), aligned(32)));
constexpr size_t BYTES = size_t(512) << 20, ROUNDS = 5, AHEAD = 512, LINES = 4;

template <int STREAMS> static float sum(const vector *from, size_t count) {
  vector sums[2 * LINES] = {};
  const size_t each = count / STREAMS;
  for (size_t i = 0; i < each; i += LINES)
    for (int s = 0; s < STREAMS; s++) {
      const vector *at = from + s * each + i;
      __builtin_prefetch(reinterpret_cast<const char *>(at) + AHEAD);
      __builtin_prefetch(reinterpret_cast<const char *>(at) + AHEAD + 64);
      for (size_t k = 0; k < LINES; k++) sums[(s & 1) * LINES + k] += at[k];
    }
  float all = 0;
  for (const vector &one : sums) all += one[0];
  return all;
}

template <int STREAMS> static void measure(const vector *memory) {
  double best = 1e9;
  volatile float kept = 0;
  for (size_t round = 0; round < ROUNDS; round++) {
    const auto begun = std::chrono::steady_clock::now();
    kept = kept + sum<STREAMS>(memory, BYTES / sizeof(vector));
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count());
  }
  std::printf("%.3f\n", BYTES / best / 1e9);
}

static bool measure_pages(int advice) {
  void *memory = mmap(nullptr, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  madvise(memory, BYTES, advice);
  std::memset(memory, 1, BYTES);
  const vector *from = static_cast<vector *>(memory);
  measure<1>(from), measure<4>(from), measure<8>(from), measure<16>(from);
  munmap(memory, BYTES);
  return true;
}

int main() {
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(0, &first);
  sched_setaffinity(0, sizeof(first), &first);
  return measure_pages(MADV_NOHUGEPAGE) && measure_pages(MADV_HUGEPAGE) ? 0 : 1;
}
