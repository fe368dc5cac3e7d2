package ai.onnxruntime;

import java.util.Iterator;
import java.util.Map;

public class OrtSession implements AutoCloseable {
    public native Result run(Map<String, ? extends OnnxTensor> inputs) throws OrtException;

    public native void close() throws OrtException;

    public static class SessionOptions implements AutoCloseable {
        public native void setIntraOpNumThreads(int numThreads) throws OrtException;

        public native void close();
    }

    public static class Result implements AutoCloseable, Iterable<Map.Entry<String, OnnxValue>> {
        public native Iterator<Map.Entry<String, OnnxValue>> iterator();

        public native void close();
    }
}
