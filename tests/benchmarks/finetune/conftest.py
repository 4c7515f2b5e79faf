"""The fixtures of the trainings that are measured."""

from tests.finetune.conftest import tiny_thinker  # noqa: F401
