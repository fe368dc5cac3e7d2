"""Convert a model file to a format for devices and servers, and prove that it behaves like the original.

The package reads and writes files only, and does not depend on the service around it. ``python -m exporters``
is its command line; ``exporters.convert.run`` is the same in Python.
"""

from . import torchvision_operators

torchvision_operators.install()
