// What the test asks of a generated processing.cpp, which needs no runtime:
//
//   probe preprocess WIDTH HEIGHT < pixels > tensor
//   probe postprocess GEOMETRY(8) SHAPE... < float32 > JSON lines
#include "model_wrapper.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <iterator>

namespace model {
const std::vector<Spec>& ModelWrapper::outputs() {
  static const std::vector<Spec> found = {{"output", DType::kFloat32, {}}};
  return found;
}
}  // namespace model

int main(int count, char** values) {
  const std::string task = values[1];
  std::vector<int> numbers;
  for (int i = 2; i < count; ++i) numbers.push_back(std::stoi(values[i]));
  const std::vector<char> data{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
#ifdef IMAGE
  if (task == "preprocess") {
    const model::Prepared prepared = model::ModelWrapper::preprocess(
        reinterpret_cast<const std::uint8_t*>(data.data()), numbers[0], numbers[1]);
    std::cout.write(prepared.tensor.data<char>(), static_cast<std::streamsize>(prepared.tensor.bytes.size()));
    const model::Geometry& g = prepared.geometry;
    std::fprintf(stderr, "%d %d %d %d %d %d %d %d", g.width, g.height, g.scaled_width, g.scaled_height, g.left, g.top,
                 g.input_width, g.input_height);
    for (auto side : prepared.tensor.shape) std::fprintf(stderr, " %d", static_cast<int>(side));
    return 0;
  }
#endif
  std::vector<std::int64_t> shape(numbers.begin() + 8, numbers.end());
  model::Tensor tensor = model::Tensor::zeros(model::DType::kFloat32, shape);
  std::copy_n(reinterpret_cast<const std::byte*>(data.data()), data.size(), tensor.bytes.begin());
#ifdef DETECTOR
  const model::Geometry geometry{numbers[0], numbers[1], numbers[2], numbers[3],
                                 numbers[4], numbers[5], numbers[6], numbers[7]};
  const auto rows = model::ModelWrapper::postprocess(
      {{"output", tensor}}, std::vector<model::Geometry>(static_cast<std::size_t>(shape[0]), geometry));
#else
  const auto rows = model::ModelWrapper::postprocess({{"output", tensor}});
#endif
  for (std::size_t row = 0; row < rows.size(); ++row) {
    for (const model::Prediction& one : rows[row]) {
      std::printf("%d %s %d %.9g", static_cast<int>(row), one.class_name.c_str(), static_cast<int>(one.class_id),
                  static_cast<double>(one.confidence));
#ifdef DETECTOR
      for (float side : one.bbox) std::printf(" %.9g", static_cast<double>(side));
#endif
      std::printf("\n");
    }
  }
}
