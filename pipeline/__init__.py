"""What really happened in the AI-slot build pipeline: lossless extraction, job history, signals, evidence.

For notebooks: `lake = pipeline.open_lake("lake")`, then `lake.attempts("2026-02-26")` and its like give tidy DataFrames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.api import Lake, golden_signals, open_lake

__version__ = "0.1.0"
__all__ = ["Lake", "__version__", "golden_signals", "open_lake"]


def __getattr__(name: str) -> Any:
    """Load what notebooks use when they use it: the command starts without pandas."""
    if name in __all__:
        from pipeline import api

        return getattr(api, name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
