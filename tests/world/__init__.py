"""A simulated AI-slot platform with known truth, for tests, for `make stack` and for the recorded demo."""

from tests.world.options import Options
from tests.world.world import World

__all__ = ["Options", "World"]
