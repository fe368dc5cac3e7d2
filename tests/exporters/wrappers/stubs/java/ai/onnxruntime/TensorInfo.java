package ai.onnxruntime;

public class TensorInfo {
    public final OnnxJavaType type = OnnxJavaType.UNKNOWN;

    public native long[] getShape();
}
