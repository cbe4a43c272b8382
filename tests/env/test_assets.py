"""Asset classes: the spelling of symbols and what it decides."""

import pytest

from jtf_env.assets import ASSETS, asset_class_of, describe_asset
from jtf_env.errors import BarsError
from jtf_env.params import make_params

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    "symbol",
    [
        "BTC/USD", "eth/usd", "BTC-USD", "btc-usd", "ETH/EUR", "ETH-GBP", "SOL/USDC", "BTC/USDT", "ETH/BTC", "WIF/USD",
        "BTCUSD", "ETHUSD", "DOGEUSD", "ETHBTC", "ETHEUR", "BTCUSDT", "BTCUSDC", "SOLUSDC", "WIFUSDT", "BTCBUSD",
        "USDCUSDT",
    ],
)  # fmt: skip
def test_pairs_of_a_coin_and_a_currency_are_crypto(symbol):
    assert asset_class_of(symbol) == "crypto"


@pytest.mark.parametrize(
    "symbol", ["SPY", "CLSK", "USD", "BTC", "USDT", "BRK-B", "BRK.B", "BRK/B", "^GSPC", "BF-A", "ETHE"]
)
def test_other_spellings_are_equities(symbol):
    assert asset_class_of(symbol) == "us_equity"


@pytest.mark.parametrize("symbol", ["EURUSD", "EUR/USD", "usd-jpy", "GBPUSD=X", "EURGBP"])
def test_two_currencies_are_refused_in_one_sentence(symbol):
    with pytest.raises(BarsError, match=f"^{symbol} is a pair of currencies, .*; choose an equity or a crypto symbol"):
        asset_class_of(symbol)


def test_an_explicit_asset_class_wins_over_the_spelling():
    assert asset_class_of("EURUSD", "crypto") == "crypto"
    assert asset_class_of("BTC/USD", "us_equity") == "us_equity"


@pytest.mark.parametrize("override", ["forex", ["crypto"]])
def test_an_unknown_asset_class_is_refused_by_name(override):
    with pytest.raises(BarsError, match=r"SPY: asset class .* is not one of us_equity, crypto"):
        asset_class_of("SPY", override)


@pytest.mark.parametrize("asset_class", ASSETS)
def test_the_table_decides_the_default_costs_and_shorting(asset_class):
    params, asset = make_params(asset_class), ASSETS[asset_class]
    assert (params.fee, params.slippage, params.allow_short) == (asset.fee, asset.slippage, asset.allow_short)


def test_an_asset_class_is_described_with_calendar_and_costs():
    assert describe_asset("us_equity") == (
        "us_equity: calendar XNYS (America/New_York); by default fee 0 and slippage 0.0002 a side, shorts allowed"
    )
    assert describe_asset("crypto") == (
        "crypto: around the clock (UTC); by default fee 0.0025 and slippage 0.0002 a side, no shorts"
    )
