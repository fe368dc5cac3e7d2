"""Smaller and faster artefacts: quantization, pruning, and the training that goes with them.

- ``registry`` lists the techniques, ``config`` validates a request; both need no framework.
- A technique either changes the network before the conversion (``SourceTechnique``), sets an option of the
  format, or changes the artefact after it was compared with its source (``ArtefactTechnique``).
- An optimised artefact is judged on the data of a dataset (``judgement``).
"""

from .auto import hardware_of as hardware_of
from .auto import is_auto as is_auto
from .base import ROLES as ROLES
from .base import SECTIONS as SECTIONS
from .base import TRAINING as TRAINING
from .config import FILES as FILES
from .config import check as check
from .config import datasets_of as datasets_of
from .config import needs_labels as needs_labels
from .registry import describe as describe
from .schedule import TRAINED_TASKS as TRAINED_TASKS
