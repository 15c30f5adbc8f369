"""The formats that the data commands write."""

from enum import StrEnum


class FileFormat(StrEnum):
    """The formats of bar files."""

    PARQUET = "parquet"
    FEATHER = "feather"
    CSV = "csv"
    JSON = "json"
