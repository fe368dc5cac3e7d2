package ai.onnxruntime;

import java.nio.ByteBuffer;

public class OnnxTensor implements OnnxValue {
    public static native OnnxTensor createTensor(
            OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type) throws OrtException;

    public native TensorInfo getInfo();

    public native ByteBuffer getByteBuffer();

    public native void close();
}
