package org.pytorch;

import java.util.Map;

public class IValue {
    public static native IValue from(Tensor tensor);

    public native boolean isTensor();

    public native boolean isTensorList();

    public native boolean isTuple();

    public native boolean isList();

    public native boolean isDictStringKey();

    public native Tensor toTensor();

    public native Tensor[] toTensorList();

    public native IValue[] toTuple();

    public native IValue[] toList();

    public native Map<String, IValue> toDictStringKey();
}
