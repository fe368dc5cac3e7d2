"""The client needs urllib3 and the standard library, and nothing else that is installed here."""

import subprocess
import sys

PROGRAM = """
import sys

class OnlyUrllib3:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {"urllib3", "model_service"}:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, OnlyUrllib3())
from model_service.client import ModelServiceClient, ConnectionFailed
with ModelServiceClient("http://127.0.0.1:9", timeout=1) as client:
    try:
        client.get_model("m1")
    except ConnectionFailed as exc:
        print(exc)
print(sorted(name for name in sys.modules if name.startswith("model_service.") and "client" not in name))
"""


def test_the_client_works_with_nothing_but_urllib3() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said, modules = done.stdout.splitlines()
    assert "http://127.0.0.1:9" in said
    assert modules == "['model_service.states']"
