"""What really happened in the AI-slot build pipeline: lossless extraction, job history, signals, evidence."""

__version__ = "0.1.0"
