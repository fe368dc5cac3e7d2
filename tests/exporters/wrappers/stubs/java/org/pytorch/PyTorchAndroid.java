package org.pytorch;

public final class PyTorchAndroid {
    public static native void setNumThreads(int numThreads);
}
