"""tickless: a crypto trading desk that exists only while it decides."""

__version__ = "0.1.0"
