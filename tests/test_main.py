"""``python main.py``: the registry's server alone, and the mode for development."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import urllib3

from model_service.embedded import Addresses
from tests.waiting import wait_for

MAIN = Path(__file__).parents[1] / "main.py"


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def refusal(**settings: str) -> str:
    ended = subprocess.run(
        [sys.executable, MAIN], env=os.environ | settings, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    (line,) = ended.stderr.splitlines()
    return line


def test_without_a_mongodb_it_names_up() -> None:
    assert "model-service up" in refusal(MONGODB_URL="")
    assert "model-service up" in refusal(MONGODB_URL=f"mongodb://127.0.0.1:{free_port()}/")


def test_development_is_for_this_machine(servers: Addresses) -> None:
    said = refusal(FLASK_ENV="development", HOST="0.0.0.0", ALLOW_ANONYMOUS="true")
    assert said == "FLASK_ENV=development only works on this machine: HOST=0.0.0.0 must be a loopback address"


def test_development_serves_changed_code_and_logs_everything(servers: Addresses, tmp_path: Path) -> None:
    main, port = tmp_path / "main.py", free_port()
    main.write_text(MAIN.read_text())
    env = os.environ | {"MONGODB_URL": servers.mongodb_url, "REDIS_URL": servers.redis_url, "PORT": port}
    env |= {"FLASK_ENV": "development", "MODEL_SERVICE_HOME": str(tmp_path)}

    def answers() -> bool:
        try:
            return urllib3.request("GET", f"http://127.0.0.1:{port}/health", retries=False).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    with subprocess.Popen([sys.executable, main], env=env, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(answers, "an answer", deadline_s=60)
            (before,) = psutil.Process(process.pid).children()
            main.write_text(MAIN.read_text() + "# changed\n")
            wait_for(lambda: before not in psutil.Process(process.pid).children(), "another process")
            wait_for(answers, "an answer of the new process", deadline_s=60)
        finally:
            for child in psutil.Process(process.pid).children():
                child.kill()
            process.kill()
