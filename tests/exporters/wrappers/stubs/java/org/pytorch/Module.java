package org.pytorch;

public class Module {
    public static native Module load(String modelPath);

    public native IValue forward(IValue... inputs);

    public native void destroy();
}
