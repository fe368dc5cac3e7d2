package android.widget;

import android.app.Activity;

public class TextView {
    public TextView(Activity context) {}
    public final void setText(CharSequence text) {}
}
