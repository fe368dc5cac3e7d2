#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

enum ONNXTensorElementDataType {
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
  ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
};
enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtDeviceAllocator = 0 };
enum OrtMemType { OrtMemTypeDefault = 0 };
struct OrtMemoryInfo;

namespace Ort {
struct Env {
  Env(OrtLoggingLevel level, const char* log_id);
};
struct SessionOptions {
  SessionOptions();
  SessionOptions& SetIntraOpNumThreads(int threads);
};
struct RunOptions {
  explicit RunOptions(std::nullptr_t);
};
struct MemoryInfo {
  static MemoryInfo CreateCpu(OrtAllocatorType type, OrtMemType memory);
  operator const OrtMemoryInfo*() const;
};
struct TensorTypeAndShapeInfo {
  ONNXTensorElementDataType GetElementType() const;
  std::vector<std::int64_t> GetShape() const;
};
struct Value {
  Value(Value&&) = default;
  static Value CreateTensor(const OrtMemoryInfo* info, void* data, std::size_t bytes, const std::int64_t* shape,
                            std::size_t shape_len, ONNXTensorElementDataType type);
  TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const;
  template <typename T>
  const T* GetTensorData() const;
};
struct Session {
  explicit Session(std::nullptr_t);
  Session(const Env& env, const char* model_path, const SessionOptions& options);
  Session& operator=(Session&&) = default;
  std::vector<Value> Run(const RunOptions& options, const char* const* input_names, const Value* inputs,
                         std::size_t input_count, const char* const* output_names, std::size_t output_count);
};
}  // namespace Ort
