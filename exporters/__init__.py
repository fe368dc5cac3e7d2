"""Turn a model file into what a device or a server runs, and prove that the result behaves like the original.

Files in, files out: this package knows nothing of the service around it. ``python -m exporters`` is its
command line; ``exporters.convert.run`` is the same in Python.
"""

from . import torchvision_operators

torchvision_operators.install()
