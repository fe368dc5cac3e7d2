"""Smaller and faster artefacts: quantization and pruning.

- ``registry`` lists the techniques, ``config`` validates a request; both need no framework.
- A technique either changes the network before the conversion (``SourceTechnique``), sets an option of the
  format, or changes the artefact after it was compared with its source (``ArtefactTechnique``).
- An optimised artefact is judged on the data of a dataset (``judgement``).
"""

from .auto import hardware_of as hardware_of
from .auto import is_auto as is_auto
from .base import ROLES as ROLES
from .config import check as check
from .config import datasets_of as datasets_of
from .registry import describe as describe
