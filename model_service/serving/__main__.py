"""The inference server: ``python -m model_service.serving``."""

import argparse
import sys

from model_service.serving.pool.supervisor import WRONG_SETTINGS, Pool
from model_service.temporary_folder import why_unwritable


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m model_service.serving", description=__doc__)
    parser.add_argument("--application", help="module:factory of the application that every process serves")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "model_service.serving.pool.process"]
    if arguments.application:
        command += ["--application", arguments.application]
    if reason := why_unwritable():
        print(reason, file=sys.stderr)
        return WRONG_SETTINGS
    return Pool(command).run()


if __name__ == "__main__":
    sys.exit(main())
