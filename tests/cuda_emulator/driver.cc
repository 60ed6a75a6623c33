// A fake libcuda.so.1: one emulated GPU whose kernels are host functions (device.h). See __init__.py.
#include "driver.h"

#include <dlfcn.h>
#include <elf.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>

#include "launch.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace emulated {
namespace {

constexpr size_t kMemory = size_t(8) << 30, kPage = 4096, kAlignment = 256;
constexpr unsigned kStaticLimit = 48 * 1024, kSharedLimit = 227 * 1024, kMaxThreads = 1024;
constexpr unsigned char kPoison = 0xff;  // a NaN in every float format

std::recursive_mutex lock_;  // of all that follows
using Lock = std::lock_guard<std::recursive_mutex>;

void say(const std::string& text) { fprintf(stderr, "CUDA emulator: %s\n", text.c_str()); }

}  // namespace

// ---- The device ----

int compute_capability() {
  const char* text = getenv("EFFGEN_EMULATED_SM");
  return text && atoi(text) > 0 ? atoi(text) : 90;
}

const char* device_name() { return "emulated GPU"; }

int attribute(int number) {
  switch (number) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: return kMaxThreads;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 0x7fffffff;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return kStaticLimit;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return kSharedLimit;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return 228 * 1024;
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK: return 1024;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: return 64 * 1024;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: return 65536;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return 1980000;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return 2619000;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return 5120;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return 132;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return 2048;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: return 32;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return 50 << 20;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return compute_capability() / 10;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return compute_capability() % 10;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS: return 1;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return 3;
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING: return 1;
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH: return 0;
    case CU_DEVICE_ATTRIBUTE_INTEGRATED: return 0;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE: return 0;
    case CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT: return 512;
    default: return -1;
  }
}

namespace {
struct ErrorText {
  int number;
  const char *name, *text;
};
constexpr ErrorText kErrors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {906, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};
const ErrorText* find_error(int number) {
  for (const ErrorText& error : kErrors)
    if (error.number == number) return &error;
  return nullptr;
}
}  // namespace

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// ---- Contexts ----

namespace {
long context_users_ = 0;
thread_local bool context_is_current_ = false;

Error need_context() { return context_is_current_ && context_users_ > 0 ? kSuccess : int(CUDA_ERROR_INVALID_CONTEXT); }
}  // namespace

void retain_context() {
  Lock lock(lock_);
  ++context_users_;
}

Error release_context() {
  Lock lock(lock_);
  if (context_users_ == 0) return CUDA_ERROR_INVALID_CONTEXT;
  --context_users_;
  return kSuccess;
}

Error set_context(bool current) {
  context_is_current_ = current;
  return kSuccess;
}

// ---- Memory ----

namespace {

// One allocation: whole pages of its own, a page that faults before and after. It ends at the page behind it, as near
// as its alignment lets it; the bytes around it in its pages are guards.
struct Allocation {
  char* pages;
  size_t page_bytes;
  size_t bytes;
};
std::map<char*, Allocation> allocations_;  // by the address given out
size_t allocated_ = 0;

const std::pair<char* const, Allocation>* allocation_of(const void* pointer) {
  auto at = const_cast<char*>(static_cast<const char*>(pointer));
  auto next = allocations_.upper_bound(at);
  if (next == allocations_.begin()) return nullptr;
  auto found = std::prev(next);
  return at < found->first + std::max<size_t>(found->second.bytes, 1) ? &*found : nullptr;
}

// While one lives, device memory can be read and written; at other times it faults, as on a machine where the host
// cannot reach it.
class Access {
 public:
  Access() {
    if (depth_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  ~Access() {
    if (--depth_ == 0) protect(PROT_NONE);
  }

 private:
  static void protect(int rights) {
    for (auto& [_, allocation] : allocations_) mprotect(allocation.pages, allocation.page_bytes, rights);
  }
  static int depth_;
};
int Access::depth_ = 0;

bool inside(const void* pointer, size_t bytes) {
  auto found = allocation_of(pointer);
  if (!found) return false;
  const size_t start = static_cast<const char*>(pointer) - found->first;
  if (start + bytes <= found->second.bytes) return true;
  say("a copy of " + std::to_string(bytes) + " bytes ends beyond its allocation of " +
      std::to_string(found->second.bytes));
  return false;
}

// Called with access: whether the bytes around the allocation are as they were.
bool guards_hold(char* data, const Allocation& allocation) {
  auto untouched = [](const char* from, const char* to) {
    return std::all_of(from, to, [](char byte) { return static_cast<unsigned char>(byte) == kPoison; });
  };
  return untouched(allocation.pages, data) &&
         untouched(data + allocation.bytes, allocation.pages + allocation.page_bytes);
}

// Names what only a raw address would tell: a signal handler, so it calls nothing but write.
std::atomic<const char*> running_kernel_{nullptr};
void on_fault(int signal_number, siginfo_t* information, void*) {
  auto put = [](const char* text) { (void)!write(2, text, strlen(text)); };
  if (const char* kernel = running_kernel_) {
    put(signal_number == SIGILL ? "CUDA emulator: misaligned access in kernel "
                                : "CUDA emulator: illegal memory access in kernel ");
    put(kernel);
    put("\n");
  } else if (allocation_of(information->si_addr)) {
    put("CUDA emulator: host code touches device memory\n");
  }
  signal(signal_number, SIG_DFL);  // and the access is made again
}

void report_faults() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGILL, &action, nullptr);  // what build_kernels lets a misaligned access become
  });
}

}  // namespace

Error allocate(void** pointer, size_t bytes) {
  Lock lock(lock_);
  if (Error error = need_context()) return error;
  if (Error error = forbid_in_capture()) return error;
  *pointer = nullptr;
  if (bytes == 0) return kSuccess;
  if (allocated_ + bytes > kMemory) return CUDA_ERROR_OUT_OF_MEMORY;
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t page_bytes = (rounded + kPage - 1) / kPage * kPage;
  void* all = mmap(nullptr, page_bytes + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (all == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  report_faults();
  char* pages = static_cast<char*>(all) + kPage;
  char* data = pages + page_bytes - rounded;
  Access access;
  allocations_[data] = {pages, page_bytes, bytes};
  allocated_ += bytes;
  mprotect(pages, page_bytes, PROT_READ | PROT_WRITE);
  memset(pages, kPoison, page_bytes);
  *pointer = data;
  return kSuccess;
}

Error release(void* pointer) {
  Lock lock(lock_);
  if (!pointer) return kSuccess;
  auto found = allocations_.find(static_cast<char*>(pointer));
  if (found == allocations_.end()) return CUDA_ERROR_INVALID_VALUE;
  {
    Access access;
    if (!guards_hold(found->first, found->second)) {
      say("something was written beside an allocation of " + std::to_string(found->second.bytes) + " bytes");
      abort();
    }
  }
  munmap(found->second.pages - kPage, found->second.page_bytes + 2 * kPage);
  allocated_ -= found->second.bytes;
  allocations_.erase(found);
  return kSuccess;
}

namespace {
Error copy(void* to, const void* from, size_t bytes, const void* on_device, const void* on_host) {
  Lock lock(lock_);
  if (bytes == 0) return kSuccess;
  if (!inside(on_device, bytes) || allocation_of(on_host)) return CUDA_ERROR_INVALID_VALUE;
  Access access;
  memmove(to, from, bytes);
  return kSuccess;
}
}  // namespace

Error copy_to_device(void* to, const void* from, size_t bytes) { return copy(to, from, bytes, to, from); }
Error copy_to_host(void* to, const void* from, size_t bytes) { return copy(to, from, bytes, from, to); }

Error fill(void* to, int value, size_t bytes) {
  Lock lock(lock_);
  if (!inside(to, bytes)) return CUDA_ERROR_INVALID_VALUE;
  Access access;
  memset(to, value, bytes);
  return kSuccess;
}

// ---- Streams ----

namespace {
Stream default_stream_;
std::set<Stream*> streams_;

template <class F>
void for_captures(F action) {
  for (Stream* stream : streams_)
    if (stream->capture) action(*stream);
}
}  // namespace

Stream* stream_of(void* handle) {
  Lock lock(lock_);
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return &default_stream_;
  auto found = streams_.find(static_cast<Stream*>(handle));
  return found == streams_.end() ? nullptr : *found;
}

Stream* create_stream(bool blocking) {
  Lock lock(lock_);
  auto stream = new Stream;
  stream->blocking = blocking;
  streams_.insert(stream);
  return stream;
}

Error destroy_stream(Stream* stream) {
  Lock lock(lock_);
  if (!streams_.erase(stream)) return kInvalidResourceHandle;
  delete stream;
  return kSuccess;
}

Error forbid_in_capture() {
  Lock lock(lock_);
  Error error = kSuccess;
  for_captures([&](Stream& stream) {
    if (stream.mode == CU_STREAM_CAPTURE_MODE_RELAXED) return;
    stream.capture->valid = false;
    error = kCaptureUnsupported;
  });
  return error;
}

namespace {
// The default stream waits for blocking streams: no use of it while one is captured.
Error forbid_implicit(const Stream* stream) {
  Error error = kSuccess;
  if (stream == &default_stream_)
    for_captures([&](Stream& other) {
      if (!other.blocking) return;
      other.capture->valid = false;
      error = kCaptureImplicit;
    });
  return error;
}
}  // namespace

Error synchronize(void* handle) {
  Lock lock(lock_);
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidResourceHandle;
  if (Error error = forbid_implicit(stream)) return error;
  if (!stream->capture) return kSuccess;
  stream->capture->valid = false;
  return kCaptureUnsupported;
}

Error enqueue(void* handle, std::function<Error()> work) {
  Lock lock(lock_);
  if (Error error = need_context()) return error;
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidResourceHandle;
  if (Error error = forbid_implicit(stream)) return error;
  if (!stream->capture) return work();
  if (!stream->capture->valid) return kCaptureInvalidated;
  stream->capture->nodes.push_back(std::move(work));
  return kSuccess;
}

Error begin_capture(void* handle, int mode) {
  Lock lock(lock_);
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidResourceHandle;
  if (stream == &default_stream_) return kCaptureUnsupported;
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = std::make_shared<Graph>();
  stream->mode = mode;
  return kSuccess;
}

Error end_capture(void* handle, std::shared_ptr<Graph>* graph) {
  Lock lock(lock_);
  Stream* stream = stream_of(handle);
  if (!stream) return kInvalidResourceHandle;
  if (!stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  *graph = std::move(stream->capture);
  return (*graph)->valid ? kSuccess : kCaptureInvalidated;
}

// ---- Modules and launches ----

namespace {

struct Module {
  std::map<std::string, std::unique_ptr<struct Function>> functions;
};
struct Function {
  const effgen_kernel* kernel;
  int dynamic_limit = kStaticLimit;
};
std::atomic<long> launches_{0};

template <class T>
T read(const char* data, size_t offset) {
  T value;
  memcpy(&value, data + offset, sizeof value);
  return value;
}

bool is_cubin(const char* image) { return !memcmp(image, ELFMAG, SELFMAG); }

// Machine code runs on its own generation, at its revision or a later one; PTX on all that is not older.
bool code_fits(int built_for) {
  return built_for / 10 == compute_capability() / 10 && built_for <= compute_capability();
}

int cubin_capability(const char* image) {
  const auto flags = read<Elf64_Ehdr>(image, 0).e_flags;
  const bool new_layout = image[EI_ABIVERSION] >= 8;  // since CUDA 13
  return new_layout ? flags >> 8 & 0xff : flags & 0xff;
}

// A fatbin is a header, then entries: each a header and a payload.
bool fatbin_fits(const char* image) {
  enum { kPtx = 1, kCode = 2 };
  const size_t start = read<uint16_t>(image, 6), end = start + read<uint64_t>(image, 8);
  for (size_t at = start; at < end;) {
    const int kind = read<uint16_t>(image, at), built_for = int(read<uint32_t>(image, at + 28));
    if (kind == kPtx ? built_for <= compute_capability() : kind == kCode && code_fits(built_for)) return true;
    at += read<uint32_t>(image, at + 4) + read<uint64_t>(image, at + 8);
  }
  return false;
}

CUresult check_image(const char* image) {
  constexpr uint32_t kFatbin = 0xba55ed50;
  bool fits;
  if (is_cubin(image)) {
    if (read<Elf64_Ehdr>(image, 0).e_machine != EM_CUDA) return CUDA_ERROR_INVALID_IMAGE;
    fits = code_fits(cubin_capability(image));
  } else if (read<uint32_t>(image, 0) == kFatbin) {
    fits = fatbin_fits(image);
  } else {
    say("an image that is neither a fatbin nor a cubin (PTX text or CUDA source?)");
    return CUDA_ERROR_INVALID_IMAGE;
  }
  return fits ? CUDA_SUCCESS : CUDA_ERROR_NO_BINARY_FOR_GPU;
}

// The libraries of EFFGEN_EMULATED_KERNELS, loaded once.
const std::vector<void*>& kernel_libraries() {
  static const std::vector<void*> libraries = [] {
    std::vector<void*> found;
    const char* names = getenv("EFFGEN_EMULATED_KERNELS");
    std::istringstream list(names ? names : "");
    for (std::string path; std::getline(list, path, ':');) {
      void* library = path.empty() ? nullptr : dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library) found.push_back(library);
      else if (!path.empty()) say(dlerror());
    }
    return found;
  }();
  return libraries;
}

const effgen_kernel* find_kernel(const std::string& name) {
  for (void* library : kernel_libraries())
    if (auto kernel = static_cast<const effgen_kernel*>(dlsym(library, (name + "__kernel").c_str()))) return kernel;
  say("no kernel " + name + " in EFFGEN_EMULATED_KERNELS");
  return nullptr;
}

CUresult refuse(const Function& function, const std::string& why, CUresult error = CUDA_ERROR_INVALID_VALUE) {
  say(std::string("launch of ") + function.kernel->name + " refused: " + why);
  return error;
}

CUresult check_launch(const Function& function, const effgen_launch& launch) {
  auto [gx, gy, gz] = launch.grid;
  auto [bx, by, bz] = launch.block;
  if (!gx || !gy || !gz || !bx || !by || !bz) return refuse(function, "a dimension is 0");
  if (gx > 0x7fffffffu || gy > 65535 || gz > 65535) return refuse(function, "the grid is too large");
  const size_t threads = size_t(bx) * by * bz;
  if (bx > 1024 || by > 1024 || bz > 64 || threads > kMaxThreads)
    return refuse(function, std::to_string(threads) + " threads in a block");
  if (function.kernel->max_threads && threads > function.kernel->max_threads)
    return refuse(function, std::to_string(threads) + " threads in a block, launch bounds say " +
                                std::to_string(function.kernel->max_threads));
  if (launch.dynamic_shared > unsigned(function.dynamic_limit))
    return refuse(function, std::to_string(launch.dynamic_shared) + " bytes of dynamic shared memory, " +
                                std::to_string(function.dynamic_limit) + " allowed (cuFuncSetAttribute)");
  return CUDA_SUCCESS;
}

// A launch's parameters, kept for a graph.
class Parameters {
 public:
  Parameters(const effgen_kernel& kernel, void* const* values) {
    for (unsigned i = 0; i < kernel.parameters; ++i) {
      auto bytes = static_cast<const char*>(values[i]);
      values_.emplace_back(bytes, bytes + kernel.sizes[i]);
    }
  }
  Error run(const effgen_kernel& kernel, const effgen_launch& launch) {
    std::vector<void*> pointers;
    for (auto& value : values_) pointers.push_back(value.data());
    Access access;
    running_kernel_ = kernel.name;
    kernel.run(launch, pointers.data());
    running_kernel_ = nullptr;
    ++launches_;
    return kSuccess;
  }

 private:
  std::vector<std::vector<char>> values_;
};

CUresult launch(CUfunction handle, const effgen_launch& launch, CUstream stream, void** values) {
  auto& function = *reinterpret_cast<Function*>(handle);
  if (CUresult error = check_launch(function, launch)) return error;
  auto parameters = std::make_shared<Parameters>(*function.kernel, values);
  const effgen_kernel* kernel = function.kernel;
  return CUresult(enqueue(stream, [=] { return parameters->run(*kernel, launch); }));
}

}  // namespace
}  // namespace emulated

using namespace emulated;

// How many kernels have run, graphs' included.
EXPORT long effgen_emulated_launches() { return launches_; }
// How much device memory is allocated.
EXPORT long effgen_emulated_bytes() { return long(allocated_); }
// How many times the primary context is retained and not released.
EXPORT long effgen_emulated_contexts() { return context_users_; }

EXPORT CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal != 0) return CUDA_ERROR_INVALID_DEVICE;
  return *device = 0, CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice) {
  snprintf(name, size_t(length), "%s", device_name());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute number, CUdevice) {
  *value = attribute(number);
  return *value < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}
EXPORT CUresult cuGetErrorName(CUresult error, const char** name) {
  const ErrorText* found = find_error(error);
  *name = found ? found->name : nullptr;
  return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
EXPORT CUresult cuGetErrorString(CUresult error, const char** text) {
  const ErrorText* found = find_error(error);
  *text = found ? found->text : nullptr;
  return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
EXPORT CUresult cuStreamSynchronize(CUstream stream) { return CUresult(synchronize(stream)); }

EXPORT CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  if (Error error = forbid_in_capture()) return CUresult(error);
  if (CUresult error = check_image(static_cast<const char*>(image))) return error;
  *module = reinterpret_cast<CUmodule>(new Module);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleUnload(CUmodule module) {
  delete reinterpret_cast<Module*>(module);
  return CUDA_SUCCESS;
}
EXPORT CUresult cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
  Lock lock(lock_);
  auto& known = reinterpret_cast<Module*>(handle)->functions[name];
  if (!known) {
    const effgen_kernel* kernel = find_kernel(name);
    if (!kernel) return CUDA_ERROR_NOT_FOUND;
    known = std::make_unique<Function>(Function{kernel});
  }
  *function = reinterpret_cast<CUfunction>(known.get());
  return CUDA_SUCCESS;
}
EXPORT CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_SUCCESS;
  if (value < 0 || unsigned(value) > kSharedLimit) return CUDA_ERROR_INVALID_VALUE;
  reinterpret_cast<Function*>(handle)->dynamic_limit = value;
  return CUDA_SUCCESS;
}
EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                               unsigned bz, unsigned shared, CUstream stream, void** parameters, void**) {
  return launch(function, {{gx, gy, gz}, {bx, by, bz}, shared}, stream, parameters);
}
