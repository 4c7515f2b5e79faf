"""The fixtures of the trainings that are measured."""

from tests.finetune.fusion.conftest import data, features, own_precision  # noqa: F401
