"""Flags: booleans as people type them, one true default a flag in the help, libraries' errors in the user's words."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jtf.backtest import BacktestConfig
from jtf.config import MODE_STEPS, RunConfig, parse_config
from jtf.errors import UserError
from jtf.flags import as_flags, errors_name_flags, parse_flags
from jtf.selftest import SelftestConfig
from jtf_env.params import EnvParams
from jtf_ppo.config import PPOConfig, check_config
from jtf_ppo.errors import ConfigError

pytestmark = pytest.mark.quick


@dataclass(frozen=True)
class Inner:
    """Inner settings."""

    short: bool | None = None
    """May go short. Default: by asset class."""
    width: int | None = None
    """A width. Default: by device."""


@dataclass(frozen=True)
class Base:
    """Settings of a base class."""

    rate: float = 0.5
    """A rate; see e.g. Kingma.
    Default: never shown beside a value."""


@dataclass(frozen=True)
class Outer(Base):
    """Outer settings."""

    run: Path = Path("runs")
    """A folder."""
    keep_all: bool = False
    """Keep everything."""
    precision: str = "auto"
    """A type. Default: float32 on a CPU."""
    inner: Inner = field(default_factory=Inner)


def parse(*args: str) -> Outer:
    return parse_flags(Outer, args, "outer")


def help_of(cls: type, capsys, *args: str, default: object = None) -> str:
    """The help text without frames and line breaks."""
    with pytest.raises(SystemExit) as exit_info:
        parse_flags(cls, [*args, "--help"], "prog", default)
    assert exit_info.value.code == 0
    return re.sub(r"[\s│|╭╮╰╯─]+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("word", ["true", "True", "TRUE"])
def test_true_in_any_case_sets_a_boolean(word):
    assert parse("--keep-all", word).keep_all and parse(f"--keep-all={word}").keep_all
    assert parse("--inner.short", word).inner.short and parse(f"--inner.short={word}").inner.short


@pytest.mark.parametrize("word", ["false", "False", "FALSE"])
def test_false_in_any_case_clears_a_boolean(word):
    on = Outer(keep_all=True, inner=Inner(short=True))
    for args in (["--keep-all", word, "--inner.short", word], [f"--keep-all={word}", f"--inner.short={word}"]):
        config = parse_flags(Outer, args, "outer", on)
        assert config.keep_all is False and config.inner.short is False


def test_a_boolean_flag_may_stand_alone():
    assert parse("--keep-all", "--inner.no-short") == Outer(keep_all=True, inner=Inner(short=False))


def test_a_boolean_that_is_not_given_keeps_its_default():
    assert parse() == Outer() and parse().inner.short is None


def test_underscores_are_as_good_as_hyphens():
    assert parse("--keep_all", "TRUE").keep_all


def test_a_value_that_reads_true_stays_a_value_of_its_own_flag():
    assert parse("--run", "true", "--keep-all").run == Path("true")


@pytest.mark.parametrize("args", [["--keep-all", "maybe"], ["--inner.width", "None"], ["--rate", "true"]])
def test_what_no_flag_takes_exits_with_code_2(args, capsys):
    with pytest.raises(SystemExit) as exit_info:
        parse(*args)
    assert exit_info.value.code == 2


def test_the_help_says_the_value_or_how_it_is_chosen(capsys):
    text = help_of(Outer, capsys)
    assert "A rate; see e.g. Kingma. (default: 0.5)" in text
    assert "--keep-all, --no-keep-all Keep everything. (default: no)" in text
    assert "A type. (default: auto; float32 on a CPU)" in text
    assert "--inner.width INT A width. (default: by device)" in text


def test_the_help_of_a_configured_command_says_what_is_configured(capsys):
    text = help_of(Outer, capsys, default=Outer(precision="float32", inner=Inner(width=64)))
    assert "A type. (default: float32)" in text and "A width. (default: 64)" in text


@pytest.mark.parametrize("cls", [RunConfig, BacktestConfig, SelftestConfig])
def test_every_flag_of_every_command_has_one_default(cls, capsys):
    with pytest.raises(SystemExit):
        parse_flags(cls, ["--help"], "prog")
    _, *entries = re.split(r"^(?:│ |  )--(?=[a-z])", capsys.readouterr().out, flags=re.MULTILINE)
    assert len(entries) >= 2
    for entry in (re.sub(r"[\s│|╭╮╰╯─]+", " ", entry) for entry in entries):
        assert entry.count("(default: ") + entry.count("(required)") == 1, entry
        assert "None" not in entry and "Default" not in entry, entry


@pytest.mark.parametrize("mode", ["smoke", "standard"])
def test_the_help_of_a_mode_says_its_steps(mode, capsys):
    with pytest.raises(SystemExit):
        parse_config(["--mode", mode, "--help"])
    assert f"{MODE_STEPS[mode]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("max_grad_norm=0.0 must lie in 1..2.", "--ppo.max-grad-norm 0.0 must lie in 1..2."),
        ("lower `learning_rate`.", "lower --ppo.learning-rate."),
        ("engine=rows needs rows; use engine=samples.", "--ppo.engine rows needs rows; use --ppo.engine samples."),
        ("the engine of that seed stays.", "the engine of that seed stays."),
    ],
)
def test_settings_become_flags_and_words_stay_words(sentence, said):
    assert as_flags(sentence, PPOConfig, "ppo.") == said


def test_settings_in_settings_become_flags_of_their_group():
    assert as_flags("weight pnl=nan is no number.", EnvParams, "env.") == "weight --env.reward.pnl nan is no number."


def test_an_error_of_the_learner_is_said_in_flags():
    said = pytest.raises(UserError, match=r"^--ppo\.max-grad-norm 0\.0 must lie")
    with said, errors_name_flags(PPOConfig, "ppo.", ConfigError):
        check_config(PPOConfig(max_grad_norm=0.0))


def test_other_errors_pass_as_they_are():
    with pytest.raises(KeyError), errors_name_flags(PPOConfig, "ppo.", ConfigError):
        raise KeyError


def test_no_message_of_the_learner_or_the_market_names_a_flag():
    root = Path(__file__).parents[2]
    sources = [*root.glob("jtf_ppo/**/*.py"), *root.glob("jtf_env/**/*.py")]
    named = [(path.name, *re.findall(r"(?<![\w-])--[a-z][\w.-]+", path.read_text())) for path in sources]
    assert len(sources) > 30 and [entry for entry in named if len(entry) > 1] == []
