// Load and run a model compiled by qcompiler for tvm-cpu: needs libtvm_runtime and libtvm_ffi, nothing else (C++17).
//
// The library is chosen by what this CPU can do; QCOMPILER_CPU_FEATURES leaves features out.  A file whose SHA-256 is
// not the one in the index is refused.  Errors are std::runtime_error.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/dtype.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace tvm::runtime::threading {
void SetMaxConcurrency(int threads);
void ResetThreadPool();
}  // namespace tvm::runtime::threading

namespace qcompiler {

namespace ffi = tvm::ffi;

/*! SHA-256 (FIPS 180-4) of a block of memory, as 64 hexadecimal digits. */
inline std::string Sha256(const unsigned char* data, size_t size) {
  static constexpr uint32_t kRound[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
      0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
      0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
      0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
      0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
      0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
      0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  std::array<uint32_t, 8> h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                               0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  auto turned = [](uint32_t x, int n) { return (x >> n) | (x << (32 - n)); };
  auto add = [&](const unsigned char* block) {
    uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      w[i] = uint32_t(block[4 * i]) << 24 | uint32_t(block[4 * i + 1]) << 16 | uint32_t(block[4 * i + 2]) << 8 |
             uint32_t(block[4 * i + 3]);
    }
    for (int i = 16; i < 64; ++i) {
      uint32_t s0 = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ (w[i - 15] >> 3);
      uint32_t s1 = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ (w[i - 2] >> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    auto v = h;
    for (int i = 0; i < 64; ++i) {
      uint32_t s1 = turned(v[4], 6) ^ turned(v[4], 11) ^ turned(v[4], 25);
      uint32_t t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + kRound[i] + w[i];
      uint32_t s0 = turned(v[0], 2) ^ turned(v[0], 13) ^ turned(v[0], 22);
      uint32_t t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
      v = {t1 + t2, v[0], v[1], v[2], v[3] + t1, v[4], v[5], v[6]};
    }
    for (int i = 0; i < 8; ++i) h[i] += v[i];
  };
  size_t whole = size / 64 * 64;
  for (size_t at = 0; at < whole; at += 64) add(data + at);
  std::vector<unsigned char> rest(data + whole, data + size);
  rest.push_back(0x80);
  while (rest.size() % 64 != 56) rest.push_back(0);
  for (int shift = 56; shift >= 0; shift -= 8) rest.push_back(static_cast<unsigned char>(uint64_t(size) * 8 >> shift));
  for (size_t at = 0; at < rest.size(); at += 64) add(rest.data() + at);
  char text[65];
  for (int i = 0; i < 8; ++i) std::snprintf(text + 8 * i, 9, "%08x", h[i]);
  return text;
}

/*! A file in memory, in huge pages where the system has them: they are read half again as fast as small ones. */
class FileInMemory {
 public:
  explicit FileInMemory(const std::string& path) {
    int file = open(path.c_str(), O_RDONLY);
    struct stat status{};
    if (file < 0 || fstat(file, &status) != 0) throw std::runtime_error(path + " cannot be read");
    size_ = static_cast<size_t>(status.st_size);
    void* found = mmap(nullptr, size_ ? size_ : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = static_cast<unsigned char*>(found);
    size_t done = 0;
    if (found != MAP_FAILED) {
#ifdef MADV_HUGEPAGE
      madvise(found, size_, MADV_HUGEPAGE);  // or without
#endif
      for (ssize_t count = 1; count > 0 && done < size_; done += count > 0 ? count : 0) {
        count = read(file, data_ + done, size_ - done);
      }
    }
    close(file);
    if (found == MAP_FAILED) throw std::runtime_error(path + " does not fit into memory");
    if (done == size_) return;
    munmap(found, size_);
    throw std::runtime_error(path + " cannot be read");
  }
  FileInMemory(const FileInMemory&) = delete;
  ~FileInMemory() { munmap(data_, size_ ? size_ : 1); }
  unsigned char* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  unsigned char* data_ = nullptr;
  size_t size_ = 0;
};

/*! Memory of the runtime's alignment, freed with its tensor. */
struct AlignedMemory {
  void AllocData(DLTensor* tensor) {
    size_t size = (ffi::GetDataSize(*tensor) + 63) / 64 * 64;
    tensor->data = std::aligned_alloc(64, size ? size : 64);
  }
  void FreeData(DLTensor* tensor) { std::free(tensor->data); }
};

/*! Memory that somebody else holds. */
struct BorrowedMemory {
  void AllocData(DLTensor* tensor, void* data) { tensor->data = data; }
  void FreeData(DLTensor*) {}
};

/*! A loaded model.  One thread at a time may run it. */
class Model {
 public:
  /*! Load the index at `path` ("model.qc.tvm") and the files beside it. */
  explicit Model(const std::string& path, int threads = 1) : threads_(threads) {
    setenv("TVM_BIND_THREADS", "0", 0);  // pinned threads would pin the caller, too
    setenv("TVM_THREAD_POOL_SPIN_COUNT", "20000", 0);  // idle threads look for work for some ms, then sleep
    std::ifstream stream(path);
    if (!stream) throw std::runtime_error(path + " cannot be read");
    std::stringstream text;
    text << stream.rdbuf();
    ffi::String error;
    auto parsed = ffi::json::Parse(text.str(), &error).try_cast<Object>();
    if (!parsed) throw std::runtime_error(path + " is no index of a compiled model");
    index_ = *parsed;
    if (At(index_, "format").cast<int64_t>() != 1) throw std::runtime_error(path + " has another format");
    std::string folder = "./";
    if (auto slash = path.rfind('/'); slash != path.npos) folder = path.substr(0, slash + 1);
    Object library = Choose();
    variant_ = Text(library, "variant");
    std::string name = Text(library, "file"), code = folder + name;
    if (auto end = code.rfind(".tar"); end != code.npos) {
      code.replace(end, 4, ".so");  // linked of the objects in it
    } else {
      Check(code, FileInMemory(code), name);
    }
    auto parameters = At(index_, "parameters").cast<Object>();
    memory_ = std::make_unique<FileInMemory>(folder + Text(parameters, "file"));
    Check(folder + Text(parameters, "file"), *memory_, Text(parameters, "file"));
    for (const auto& item : At(parameters, "tensors").cast<ffi::Array<ffi::Any>>()) {
      parameters_.push_back(Parameter(item.cast<Object>()));
    }
    library_ = ffi::Module::LoadFromFile(code);
    machine_ = (*library_)->GetFunction("vm_load_executable").value()().cast<ffi::Module>();
    (*machine_)->GetFunction("vm_initialization").value()(int(kDLCPU), 0, 2);
  }

  /*! Names of the inputs, in the order in which `Run` takes them. */
  std::vector<std::string> inputs() const { return All("inputs", "name"); }
  std::vector<std::string> outputs() const { return All("outputs", "name"); }
  /*! Their element types: "float32", "int64", ... */
  std::vector<std::string> input_types() const { return All("inputs", "dtype"); }
  const std::string& variant() const { return variant_; }

  /*! A tensor for an input, to be filled. */
  static ffi::Tensor Empty(const std::vector<int64_t>& shape, const std::string& dtype) {
    return ffi::Tensor::FromNDAlloc(AlignedMemory(), ffi::Shape(shape.begin(), shape.end()),
                                    ffi::StringToDLDataType(dtype), DLDevice{kDLCPU, 0});
  }

  /*! Run once.  In place, caches have room behind the past; new keys and values go there instead of coming out. */
  std::vector<ffi::Tensor> Run(const std::vector<ffi::Tensor>& inputs, bool in_place = false) {
    if (inputs.size() != this->inputs().size()) throw std::runtime_error("as many tensors as inputs are expected");
    CheckSizes(inputs, in_place);
    auto entry = (*machine_)->GetFunction(Text(index_, "entry") + (in_place ? "_in_place" : ""));
    if (!entry.has_value()) throw std::runtime_error("the model cannot run in place");
    if (Threads() != threads_) {
      if (Threads() == 0) {  // the size of a thread's pool is fixed when it is made
        const int cores = static_cast<int>(std::thread::hardware_concurrency());
        tvm::runtime::threading::SetMaxConcurrency(std::max(cores, threads_));
        tvm::runtime::threading::ResetThreadPool();
      }
      constexpr int kFastCores = 1;
      ffi::Function::GetGlobalRequired("runtime.config_threadpool")(kFastCores, threads_);
      tvm::runtime::threading::SetMaxConcurrency(Threads() = threads_);  // the line above resets it
    }
    std::vector<ffi::AnyView> arguments(inputs.begin(), inputs.end());
    arguments.emplace_back(parameters_);
    ffi::Any found;
    entry.value().CallPacked(arguments.data(), static_cast<int32_t>(arguments.size()), &found);
    if (auto one = found.try_cast<ffi::Tensor>()) return {*one};
    auto several = found.cast<ffi::Array<ffi::Tensor>>();
    return {several.begin(), several.end()};
  }

 private:
  using Object = ffi::json::Object;

  /*! How many threads the runtime's pool has in this thread. */
  static int& Threads() {
    thread_local int count = 0;
    return count;
  }

  static ffi::Any At(const Object& object, const char* key) {
    if (object.count(ffi::String(key)) > 0) return object.at(ffi::String(key));
    throw std::runtime_error(std::string("the index is damaged: it has no \"") + key + '"');
  }
  static std::string Text(const Object& object, const char* key) { return At(object, key).cast<ffi::String>(); }

  std::vector<std::string> All(const char* key, const char* field) const {
    std::vector<std::string> found;
    for (const auto& item : At(index_, key).cast<ffi::Array<ffi::Any>>()) {
      found.push_back(Text(item.cast<Object>(), field));
    }
    return found;
  }

  /*! The fastest library that this CPU runs: instructions that it lacks are never executed. */
  Object Choose() const {
    struct utsname host{};
    uname(&host);
    std::set<std::string> usable = Features();
    for (const auto& item : At(index_, "libraries").cast<ffi::Array<ffi::Any>>()) {
      auto library = item.cast<Object>();
      auto needs = At(library, "needs").cast<ffi::Array<ffi::String>>();
      bool fits = Text(library, "machine") == host.machine;
      for (const auto& need : needs) fits = fits && usable.count(need) > 0;
      if (fits) return library;
    }
    throw std::runtime_error(std::string("no library for this ") + host.machine + " CPU; compile for it");
  }

  /*! Kernels rely on sizes within tables, and on lengths that add up. */
  void CheckSizes(const std::vector<ffi::Tensor>& tensors, bool in_place) const {
    std::map<std::string, int64_t> sizes;
    auto inputs = At(index_, "inputs").cast<ffi::Array<ffi::Any>>();
    for (size_t i = 0; i < tensors.size(); ++i) {
      auto item = inputs[i].cast<Object>();
      auto dims = At(item, "shape").cast<ffi::Array<ffi::Any>>();
      bool fits = static_cast<int64_t>(dims.size()) == tensors[i].ndim() &&
                  tensors[i].dtype() == ffi::StringToDLDataType(Text(item, "dtype"));
      std::string expected, seen;
      for (const ffi::Any& dim : dims) {
        auto name = dim.try_cast<ffi::String>();
        auto size = dim.try_cast<int64_t>();
        expected += (expected.empty() ? "" : ", ") + (name ? std::string(*name) : std::to_string(size.value_or(-1)));
      }
      for (int64_t k = 0; k < tensors[i].ndim(); ++k) {
        int64_t size = tensors[i].size(k);
        seen += (k ? ", " : "") + std::to_string(size);
        if (!fits) continue;
        if (auto name = dims[k].try_cast<ffi::String>()) fits = sizes.try_emplace(*name, size).first->second == size;
        if (auto fixed = dims[k].try_cast<int64_t>()) fits = *fixed == size;
      }
      if (fits) continue;
      throw std::runtime_error("input '" + Text(item, "name") + "' is " +
                               std::string(ffi::DLDataTypeToString(tensors[i].dtype())) + " [" + seen + "], expected " + Text(item, "dtype") +
                               " [" + expected + "]");
    }
    for (const auto& [key, value] : At(index_, "limits").cast<Object>()) {
      std::string name = key.cast<ffi::String>();
      if (sizes[name] > value.cast<int64_t>()) throw std::runtime_error(name + " is larger than the model allows");
    }
    for (const auto& item : At(index_, "sums").cast<ffi::Array<ffi::Any>>()) {
      auto names = item.cast<ffi::Array<ffi::String>>();
      int64_t total = sizes[names[0]], past = sizes[names[1]], rows = sizes[names[2]];
      if (in_place ? total > past || rows > total : total != past + rows) {
        throw std::runtime_error(std::string(names[0]) + (in_place ? " finds no room" : " is not the sum of its parts"));
      }
    }
  }

  std::set<std::string> Features() const {
    std::set<std::string> flags, wanted, found;
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
      if (line.rfind("flags", 0) != 0) continue;
      std::istringstream words(line.substr(line.find(':') + 1));
      for (std::string word; words >> word;) flags.insert(word);
      break;
    }
    const char* mask = std::getenv("QCOMPILER_CPU_FEATURES");
    std::istringstream names(mask ? mask : "");
    for (std::string name; std::getline(names, name, ',');) wanted.insert(name);
    for (const auto& [key, value] : At(index_, "features").cast<Object>()) {
      auto list = value.cast<ffi::Array<ffi::String>>();
      std::string name = key.cast<ffi::String>();
      bool has = std::all_of(list.begin(), list.end(), [&](const ffi::String& flag) { return flags.count(flag) > 0; });
      has = has && (!mask || wanted.count(name) > 0);
      bool tiles = std::find(list.begin(), list.end(), "amx_tile") != list.end();
      if (has && (!tiles || TilesPermitted())) found.insert(name);
    }
    return found;
  }

  /*! Ask Linux for the registers of AMX, as every process must that uses them; whether it gives them. */
  static bool TilesPermitted() {
#ifdef __x86_64__
    constexpr long kArchPrctl = 158, kRequestPermission = 0x1023, kTileData = 18;
    return syscall(kArchPrctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
  }

  void Check(const std::string& path, const FileInMemory& file, const std::string& name) const {
    auto expected = At(At(index_, "files").cast<Object>(), name.c_str()).cast<Object>();
    if (Sha256(file.data(), file.size()) != Text(expected, "sha256")) {
      throw std::runtime_error(path + " is not the file that was compiled with this index");
    }
  }

  ffi::Tensor Parameter(const Object& item) const {
    auto dims = At(item, "shape").cast<ffi::Array<int64_t>>();
    auto offset = At(item, "offset").cast<int64_t>();
    auto made = ffi::Tensor::FromNDAlloc(BorrowedMemory(), ffi::Shape(dims.begin(), dims.end()),
                                         ffi::StringToDLDataType(Text(item, "dtype")), DLDevice{kDLCPU, 0},
                                         static_cast<void*>(memory_->data() + offset));
    if (offset < 0 || offset + ffi::GetDataSize(made) > memory_->size()) {
      throw std::runtime_error("the index is damaged: a tensor lies outside of the parameters");
    }
    return made;
  }

  int threads_;
  Object index_;
  std::string variant_;
  std::unique_ptr<FileInMemory> memory_;
  ffi::Array<ffi::Tensor> parameters_;
  ffi::Optional<ffi::Module> library_, machine_;
};

}  // namespace qcompiler
