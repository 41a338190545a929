// Stands in for libcuda.so.1 and libcudart.so.13: memory of the device is memory of the host, and kernels are those
// that a library named after a hash of the PTX holds, compiled from the CUDA source that the PTX was compiled from.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

struct LaunchConfig {
  unsigned grid[3], block[3], shared_bytes;
  void* stream;
  void* attributes;
  unsigned attribute_count;
};
struct Function {
  void* library;
  void (*kernel)(void**);
  int waits;
};
using Launch = int (*)(void (*)(void**), void**, int, const unsigned*, const unsigned*);

static int last_error = 0;

extern "C" {
int cuInit(unsigned) { return 0; }
int cuDeviceGetCount(int* count) { return *count = 1, 0; }
int cuDeviceGet(int* device, int) { return *device = 0, 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) { return *value = attribute == 75 ? 9 : 0, 0; }
int cuDeviceGetName(char* name, int length, int) { return std::snprintf(name, length, "CPU"), 0; }
int cuGetErrorName(int, const char** text) { return *text = "error", 0; }
int cuGetErrorString(int, const char** text) { return *text = "error of the stand-in", 0; }
int cuTensorMapEncodeTiled() { return 1; }
int cuFuncSetAttribute(void*, int, int) { return 0; }

int cuModuleLoadData(void** module, const char* image) {
  uint64_t hash = 14695981039346656037ull;
  for (const char* at = image; *at; ++at) hash = (hash ^ static_cast<unsigned char>(*at)) * 1099511628211ull;
  const char* folder = std::getenv("QCOMPILER_EMULATED");
  char name[32];
  std::snprintf(name, sizeof name, "/%016llx.so", static_cast<unsigned long long>(hash));
  *module = dlopen((std::string(folder ? folder : ".") + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!*module) std::fprintf(stderr, "%s\n", dlerror());
  return *module ? 0 : 300;
}
int cuModuleUnload(void*) { return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
  auto found = reinterpret_cast<void (*)(void**)>(dlsym(module, (std::string("enter_") + name).c_str()));
  if (!found) return 500;
  auto waits = reinterpret_cast<const int*>(dlsym(module, (std::string("waits_") + name).c_str()));
  return *function = new Function{module, found, *waits}, 0;
}
int cuLaunchKernelEx(const LaunchConfig* config, Function* function, void** arguments, void**) {
  auto launch = reinterpret_cast<Launch>(dlsym(function->library, "LaunchGrid"));
  return launch(function->kernel, arguments, function->waits, config->grid, config->block);
}

int cudaMalloc(void** room, size_t bytes) {
  return (*room = std::aligned_alloc(256, (bytes + 255) / 256 * 256)) ? 0 : 2;
}
int cudaFree(void* room) { return std::free(room), 0; }
int cudaMallocHost(void** room, size_t bytes) { return cudaMalloc(room, bytes); }
int cudaFreeHost(void* room) { return std::free(room), 0; }
int cudaMemcpyAsync(void* to, const void* from, size_t bytes, int, void*) { return std::memcpy(to, from, bytes), 0; }
int cudaMemcpyPeerAsync() { return 1; }
int cudaMemGetInfo(size_t* left, size_t* all) { return *left = *all = size_t{1} << 33, 0; }
int cudaGetDevice(int* device) { return *device = 0, 0; }
int cudaSetDevice(int) { return 0; }
int cudaGetDeviceCount(int* count) { return *count = 1, 0; }
int cudaDeviceGetAttribute(int* value, int, int) { return *value = 1024, 0; }
int cudaGetDeviceProperties(void*, int) { return 1; }
const char* cudaGetErrorName(int) { return "error"; }
const char* cudaGetErrorString(int) { return "error of the stand-in"; }
int cudaGetLastError() { return last_error; }
int cudaPeekAtLastError() { return last_error; }
int cudaStreamCreate(void** stream) { return *stream = nullptr, 0; }
int cudaStreamCreateWithFlags(void** stream, unsigned) { return *stream = nullptr, 0; }
int cudaStreamDestroy(void*) { return 0; }
int cudaStreamSynchronize(void*) { return 0; }
int cudaStreamWaitEvent(void*, void*, unsigned) { return 0; }
int cudaStreamBeginCapture() { return 1; }
int cudaStreamEndCapture() { return 1; }
int cudaEventCreate(void** event) { return *event = nullptr, 0; }
int cudaEventDestroy(void*) { return 0; }
int cudaEventElapsedTime(float* ms, void*, void*) { return *ms = 0, 0; }
int cudaEventRecord(void*, void*) { return 0; }
int cudaEventSynchronize(void*) { return 0; }
int cudaGraphDestroy() { return 1; }
int cudaGraphExecDestroy() { return 1; }
int cudaGraphInstantiate() { return 1; }
int cudaGraphLaunch() { return 1; }
}
