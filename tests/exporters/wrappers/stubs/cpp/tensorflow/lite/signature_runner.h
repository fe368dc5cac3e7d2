#pragma once
#include "tensorflow/lite/interpreter.h"

namespace tflite {
class SignatureRunner {
 public:
  TfLiteTensor* input_tensor(const char* input_name);
  const TfLiteTensor* output_tensor(const char* output_name) const;
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
};
}  // namespace tflite
