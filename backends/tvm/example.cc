// Runs a compiled model on zeros and prints the first values of every output.
//   g++ -std=c++17 -O2 example.cc -o example -I"$FFI/include" -L"$TVM/lib" -L"$FFI/lib"
//       -Wl,-rpath,"$TVM/lib:$FFI/lib" -ltvm_runtime -ltvm_ffi && ./example model.qc.tvm 1 16
// FFI and TVM are the folders of the packages tvm_ffi and tvm.
#include <cstdio>

#include "load_model.h"

int main(int argc, char** argv) try {
  if (argc < 2) return std::fprintf(stderr, "usage: example MODEL.tvm [DIM ...]\n"), 2;
  qcompiler::Model model(argv[1]);
  std::vector<int64_t> shape;
  for (int i = 2; i < argc; ++i) shape.push_back(std::atoll(argv[i]));
  std::vector<tvm::ffi::Tensor> inputs;
  for (const std::string& dtype : model.input_types()) {
    inputs.push_back(qcompiler::Model::Empty(shape, dtype));
    std::memset(inputs.back().data_ptr(), 0, tvm::ffi::GetDataSize(inputs.back()));
  }
  std::printf("variant %s\n", model.variant().c_str());
  auto outputs = model.Run(inputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::printf("%s", model.outputs()[i].c_str());
    auto* values = static_cast<const float*>(outputs[i].data_ptr());
    for (int64_t k = 0; k < std::min<int64_t>(8, outputs[i].numel()); ++k) std::printf(" %.6g", values[k]);
    std::printf("\n");
  }
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 1;
}
