"""What an account holds, as the ledger counts it. Pure: whatever makes no sense is a ValueError naming the field.

A spot account's balances are its totals, what lies in open orders too.

An account of linear contracts holds no coins. Its snapshot is the one that the same trades would have left on a spot account: the signed
size of each position in base units, and as cash the wallet less what the positions cost, Σ size × entry price. A buy then costs cash and a
sell brings it, as in the ledger; cash plus positions at market is the account's equity; and a realized profit, which the exchange moves
into the wallet, is the cash that the sell has brought. Funding moves the wallet alone; ``ccxt_funding`` tells it apart from a deposit.
Coins that lie in such an account as collateral are left out: they must not pass for positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tickless.adapters.ccxt_orders import Instrument, read_number
from tickless.types import ZERO


def spot_balances(raw: Any, stake: str) -> dict[str, Decimal]:
    """Totals by asset, sorted: those above zero, and the stake currency's, if it is told, in any case. Raises ValueError."""
    totals = _totals(raw)
    numbers = {asset: read_number(totals[asset], f"balance.{asset}.total") for asset in sorted(totals)}
    for asset, number in numbers.items():
        if number < 0:
            raise ValueError(f"balance.{asset}.total: {number} is below zero")
    return {asset: number for asset, number in numbers.items() if number or asset == stake}


def swap_balances(raw: Any, positions: Any, stake: str, markets: Mapping[str, Instrument]) -> dict[str, Decimal]:
    """Signed position sizes by base asset, and the stake currency as cash; ``markets`` are by symbol. Raises ValueError."""
    if not isinstance(positions, list):
        raise ValueError(f"positions: {str(positions)[:80]!r} is not a list")
    held: dict[str, Decimal] = {}
    cash = _wallet(raw, stake)
    for position in positions:
        symbol, qty, entry = _position(position, markets)
        if not qty:
            continue
        base = markets[symbol].base
        if base in held:
            raise ValueError(f"position.symbol: {symbol} is held twice; the account must be in one-way mode, not hedge mode")
        held[base] = qty
        cash -= qty * entry
    return dict(sorted({**held, stake: cash}.items()))


def refuse_untold(raw: Any, stake: str) -> None:
    """Of an exchange that lists empty assets, too: an answer that leaves the stake currency out is not whole, and not an empty wallet.

    Taken for one, it would be a withdrawal of all cash. Raises ValueError.
    """
    if stake not in _totals(raw):
        raise ValueError(f"balance.{stake} is missing")


def _position(position: Any, markets: Mapping[str, Instrument]) -> tuple[str, Decimal, Decimal]:
    """(symbol, signed quantity in base units, entry price)."""
    if not isinstance(position, Mapping):
        raise ValueError(f"position: {str(position)[:80]!r} is not an object")
    symbol, side = position.get("symbol"), position.get("side")
    contracts = read_number(position.get("contracts"), "position.contracts")
    if not contracts:
        return str(symbol), ZERO, ZERO
    if not isinstance(symbol, str) or symbol not in markets:
        raise ValueError(f"position.symbol: {symbol!r} is no linear market quoted in the stake currency")
    if side not in ("long", "short") or contracts < 0:
        raise ValueError(f"position of {symbol}: side {side!r} with {contracts} contracts makes no sense")
    entry = read_number(position.get("entryPrice"), f"position.entryPrice of {symbol}")
    return symbol, contracts * markets[symbol].size * (1 if side == "long" else -1), entry


def _wallet(raw: Any, stake: str) -> Decimal:
    """The wallet without unrealized profit. Binance's total has it in, so its own field is read; elsewhere the total is the wallet."""
    totals = _totals(raw)
    info = raw.get("info")
    assets = info.get("assets") if isinstance(info, Mapping) else None
    for entry in assets if isinstance(assets, list) else ():
        if isinstance(entry, Mapping) and entry.get("asset") == stake:
            return read_number(entry.get("walletBalance"), f"balance.{stake}.walletBalance")
    return read_number(totals[stake], f"balance.{stake}.total") if stake in totals else ZERO


def _totals(raw: Any) -> Mapping[str, Any]:
    totals = raw.get("total") if isinstance(raw, Mapping) else None
    if not isinstance(totals, Mapping):
        raise ValueError("balance.total is missing")
    return totals
