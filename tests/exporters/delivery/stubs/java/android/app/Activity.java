package android.app;

import android.content.res.AssetManager;
import android.os.Bundle;
import android.widget.TextView;
import java.io.File;

public class Activity {
    protected void onCreate(Bundle savedInstanceState) {}
    public void setContentView(TextView view) {}
    public final void runOnUiThread(Runnable action) {}
    public AssetManager getAssets() { throw new UnsupportedOperationException(); }
    public File getFilesDir() { throw new UnsupportedOperationException(); }
}
