// Runs CUDA source on a CPU: every thread of a block is a fiber, which waits at barriers and shuffles for the others.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct Extent {
  unsigned x, y, z;
};
static Extent threadIdx, blockIdx, blockDim, gridDim;

namespace grid {
enum class State { kRunning, kAtBlockBarrier, kAtWarpBarrier, kDone };
struct Fiber {
  ucontext_t context;
  Extent place;
  State state;
};
static std::vector<Fiber> fibers;
static std::vector<std::vector<char>> stacks;
static ucontext_t scheduler;
static unsigned current;
static uint64_t exchanged[1024];
static void (*kernel)(void**);
static void** arguments;
constexpr size_t kStack = 128 << 10;
constexpr unsigned kWarp = 32;

inline void Wait(State state) {
  const Extent place = threadIdx;
  fibers[current].state = state;
  swapcontext(&fibers[current].context, &scheduler);
  threadIdx = place;
}

inline void Enter() {
  kernel(arguments);
  fibers[current].state = State::kDone;
  swapcontext(&fibers[current].context, &scheduler);
}

// Lets those go on that wait for nobody: all of a block, or of a warp, wait at the same kind of barrier or are done.
inline bool Release(size_t begin, size_t end, State barrier) {
  bool any = false;
  for (size_t i = begin; i < end; ++i) {
    if (fibers[i].state == barrier) any = true;
    else if (fibers[i].state != State::kDone) return false;
  }
  for (size_t i = begin; i < end && any; ++i) {
    if (fibers[i].state == barrier) fibers[i].state = State::kRunning;
  }
  return any;
}

// Threads that wait for nobody need no fibers.
inline void RunAlone() {
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  for (unsigned i = 0; i < count; ++i) {
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    kernel(arguments);
  }
}

inline bool RunBlock() {
  const unsigned count = blockDim.x * blockDim.y * blockDim.z;
  fibers.resize(count);
  if (stacks.size() < count) stacks.resize(count, std::vector<char>(kStack));
  for (unsigned i = 0; i < count; ++i) {
    Fiber& fiber = fibers[i];
    fiber.place = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    fiber.state = State::kRunning;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks[i].data();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, Enter, 0);
  }
  while (true) {
    bool moved = false;
    for (current = 0; current < count; ++current) {
      if (fibers[current].state != State::kRunning) continue;
      threadIdx = fibers[current].place;
      swapcontext(&scheduler, &fibers[current].context);
      moved = true;
    }
    for (unsigned first = 0; first < count; first += kWarp) {
      moved |= Release(first, std::min(count, first + kWarp), State::kAtWarpBarrier);
    }
    moved |= Release(0, count, State::kAtBlockBarrier);
    if (!moved) break;
  }
  return std::all_of(fibers.begin(), fibers.end(), [](const Fiber& fiber) { return fiber.state == State::kDone; });
}

template <typename T>
inline T Exchange(T value, int delta, int width, int mode) {
  const unsigned here = current, lane = here % kWarp, start = lane / width * width;
  std::memcpy(&exchanged[here], &value, sizeof(T));
  Wait(State::kAtWarpBarrier);
  int other = mode == 0 ? static_cast<int>(start) + delta % width
                        : static_cast<int>(lane) + (mode > 0 ? delta : -delta);
  if (other < static_cast<int>(start) || other >= static_cast<int>(start) + width) other = lane;
  T found;
  std::memcpy(&found, &exchanged[here - lane + other], sizeof(T));
  Wait(State::kAtWarpBarrier);
  return found;
}
}  // namespace grid

extern "C" __attribute__((visibility("default"))) int LaunchGrid(void (*kernel)(void**), void** arguments, int waits,
                                                                 const unsigned* grid_size, const unsigned* block_size) {
  grid::kernel = kernel;
  grid::arguments = arguments;
  gridDim = {grid_size[0], grid_size[1], grid_size[2]};
  blockDim = {block_size[0], block_size[1], block_size[2]};
  for (unsigned z = 0; z < gridDim.z; ++z)
    for (unsigned y = 0; y < gridDim.y; ++y)
      for (unsigned x = 0; x < gridDim.x; ++x) {
        blockIdx = {x, y, z};
        if (!waits) grid::RunAlone();
        else if (!grid::RunBlock()) return 719;  // threads wait for each other forever
      }
  return 0;
}

inline void __syncthreads() { grid::Wait(grid::State::kAtBlockBarrier); }
inline void __syncwarp(unsigned = 0) { grid::Wait(grid::State::kAtWarpBarrier); }
inline unsigned __activemask() { return 0xffffffffu; }
template <typename T>
inline T __shfl_sync(unsigned, T value, int lane, int width = 32) {
  return grid::Exchange(value, lane, width, 0);
}
template <typename T>
inline T __shfl_down_sync(unsigned, T value, int delta, int width = 32) {
  return grid::Exchange(value, delta, width, 1);
}
template <typename T>
inline T __shfl_up_sync(unsigned, T value, int delta, int width = 32) {
  return grid::Exchange(value, delta, width, -1);
}
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; ++i) c += static_cast<int8_t>(a >> 8 * i) * static_cast<int8_t>(b >> 8 * i);
  return c;
}
using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

#define VECTOR(name, type)                                      \
  struct alignas(4 * sizeof(type)) name##4 {                    \
    type x, y, z, w;                                            \
  };                                                            \
  struct alignas(2 * sizeof(type)) name##2 {                    \
    type x, y;                                                  \
  };                                                            \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; } \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }
VECTOR(float, float)
VECTOR(int, int)
VECTOR(uint, unsigned)
VECTOR(char, signed char)
VECTOR(uchar, unsigned char)
VECTOR(longlong, long long)
#undef VECTOR
