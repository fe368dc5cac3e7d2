#pragma once
#include <cstddef>
#include <string>
#include <vector>

typedef enum { kTfLiteOk = 0, kTfLiteError = 1 } TfLiteStatus;
typedef enum {
  kTfLiteNoType = 0, kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt64 = 4, kTfLiteString = 5,
  kTfLiteBool = 6, kTfLiteInt16 = 7, kTfLiteComplex64 = 8, kTfLiteInt8 = 9, kTfLiteFloat16 = 10, kTfLiteFloat64 = 11,
} TfLiteType;
typedef struct { int size; int data[1]; } TfLiteIntArray;
typedef union { char* raw; } TfLitePtrUnion;
typedef struct { TfLiteType type; TfLitePtrUnion data; TfLiteIntArray* dims; std::size_t bytes; } TfLiteTensor;

namespace tflite {
class SignatureRunner;
class Interpreter {
 public:
  std::vector<const std::string*> signature_keys() const;
  SignatureRunner* GetSignatureRunner(const char* signature_key);
};
}  // namespace tflite
