// Runs a kernel's blocks on the CPU: the threads of a block are fibers of one OS thread, which switch only at barriers
// and warp collectives; blocks are shared out to a few OS threads.
//
// Stricter than a GPU on purpose. Shared memory starts as NaN in every block and has guards around it; the order of
// threads and blocks is EFFGEN_EMULATED_ORDER (forward, reverse, shuffled), so a missing barrier shows in some order;
// a barrier that not all threads of the block reach, or reach at different lines, ends the process with a message.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "launch.h"

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Set at every switch; not static, so that the compiler reads them anew after one.
constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local uint3 blockDim{};
constinit thread_local uint3 gridDim{};
constexpr int warpSize = 32;

namespace emulated {

constexpr unsigned kWarp = 32, kMaxThreads = 1024;
constexpr size_t kStaticLimit = 48 * 1024, kSharedLimit = 227 * 1024;
constexpr unsigned char kPoison = 0xff, kGuard = 0xa5;  // all bits set is a NaN in every float format
constexpr size_t kGuardBytes = 64;

constinit thread_local const char* kernel_name = "?";

[[noreturn]] inline void die(const char* format, ...) {
  fprintf(stderr, "CUDA emulator: kernel %s, block (%u, %u, %u), thread (%u, %u, %u): ", kernel_name, blockIdx.x,
          blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  fflush(stderr);
  abort();
}

// ---- Stacks and switches ----

// Stacks of one OS thread's fibers; a page that faults lies below each. Their size is odd in pages and their tops are
// staggered: at equal distances to a power of two, all fibers would share a few sets of the cache.
class Stacks {
 public:
  Stacks() {
    memory_ = static_cast<char*>(mmap(nullptr, kMaxThreads * kSize, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (memory_ == MAP_FAILED) die("no memory for the stacks of its threads");
    for (unsigned i = 0; i < kMaxThreads; ++i) mprotect(memory_ + i * kSize, kPage, PROT_NONE);
  }
  ~Stacks() { munmap(memory_, kMaxThreads * kSize); }
  char* top(unsigned fiber) const { return memory_ + (fiber + 1) * kSize - fiber % 48 * 64; }
  char* bottom(unsigned fiber) const { return memory_ + fiber * kSize + kPage; }

 private:
  static constexpr size_t kPage = 4096, kSize = 65 * kPage;
  char* memory_;
};

#if defined(__x86_64__)
using Context = void*;  // the stack pointer; what a call preserves lies on the stack

extern "C" void effgen_switch(Context* from, Context to);
asm(R"(
.text
.p2align 4
.type effgen_switch, @function
effgen_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size effgen_switch, .-effgen_switch
)");

inline void prepare(Context& context, const Stacks& stacks, unsigned fiber, void (*entry)()) {
  auto top = reinterpret_cast<void**>(stacks.top(fiber));
  *--top = nullptr;                          // the entry never returns; keeps its stack aligned as after a call
  *--top = reinterpret_cast<void*>(entry);   // what the switch's `ret` takes
  context = top - 6;                         // its six pops
}
inline void switch_to(Context& from, Context& to) { effgen_switch(&from, to); }
#else
using Context = ucontext_t;

inline void prepare(Context& context, const Stacks& stacks, unsigned fiber, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stacks.bottom(fiber);
  context.uc_stack.ss_size = stacks.top(fiber) - stacks.bottom(fiber);
  makecontext(&context, entry, 0);
}
inline void switch_to(Context& from, Context& to) { swapcontext(&from, &to); }
#endif

// ---- The order of threads and blocks ----

enum class Order { Forward, Reverse, Shuffled };

inline Order order_wanted() {
  const char* name = getenv("EFFGEN_EMULATED_ORDER");
  if (!name || !*name || !strcmp(name, "forward")) return Order::Forward;
  if (!strcmp(name, "reverse")) return Order::Reverse;
  if (!strcmp(name, "shuffled")) return Order::Shuffled;
  die("EFFGEN_EMULATED_ORDER=%s: forward, reverse or shuffled expected", name);
}

// The numbers below `count` in the order wanted; a shuffle differs from call to call, but not from run to run.
class Sequence {
 public:
  const std::vector<unsigned>& operator()(unsigned count, Order order) {
    if (numbers_.size() != count) {
      numbers_.resize(count);
      std::iota(numbers_.begin(), numbers_.end(), 0u);
      if (order == Order::Reverse) std::reverse(numbers_.begin(), numbers_.end());
    }
    if (order == Order::Shuffled)
      for (unsigned i = count; i > 1; --i) std::swap(numbers_[i - 1], numbers_[random() % i]);
    return numbers_;
  }

 private:
  uint64_t random() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ >> 33;
  }
  std::vector<unsigned> numbers_;
  uint64_t state_ = 42;
};

// ---- Shared memory of a block ----

class SharedMemory {
 public:
  void begin_launch() {
    arrays_.clear();
    used_ = 0;
  }

  void begin_block(unsigned dynamic) {
    ++block_;
    dynamic_bytes_ = dynamic;
    memset(dynamic_, kPoison, dynamic);
    memset(dynamic_ + dynamic, kGuard, kGuardBytes);
  }

  void* dynamic() { return dynamic_; }

  // The static array of declaration number `id`: the same for all threads of a block.
  void* array(unsigned id, size_t bytes, size_t alignment) {
    if (id >= arrays_.size()) arrays_.resize(id + 1);
    Array& array = arrays_[id];
    if (!array.data) place(array, bytes, alignment);
    if (array.block != block_) {
      array.block = block_;
      memset(array.data, kPoison, bytes);
      memset(array.data + bytes, kGuard, kGuardBytes);
    }
    return array.data;
  }

  void end_block() const {
    check(dynamic_, dynamic_bytes_, "dynamic shared memory");
    for (const Array& array : arrays_)
      if (array.block == block_) check(array.data, array.bytes, "an array in shared memory");
  }

  // Of the arrays a block has used.
  size_t static_bytes() const {
    size_t bytes = 0;
    for (const Array& array : arrays_) bytes += array.block == block_ ? array.bytes : 0;
    return bytes;
  }

 private:
  struct Array {
    char* data = nullptr;
    size_t bytes = 0;
    uint64_t block = 0;
  };

  void place(Array& array, size_t bytes, size_t alignment) {
    used_ = (used_ + alignment - 1) / alignment * alignment;
    if (used_ + bytes + kGuardBytes > sizeof static_) die("too many arrays in shared memory");
    array.data = static_ + used_;
    array.bytes = bytes;
    used_ += bytes + kGuardBytes;
  }

  static void check(const char* data, size_t bytes, const char* what) {
    for (size_t i = 0; i < kGuardBytes; ++i)
      if (static_cast<unsigned char>(data[bytes + i]) != kGuard)
        die("a store went %zu bytes beyond the end of %s (%zu bytes)", i, what, bytes);
  }

  alignas(1024) char static_[4 * kStaticLimit];  // for guards too, and for kernels that ask for more than there is
  alignas(1024) char dynamic_[kSharedLimit + kGuardBytes];
  std::vector<Array> arrays_;
  uint64_t block_ = 0;
  size_t used_ = 0;
  unsigned dynamic_bytes_ = 0;
};

// ---- Asynchronous copies of a thread (cp.async) ----

// They are done when they are waited for, and not before: a missing wait leaves what was there.
class AsyncCopies {
 public:
  // Of `bytes`, those beyond `read` become zero.
  void add(void* to, const void* from, unsigned bytes, unsigned read) {
    if (reinterpret_cast<uintptr_t>(to) % bytes || reinterpret_cast<uintptr_t>(from) % bytes)
      die("an asynchronous copy of %u bytes from %p to %p: not aligned to its size", bytes, from, to);
    copies_.push_back({static_cast<char*>(to), from, bytes, std::min(bytes, read)});
  }
  void commit() { groups_.push_back(copies_.size()); }
  void wait(size_t groups_left) {
    if (groups_.size() > groups_left) finish(groups_[groups_.size() - 1 - groups_left]);
  }
  void wait_all() {
    finish(copies_.size());
    copies_.clear();
    groups_.clear();
    done_ = 0;
  }

 private:
  struct Copy {
    char* to;
    const void* from;
    unsigned bytes, read;
  };
  void finish(size_t end) {
    for (; done_ < end; ++done_) {
      const Copy& copy = copies_[done_];
      memcpy(copy.to, copy.from, copy.read);
      memset(copy.to + copy.read, 0, copy.bytes - copy.read);
    }
  }
  std::vector<Copy> copies_;
  std::vector<size_t> groups_;  // where each ends
  size_t done_ = 0;
};

// ---- A block ----

// Done by the last lane to arrive, for all `lanes`; each has left an entry.
using Complete = void (*)(void* const* entries, unsigned lanes);
// Calls the kernel with its parameters.
using Body = void (*)(void* const* parameters);

class Runner {
 public:
  void begin_launch(const char* name, const effgen_launch& launch, Body body, void* const* parameters) {
    kernel_name = name;
    shared.begin_launch();
    launch_ = launch, body_ = body, parameters_ = parameters, order_ = order_wanted();
    blockDim = {launch.block.x, launch.block.y, launch.block.z};
    gridDim = {launch.grid.x, launch.grid.y, launch.grid.z};
    threads_ = blockDim.x * blockDim.y * blockDim.z;
    warps_ = (threads_ + kWarp - 1) / kWarp;
    for (unsigned i = 0; i < threads_; ++i)
      position_[i] = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
  }

  void run_block(unsigned long number) {
    blockIdx = {unsigned(number % gridDim.x), unsigned(number / gridDim.x % gridDim.y),
                unsigned(number / gridDim.x / gridDim.y)};
    begin_block();
    while (true) {
      for (unsigned warp : warp_order_(warps_, order_)) run_warp(warp);
      if (alive_ == 0) break;
      release_barrier();
    }
    shared.end_block();
    check_size();
  }

  // The calling fiber waits until all threads of the block are here.
  void barrier(int line) {
    line_[current_] = line;
    suspend(State::Barrier);
  }

  // The calling fiber waits until all lanes of `mask` that have not finished are here, in the same collective.
  void collective(unsigned mask, void* entry, Complete complete) {
    Warp& warp = warp_[current_ / kWarp];
    const unsigned lane = current_ % kWarp;
    if (!(mask >> lane & 1)) die("lane %u calls a warp collective whose mask 0x%08x leaves it out", lane, mask);
    warp.entries[lane] = entry, warp.masks[lane] = mask, warp.kinds[lane] = complete;
    warp.arrived |= 1u << lane;
    if (!finish_collective(warp, current_ / kWarp, lane)) suspend(State::Warp);
  }

  AsyncCopies& copies() { return copies_[current_]; }
  unsigned lane() const { return current_ % kWarp; }
  unsigned active_lanes() const { return warp_[current_ / kWarp].alive; }

  SharedMemory shared;

 private:
  enum class State : unsigned char { Ready, Barrier, Warp, Done };
  struct Warp {
    unsigned alive, arrived;
    void* entries[kWarp];
    unsigned masks[kWarp];
    Complete kinds[kWarp];
  };

  void begin_block() {
    shared.begin_block(launch_.dynamic_shared);
    alive_ = threads_;
    for (unsigned w = 0; w < warps_; ++w) {
      const unsigned lanes = std::min(kWarp, threads_ - w * kWarp);
      warp_[w].alive = lanes == kWarp ? ~0u : (1u << lanes) - 1;
      warp_[w].arrived = 0;
    }
    for (unsigned i = 0; i < threads_; ++i) {
      state_[i] = State::Ready;
      prepare(context_[i], stacks_, i, &Runner::enter);
    }
  }

  // Every lane runs until it waits or is done, again and again while collectives make lanes ready.
  void run_warp(unsigned warp) {
    const unsigned first = warp * kWarp, lanes = std::min(kWarp, threads_ - first);
    for (bool any = true; any;) {
      any = false;
      for (unsigned lane : lane_order_[lanes != kWarp](lanes, order_))
        if (state_[first + lane] == State::Ready) {
          any = true;
          resume(first + lane);
        }
    }
  }

  void resume(unsigned thread) {
    current_ = thread;
    threadIdx = position_[thread];
    switch_to(scheduler_, context_[thread]);
  }

  void suspend(State state) {
    const unsigned me = current_;
    state_[me] = state;
    switch_to(context_[me], scheduler_);
  }

  static void enter();

  void finish() {
    copies().wait_all();
    const unsigned lane = current_ % kWarp, number = current_ / kWarp;
    Warp& warp = warp_[number];
    warp.alive &= ~(1u << lane);
    --alive_;
    for (unsigned other = 0; other < kWarp; ++other)  // some may have waited for this one alone
      if (warp.arrived >> other & 1) finish_collective(warp, number, other);
    suspend(State::Done);
  }

  // Whether all lanes that `lane` waits for are there; if so, does the work and wakes them.
  bool finish_collective(Warp& warp, unsigned number, unsigned lane) {
    const unsigned mask = warp.masks[lane], expected = mask & warp.alive;
    if (expected & ~warp.arrived) return false;
    for (unsigned other = 0; other < kWarp; ++other)
      if (expected >> other & 1 && (warp.masks[other] != mask || warp.kinds[other] != warp.kinds[lane]))
        die("lanes %u and %u of a warp meet in different collectives or with different masks (0x%08x, 0x%08x)", lane,
            other, mask, warp.masks[other]);
    warp.kinds[lane](warp.entries, expected);
    warp.arrived &= ~expected;
    for (unsigned other = 0; other < kWarp; ++other)
      if (expected >> other & 1) state_[number * kWarp + other] = State::Ready;
    return true;
  }

  void release_barrier() {
    int first = -1, done = -1;
    for (unsigned i = 0; i < threads_; ++i) {
      threadIdx = position_[i];
      if (state_[i] == State::Warp)
        die("waits in a warp collective (mask 0x%08x) for lanes that are elsewhere: of its warp, 0x%08x arrived, "
            "0x%08x have not finished",
            warp_[i / kWarp].masks[i % kWarp], warp_[i / kWarp].arrived, warp_[i / kWarp].alive);
      if (state_[i] == State::Done) done = int(i);
      if (state_[i] == State::Barrier && first < 0) first = int(i);
    }
    if (done >= 0) die("divergent barrier: thread %d waits at __syncthreads, thread %d has finished", first, done);
    for (unsigned i = 0; i < threads_; ++i) {
      if (line_[i] != line_[first])
        die("divergent barrier: thread %d waits at the __syncthreads of line %d, thread %u at that of line %d", first,
            line_[first], i, line_[i]);
      state_[i] = State::Ready;
    }
  }

  void check_size() const {
    const size_t bytes = shared.static_bytes();
    if (bytes > kStaticLimit || bytes + launch_.dynamic_shared > kSharedLimit)
      die("too much shared memory: %zu bytes static, %u bytes dynamic", bytes, launch_.dynamic_shared);
  }

  effgen_launch launch_{};
  Body body_ = nullptr;
  void* const* parameters_ = nullptr;
  Order order_ = Order::Forward;
  unsigned threads_ = 0, warps_ = 0, alive_ = 0, current_ = 0;
  Context scheduler_;
  Context context_[kMaxThreads];
  uint3 position_[kMaxThreads];
  State state_[kMaxThreads];
  int line_[kMaxThreads];
  AsyncCopies copies_[kMaxThreads];
  Warp warp_[kMaxThreads / kWarp];
  Sequence warp_order_, lane_order_[2];  // lanes: of a full warp, of the last, partial one
  Stacks stacks_;
};

constinit thread_local Runner* runner = nullptr;

inline void Runner::enter() {
  Runner* me = runner;
  me->body_(me->parameters_);
  me->finish();
  die("a finished thread was resumed");
}

// ---- A launch ----

inline unsigned workers_wanted() {
  const char* text = getenv("EFFGEN_EMULATED_THREADS");
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  return text && atoi(text) > 0 ? unsigned(atoi(text)) : std::min(cores, 8u);
}

// Runs all blocks of a launch; returns when they are done.
inline void run_grid(const char* name, const effgen_launch& launch, Body body, void* const* parameters) {
  static std::mutex one_at_a_time;
  static std::vector<std::unique_ptr<Runner>> runners;  // with their stacks, from launch to launch
  std::lock_guard lock(one_at_a_time);
  const unsigned long blocks = 1ul * launch.grid.x * launch.grid.y * launch.grid.z;
  const unsigned workers = unsigned(std::min<unsigned long>(workers_wanted(), blocks));
  while (runners.size() < workers) runners.emplace_back(new Runner);
  const bool shuffled = order_wanted() == Order::Shuffled, backward = order_wanted() == Order::Reverse;
  std::atomic<unsigned long> next{0};
  auto work = [&](unsigned worker) {
    runner = runners[worker].get();
    runner->begin_launch(name, launch, body, parameters);
    for (unsigned long block; (block = next++) < blocks;) {
      // A stride that shares no factor with their number visits all blocks.
      if (shuffled) block = std::gcd(blocks, 7919ul) == 1 ? block * 7919 % blocks : block;
      runner->run_block(backward ? blocks - 1 - block : block);
    }
  };
  std::vector<std::thread> helpers;
  for (unsigned worker = 1; worker < workers; ++worker) helpers.emplace_back(work, worker);
  work(0);
  for (std::thread& helper : helpers) helper.join();
}

// The launcher and the parameters' sizes of kernel `function`, from its type.
template <auto function>
struct Entry;
template <class... P, void (*function)(P...)>
struct Entry<function> {
  static constexpr unsigned count = sizeof...(P);
  static constexpr unsigned sizes[] = {sizeof(P)..., 0};
  static void body(void* const* parameters) { call(parameters, std::index_sequence_for<P...>()); }
  template <size_t... I>
  static void call([[maybe_unused]] void* const* parameters, std::index_sequence<I...>) {
    function(*static_cast<std::remove_reference_t<P>*>(parameters[I])...);
  }
};

template <class T>
T& shared_array(unsigned id) {
  return *static_cast<T*>(runner->shared.array(id, sizeof(T), std::max<size_t>(alignof(T), 16)));
}
template <class T>
T* dynamic_shared() {
  return static_cast<T*>(runner->shared.dynamic());
}

}  // namespace emulated

// Exports kernel `name`: what build_kernels adds to the source.
#define EFFGEN_KERNEL(name, max_threads)                                                              \
  extern "C" {                                                                                        \
  __attribute__((visibility("default"))) effgen_kernel name##__kernel = {                             \
      #name, max_threads, emulated::Entry<&name>::count, emulated::Entry<&name>::sizes,               \
      [](const effgen_launch& launch, void* const* parameters) {                                      \
        emulated::run_grid(#name, launch, &emulated::Entry<&name>::body, parameters);                 \
      }};                                                                                             \
  }
