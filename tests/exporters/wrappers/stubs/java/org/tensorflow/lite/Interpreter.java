package org.tensorflow.lite;

import java.io.File;
import java.util.Map;

public final class Interpreter implements AutoCloseable {
    public Interpreter(File modelFile, Options options) {}

    public native String[] getSignatureKeys();

    public native Tensor getOutputTensorFromSignature(String outputName, String signatureKey);

    public native void runSignature(Map<String, Object> inputs, Map<String, Object> outputs, String signatureKey);

    public native void close();

    public static class Options {
        public native Options setNumThreads(int numThreads);
    }
}
