"""A model host: ``python -I -m model_service.serving.model_hosts.process``, started by the front.

It confines itself first, and imports modules that may start threads only afterwards.
"""

import argparse
import signal
import socket
import sys
from pathlib import Path

from model_service.serving.model_hosts import confinement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--control", type=int, required=True, help="file descriptor of the front's socket")
    parser.add_argument("--folder", type=Path, required=True, help="folder of its packages")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument(
        "--shared-bytes", type=int, required=True, help="largest size of the tensors of one run, in bytes"
    )
    parser.add_argument("--gpu", action="store_true")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C of the terminal: the front decides
    control = socket.socket(fileno=arguments.control)
    confined = confinement.confine(
        arguments.folder, arguments.memory_bytes, arguments.shared_bytes, gpu=arguments.gpu
    )
    from model_service.serving.model_hosts.worker import Worker

    Worker(control, arguments.shared_bytes).run(confined)
    return 0


if __name__ == "__main__":
    sys.exit(main())
