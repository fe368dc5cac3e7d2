#pragma once
#include "tensorflow/lite/model.h"

namespace tflite::ops::builtin {
class BuiltinOpResolver : public OpResolver {
 public:
  BuiltinOpResolver();
};
}  // namespace tflite::ops::builtin
