"""The registry's server on PORT: ``python main.py``. With FLASK_ENV=development it reloads changed code."""

import sys

from model_service.api.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
