// How fast one thread reads memory, in GB/s: from one place, and from four at once. Pinned to the first processor.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

typedef float vector __attribute__((vector_size(64), aligned(64)));
constexpr size_t BYTES = size_t(512) << 20, ROUNDS = 8;

template <int STREAMS> static float sum(const vector *from, size_t count) {
  vector sums[STREAMS] = {};
  const size_t each = count / STREAMS;
  for (size_t i = 0; i < each; i++)
    for (int s = 0; s < STREAMS; s++) sums[s] += from[s * each + i];
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

int main() {
  cpu_set_t first;
  CPU_ZERO(&first);
  CPU_SET(0, &first);
  sched_setaffinity(0, sizeof(first), &first);
  void *memory = mmap(nullptr, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  madvise(memory, BYTES, MADV_HUGEPAGE);
  std::memset(memory, 1, BYTES);
  measure<1>(static_cast<vector *>(memory));
  measure<4>(static_cast<vector *>(memory));
}
