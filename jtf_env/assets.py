"""Asset classes: calendar, default costs, shorting, the size of an odd move, and the spelling of symbols. One table."""

import re
from dataclasses import dataclass
from typing import Literal

from jtf_env.errors import BarsError

AssetClass = Literal["us_equity", "crypto"]


@dataclass(frozen=True)
class Asset:
    """What an asset class decides where nothing else is said."""

    calendar: str | None
    """Exchange calendar (`exchange_calendars` name); None trades around the clock."""
    timezone: str
    """Clock of the sessions and of the temporal features (IANA name)."""
    open_minute: int
    """Minute of the hour at which sessions open; hourly bars may start there too."""
    fee: float
    """Default fee on the traded notional, a side, as a fraction."""
    slippage: float
    """Default slippage, a side, as a fraction of the price."""
    allow_short: bool
    """Whether a short is allowed by default."""
    jump_limit: float
    """A move from bar to bar beyond this fraction is odd: a split that was not adjusted, or a bad tick."""


ASSETS: dict[str, Asset] = {
    "us_equity": Asset("XNYS", "America/New_York", 30, fee=0.0, slippage=2e-4, allow_short=True, jump_limit=0.35),
    "crypto": Asset(None, "UTC", 0, fee=25e-4, slippage=2e-4, allow_short=False, jump_limit=0.50),
}

FIAT = frozenset((
    "USD", "EUR", "GBP", "JPY", "CHF", "CAD", "AUD", "NZD", "CNY", "CNH", "HKD", "SGD", "SEK", "NOK", "DKK", "PLN",
    "CZK", "HUF", "TRY", "ZAR", "MXN", "BRL", "INR", "KRW",
))  # fmt: skip
"""Currencies of states."""
STABLECOINS = frozenset(("USDT", "USDC", "BUSD", "FDUSD", "TUSD", "USDP"))
"""Quotes that make a symbol crypto whatever its base is."""
CRYPTO_BASES = frozenset((
    "BTC", "XBT", "WBTC", "ETH", "ETC", "BCH", "LTC", "XRP", "XLM", "ADA", "SOL", "DOT", "DOGE", "SHIB", "PEPE",
    "BNB", "TRX", "TON", "AVAX", "ATOM", "NEAR", "APT", "SUI", "ARB", "OP", "MATIC", "POL", "LINK", "UNI", "AAVE",
    "MKR", "CRV", "GRT", "BAT", "SUSHI", "YFI", "FIL", "ICP", "ALGO", "VET", "HBAR", "EOS", "XTZ", "XMR", "ZEC",
    "DASH", "NEO", "INJ", "RNDR", "FET", "USDT", "USDC", "DAI",
))  # fmt: skip
"""Coins that are known as the base of an unseparated pair, such as ``BTCUSD``."""
QUOTES = FIAT | STABLECOINS | {"BTC", "ETH"}

_SEPARATED = re.compile(r"([A-Z0-9]+)[/-]([A-Z0-9]+)")


def asset_class_of(symbol: str, override: AssetClass | None = None) -> AssetClass:
    """Return the asset class the spelling of `symbol` tells, unless `override` is given.

    Crypto is a base and a quote separated by ``/`` or ``-`` whose quote is a currency or a stablecoin (``BTC-USD``,
    ``ETH/EUR``), or unseparated with a known crypto base (``BTCUSD``) or a stablecoin quote (``SOLUSDC``).
    Everything else is a US equity (``SPY``, ``BRK-B``). Raises `BarsError` for two fiat currencies and for an
    unknown override.
    """
    if override is not None:
        if override not in tuple(ASSETS):
            raise BarsError(f"{symbol}: asset class {override!r} is not one of {', '.join(ASSETS)}.")
        return override
    pair = split_pair(symbol)
    if pair is None:
        return "us_equity"
    if FIAT.issuperset(pair):
        raise BarsError(
            f"{symbol} is a pair of currencies, for which there is no calendar and no cost here; "
            f"choose an equity or a crypto symbol, or set the asset class ({' or '.join(ASSETS)})."
        )
    return "crypto"


def split_pair(symbol: str) -> tuple[str, str] | None:
    """Return base and quote of a symbol that is spelled as a pair, else None."""
    name = symbol.upper().removesuffix("=X")  # Yahoo's spelling of exchange rates
    separated = _SEPARATED.fullmatch(name)
    if separated is not None:
        base, quote = separated.groups()
        return (base, quote) if quote in QUOTES else None
    # The longest quote first: BTCBUSD ends in BUSD, not in USD.
    for quote in sorted(QUOTES, key=len, reverse=True):
        base = name.removesuffix(quote)
        if base in ("", name):
            continue
        if base in CRYPTO_BASES or quote in STABLECOINS or (base in FIAT and quote in FIAT):
            return base, quote
    return None


def plain_symbol(symbol: str) -> str:
    """Return the one spelling that stands for all of a symbol: ``BTC-USD`` and ``BTC/USD`` are ``BTCUSD``."""
    return "".join(split_pair(symbol) or symbol.upper().replace("/", ""))


def describe_asset(asset_class: str) -> str:
    """Return an asset class with its calendar and default costs, as one line without a full stop."""
    asset = ASSETS[asset_class]
    hours = f"calendar {asset.calendar}" if asset.calendar else "around the clock"
    shorts = "shorts allowed" if asset.allow_short else "no shorts"
    costs = f"fee {asset.fee:g} and slippage {asset.slippage:g} a side"
    return f"{asset_class}: {hours} ({asset.timezone}); by default {costs}, {shorts}"
