"""Kline files of Binance's public archive: ``BTCUSDT-1m-2024-01.zip`` (a month), ``BTCUSDT-1m-2024-01-31.csv`` (a day).

Twelve columns, without a header in spot files and with one in newer futures files; open times in milliseconds, in microseconds since 2025.
A ``.CHECKSUM`` file beside a zip is believed: a zip that does not match it is refused.
Source: github.com/binance/binance-public-data.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from tickless.adapters.bar_tables import RawBars
from tickless.adapters.csv_import import FIELDS, parse_csv
from tickless.errors import DataError

KLINE_COLUMNS = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
    *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
QUOTES = (
    *("USDT", "FDUSD", "USDC", "TUSD", "BUSD", "USDP", "USDS", "USD1", "PAX", "DAI", "VAI", "UST", "AEUR", "EURI"),
    *("BTC", "ETH", "BNB", "TRX", "XRP", "DOGE", "DOT"),
    *("EUR", "GBP", "TRY", "BRL", "AUD", "JPY", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON", "ARS", "MXN", "CZK", "COP"),
    *("IDRT", "BIDR", "BVND", "BKRW"),
)
"""What Binance has quoted spot pairs in; a symbol is split at the longest that fits."""
OTHER_KLINES = ("markPriceKlines", "indexPriceKlines", "premiumIndexKlines")
"""Folders of the archive whose files have the same names and hold no trades."""
MOST_BYTES = 1 << 30
"""A month of 1m bars is 6 MB; a zip that unpacks to more than this is not one of these files."""
_NAME = re.compile(r"([^-_./]+)-(\d+(?:mo|[smhdw]))-(\d{4}-\d{2}(?:-\d{2})?)\.(csv|zip)")


@dataclass(frozen=True)
class ArchiveName:
    """What a file of the archive holds by its name."""

    symbol: str
    timeframe: str
    period: str


def is_archive_name(path: Path) -> bool:
    """Whether a file is named as the archive names its files, whatever it holds."""
    return _NAME.fullmatch(path.name) is not None


def parse_archive_name(path: Path) -> ArchiveName | None:
    """What the file holds; None where the name is not of the archive, or the file is no record of trades."""
    match = _NAME.fullmatch(path.name)
    if match is None or any(part in OTHER_KLINES for part in path.parts):
        return None
    return ArchiveName(match[1], match[2], match[3])


def pair_of(path: Path, symbol: str, quote: str | None) -> str | None:
    """``BTCUSDT`` as ``BTC/USDT``, and ``BTC/USDT:USDT`` for the archive's USD-margined futures; None for another quote, or none known."""
    quotes = QUOTES if quote is None else (quote,)
    ends = [ending for ending in quotes if symbol.endswith(ending) and symbol != ending]
    if not ends:
        return None
    ending = max(ends, key=len)
    futures = any(pair == ("futures", "um") for pair in zip(path.parts, path.parts[1:], strict=False))
    return f"{symbol.removesuffix(ending)}/{ending}" + (f":{ending}" if futures else "")


def read_archive(path: Path) -> RawBars:
    """The rows of one file of the archive. Raises DataError naming file, column, row and value."""
    try:
        content = _unzip(path) if path.suffix == ".zip" else path.read_bytes()
    except (OSError, RuntimeError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path}: not readable: {error}") from error
    chosen = {field: n for n, field in enumerate(FIELDS)}
    first = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return parse_csv(path, content, KLINE_COLUMNS, chosen, skip_rows=0 if first[:1].isdigit() else 1)


def _unzip(path: Path) -> bytes:
    _verify(path)
    with zipfile.ZipFile(path) as archive:
        files = [info for info in archive.infolist() if not info.is_dir()]
        if len(files) != 1 or not files[0].filename.endswith(".csv"):
            raise DataError(f"{path}: holds {len(files)} files ({', '.join(info.filename for info in files[:3])}), not one CSV file")
        if files[0].file_size > MOST_BYTES:
            raise DataError(f"{path}: unpacks to {files[0].file_size} bytes; no file of the archive is that large")
        return archive.read(files[0])


def _verify(path: Path) -> None:
    """Compare with the checksum beside the file, where there is one: ``<sha256>  <name>``."""
    beside = path.with_name(path.name + ".CHECKSUM")
    if not beside.exists():
        return
    words = beside.read_text(encoding="ascii", errors="replace").split()
    expected = words[0].lower() if words else ""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise DataError(f"{path}: its sha256 is {found}, and {beside.name} says {expected or 'nothing'}; download it again")
