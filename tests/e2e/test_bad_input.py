"""Bad input, line by line: one clear sentence that names the thing, the right exit code or refusal, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from local_desk import DAY, LocalDesk, logged, tiny_model
from typer.testing import CliRunner

from tickless.adapters.bar_files import write_folder
from tickless.adapters.folder_models import FolderModelStore
from tickless.adapters.markets_file import write_markets
from tickless.adapters.synthetic_market import make_market
from tickless.cli.app import app
from tickless.errors import DataError, EventError, InputError, SettingsError, StaleTickError
from tickless.localcloud import InvocationResult
from tickless.ports import Promotion
from tickless.types import iso

FIRST, LAST = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 6, 5, tzinfo=UTC)
INSIDE = "20240602-20240603"
NOTICES = ("universe: ", "history: ", "repaired on reading", "no usable bar for")
"""Beginnings and parts of lines on stderr that tell and refuse nothing."""


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good folder of four pairs and four days, as CSV files."""
    folder = tmp_path_factory.mktemp("recorded")
    made = make_market(pairs=4, start=FIRST, end=LAST, seed=5, events=False)
    write_folder(folder, made.panel, "csv")
    write_markets(folder, made.rules)
    return folder


@pytest.fixture
def data(recorded: Path, tmp_path: Path) -> Path:
    """A copy of the good folder, to spoil."""
    folder = tmp_path / "data"
    shutil.copytree(recorded, folder)
    return folder


class Command:
    """Runs commands that must be refused, and looks at what they said and left."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"

    def refused(self, *arguments: object, code: int = 2, writes: bool = True) -> str:
        """The one sentence of a refusal; nothing may have been written."""
        given = [str(argument) for argument in (*arguments, *(("--out", self.out) if writes else ()))]
        result = CliRunner().invoke(app, given)
        lines = [line for line in result.stderr.splitlines() if not any(notice in line for notice in NOTICES)]
        assert result.exit_code == code, (result.stderr, result.stdout, result.exception)
        assert result.stdout == ""
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("tickless: ")
        assert not self.out.exists()
        return lines[0].removeprefix("tickless: ")

    def replay(self, data: Path, *arguments: object, timerange: str = INSIDE, code: int = 2) -> str:
        return self.refused("replay", "--data", data, "--timerange", timerange, *arguments, code=code)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    """Change the rows of a CSV file, its head left alone."""
    head, *rows = path.read_text("utf8").splitlines()
    path.write_text("\n".join([head, *change(rows)]) + "\n", "utf8")


def set_field(row: str, column: int, value: str) -> str:
    fields = row.split(",")
    fields[column] = value
    return ",".join(fields)


# Folders


def test_a_folder_that_is_not_there(command: Command, tmp_path: Path) -> None:
    assert command.replay(tmp_path / "nowhere") == f"--data {tmp_path / 'nowhere'}: no such folder"


def test_a_folder_without_bars(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert command.replay(tmp_path / "empty") == f"{tmp_path / 'empty'}: no 15m bar file; timeframes there: none"


def test_a_folder_of_another_timeframe(command: Command, data: Path) -> None:
    for path in data.glob("*-15m.csv"):
        path.rename(path.with_name(path.name.replace("15m", "4h")))
    assert command.replay(data) == f"{data}: no 15m bar file; timeframes there: 4h"


def test_a_folder_of_another_quote(command: Command, data: Path) -> None:
    for path in data.glob("*-15m.csv"):
        path.rename(path.with_name(path.name.replace("USDT", "EUR")))
    assert command.replay(data) == f"{data}: no 15m pair is quoted in USDT"


@pytest.mark.parametrize("price", ["0", "nan", ""])
def test_a_folder_whose_every_price_is_impossible(command: Command, data: Path, price: str) -> None:
    for path in data.glob("*-15m.csv"):
        rewrite(path, lambda rows: [set_field(row, 4, price) for row in rows])
    assert command.replay(data) == f"{data}: no pair has a usable 15m bar"


# Files


def test_a_file_without_a_column(command: Command, data: Path) -> None:
    path = data / "ETH_USDT-15m.csv"
    path.write_text(path.read_text("utf8").replace("volume", "turnover"), "utf8")
    sentence = command.replay(data)
    assert sentence.startswith(f"{path}: ")
    assert "volume" in sentence


def test_a_file_with_text_in_a_number_column(command: Command, data: Path) -> None:
    path = data / "ETH_USDT-15m.csv"
    rewrite(path, lambda rows: [*rows[:7], set_field(rows[7], 3, "cheap"), *rows[8:]])
    sentence = command.replay(data)
    assert sentence.startswith(f"{path}: ")
    assert "low" in sentence
    assert "cheap" in sentence


def test_a_file_that_is_no_table(command: Command, data: Path) -> None:
    path = data / "ETH_USDT-15m.parquet"
    (data / "ETH_USDT-15m.csv").unlink()
    path.write_bytes(b"not a table")
    assert command.replay(data).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda rows: [*rows[:5], set_field(rows[5], 1, "0"), *rows[6:]], "1 impossible"),
        (lambda rows: [*rows[:5], set_field(rows[5], 4, "nan"), *rows[6:]], "1 impossible"),
        (lambda rows: [rows[0], rows[2], rows[1], *rows[3:]], "1 unsorted"),
        (lambda rows: [*rows[:5], rows[4], *rows[5:]], "1 duplicate"),
        (lambda rows: [*rows, set_field(rows[-1], 0, "2999-01-01 00:00:00.000Z")], "1 future"),
    ],
    ids=["zero", "nan", "unsorted", "duplicated", "future"],
)
def test_rows_that_can_be_repaired_or_dropped_are_told(
    command: Command, data: Path, spoil: Callable[[list[str]], list[str]], told: str
) -> None:
    """The run goes on with what is left; here it ends at a timerange past that, so that the future bar cannot have widened the data."""
    rewrite(data / "ETH_USDT-15m.csv", spoil)
    result = CliRunner().invoke(app, ["replay", "--data", str(data), "--timerange", "20990101-20990102", "--out", str(command.out)])
    assert f"{data}: repaired on reading: {told} (tickless data check tells where)" in result.stderr.splitlines()
    assert result.stderr.splitlines()[-1].endswith("outside the data, which reach from 2024-06-01T00:00:00Z to 2024-06-05T00:00:00Z")
    checked = CliRunner().invoke(app, ["data", "check", "--data", str(data), "--json"])
    (eth,) = (pair for pair in json.loads(checked.stdout)["timeframes"]["15m"] if pair["pair"] == "ETH/USDT")
    assert eth[told.partition(" ")[2]] == 1


def test_a_pair_without_a_usable_bar_is_left_out_and_told(command: Command, data: Path) -> None:
    rewrite(data / "ETH_USDT-15m.csv", lambda rows: [set_field(row, 4, "nan") for row in rows])
    result = CliRunner().invoke(app, ["replay", "--data", str(data), "--timerange", "20990101-20990102", "--out", str(command.out)])
    assert f"{data}: no usable bar for ETH/USDT; left out" in result.stderr.splitlines()


# Desk files

DESKS = {
    "unknown_key": ("[portfolio]\ntop = 3\n", "portfolio.top: unknown key (got 3)"),
    "unknown_section": ("[portfolios]\n", "portfolios: unknown key"),
    "wrong_type": ('[risk]\ninitial_stop_atr = "wide"\n', "risk.initial_stop_atr: "),
    "cap_above_one": ("[portfolio]\ntier1_cap_frac = 1.5\n", "portfolio.tier1_cap_frac: "),
    "tiers_overlap": (
        '[universe]\ntier1 = ["BTC"]\ntier2 = ["ETH", "BTC"]\n',
        "universe.tier2: 'BTC' is in tier1 already; tiers must not overlap",
    ),
    "no_toml": ("[portfolio\n", "not TOML"),
}


@pytest.mark.parametrize("name", sorted(DESKS))
def test_a_desk_file_that_is_wrong(command: Command, data: Path, tmp_path: Path, name: str) -> None:
    text, named = DESKS[name]
    desk = tmp_path / f"{name}.toml"
    desk.write_text(text, "utf8")
    sentence = command.replay(data, "--desk", desk)
    assert sentence.startswith(f"{desk}: ")
    assert named in sentence


def test_a_whitelisted_pair_that_is_not_there(command: Command, data: Path, tmp_path: Path) -> None:
    desk = tmp_path / "desk.toml"
    desk.write_text('[universe]\npair_whitelist = ["BTC/USDT", "NOPE/USDT"]\n[strategy.rotation]\n', "utf8")
    assert command.replay(data, "--desk", desk) == "universe.pair_whitelist: 'NOPE/USDT' has no bars on this market"


def test_a_desk_that_is_not_there(command: Command, data: Path) -> None:
    assert command.replay(data, "--desk", "nodesk").startswith("desk nodesk: neither a built-in desk")


@pytest.mark.parametrize("override", ["portfolio.tier1_cap_frac=1.5", "portfolio.top=3", "portfolio", "risk.initial_stop_atr=wide"])
def test_an_override_that_is_wrong(command: Command, data: Path, override: str) -> None:
    sentence = command.replay(data, "--set", override)
    assert f"--set {override}: " in sentence
    assert override.partition("=")[0] in sentence


# Timeranges


@pytest.mark.parametrize(
    ("timerange", "how"),
    [
        ("20230101-20230102", "outside"),
        ("20240531-20240602", "begins before"),
        ("20240604-20240607", "ends after"),
        ("20240531-20240607", "begins before and ends after"),
        ("20990101-20990102", "outside"),
    ],
)
def test_a_timerange_outside_the_data(command: Command, data: Path, timerange: str, how: str) -> None:
    sentence = command.replay(data, timerange=timerange)
    first, last = (f"{part[:4]}-{part[4:6]}-{part[6:]}T00:00:00Z" for part in timerange.split("-"))
    assert sentence.startswith(
        f"timerange {first} to {last}: {how} the data, which reach from 2024-06-01T00:00:00Z to 2024-06-05T00:00:00Z"
    )


@pytest.mark.parametrize("command", ["backtest", "replay"])
def test_a_refused_run_is_told_nothing_else(data: Path, tmp_path: Path, command: str) -> None:
    """Four pairs of a hundred and more that the tier lists name: a note of a run, not of a refusal."""
    given = [command, "--data", str(data), "--out", str(tmp_path / "out"), "--timerange"]
    result = CliRunner().invoke(app, [*given, "20990101-20990102"])
    (line,) = result.stderr.splitlines()
    assert line.startswith("tickless: timerange 2099-01-01T00:00:00Z to 2099-01-02T00:00:00Z: outside the data")


def test_settings_that_do_nothing_are_told_before_a_run(data: Path, tmp_path: Path) -> None:
    given = ["backtest", "--data", str(data), "--out", str(tmp_path / "out"), "--timerange", "20240604-20240605", "--retrain", "never"]
    result = CliRunner().invoke(app, [*given, "--set", "execution.unfilled_action=cross"])
    assert result.exit_code == 0, result.stderr
    told = "execution.unfilled_action: 'cross' does nothing with execution.order_type = 'market': only limit orders are quoted again"
    assert told in result.stderr.splitlines()


@pytest.mark.parametrize("timerange", ["2024", "20240602", "20240603-20240602", "20240602-20240602", "20240602-", "a-b"])
def test_a_timerange_that_is_none(command: Command, data: Path, timerange: str) -> None:
    assert command.replay(data, timerange=timerange).startswith(f"--timerange {timerange}: must ")


@pytest.mark.parametrize(("timerange", "day"), [("20240631-20240702", "2024-06-31"), ("20240601-20240632", "2024-06-32")])
def test_a_day_that_there_is_not(command: Command, data: Path, timerange: str, day: str) -> None:
    assert command.replay(data, timerange=timerange) == f"--timerange {timerange}: there is no day {day}"


# Models


def test_a_model_folder_that_is_not_there(command: Command, data: Path, tmp_path: Path) -> None:
    assert command.replay(data, "--models", tmp_path / "none") == f"--models {tmp_path / 'none'}: no such folder"


@pytest.mark.parametrize("name", ["replay", "backtest"])
def test_a_model_folder_that_is_a_file(command: Command, data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "models").write_text("precious", "utf8")
    sentence = command.refused(name, "--data", data, "--timerange", INSIDE, "--models", tmp_path / "models")
    assert sentence == f"--models {tmp_path / 'models'}: is a file, the models need a folder"
    with pytest.raises(InputError, match="models: is a file, the models need a folder"):
        FolderModelStore(tmp_path / "models")


def test_a_model_folder_without_a_model_is_told(data: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    given = ["--data", data, "--timerange", INSIDE, "--models", tmp_path / "models", "--out", tmp_path / "out", "--retrain", "never"]
    result = CliRunner().invoke(app, ["backtest", *map(str, given)])
    assert result.exit_code == 0, result.stderr
    assert f"--models {tmp_path / 'models'}: holds no model; the run starts without one" in result.stderr.splitlines()
    assert (tmp_path / "out" / "summary.json").is_file()


def test_a_model_whose_sha256_does_not_match_is_told_and_the_run_falls_back(data: Path, tmp_path: Path) -> None:
    models = FolderModelStore(tmp_path / "models")
    manifest, artifact = tiny_model("rotation_6h", "v1", FIRST)
    models.register("rotation_6h", "v1", manifest, artifact)
    models.promote("rotation_6h", Promotion("v1", FIRST, FIRST, "made by hand"))
    path = tmp_path / "models" / "rotation_6h" / "v1" / "artifact.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    given = ["--data", data, "--timerange", INSIDE, "--models", tmp_path / "models", "--out", tmp_path / "out", "--retrain", "never"]
    result = CliRunner().invoke(app, ["backtest", *map(str, given)])
    assert result.exit_code == 0, result.stderr
    (told,) = [line for line in result.stdout.splitlines() if line.startswith("champion refused at ")]
    assert "rebalances: model rotation_6h@v1: the artifact's sha256 is " in told
    assert manifest["sha256"][:12] in told
    (refused,) = json.loads((tmp_path / "out" / "summary.json").read_text("utf8"))["models_refused"]
    assert told.endswith(refused["reason"])


# Other commands refuse alike, and the installed one does


def test_models_that_no_tick_of_a_run_may_use_are_told(data: Path, tmp_path: Path) -> None:
    store = FolderModelStore(tmp_path / "models")
    for version, effective_at in (("early", FIRST), ("late", LAST)):
        store.register("rotation_6h", version, *tiny_model("rotation_6h", version, effective_at))
    given = ("--data", data, "--timerange", INSIDE, "--models", tmp_path / "models", "--retrain", "never", "--out", tmp_path / "out")
    begin = f"--models {tmp_path / 'models'}: no model is champion before the run ends at 2024-06-03T00:00:00Z: "
    end = "; the run starts without one"

    def promote(version: str) -> None:
        done = CliRunner().invoke(app, ["models", "promote", f"rotation_6h@{version}", "--models", str(tmp_path / "models")])
        assert done.exit_code == 0, done.output

    def told() -> list[str]:
        result = CliRunner().invoke(app, ["backtest", *map(str, given)])
        assert result.exit_code == 0, result.stderr
        return [line for line in result.stderr.splitlines() if line.startswith("--models")]

    assert told() == [f"{begin}none was promoted{end}"]
    promote("late")
    assert told() == [f"{begin}rotation_6h@late is one from {iso(LAST)} on{end}"]
    promote("early")
    assert told() == []
    assert json.loads((tmp_path / "out" / "summary.json").read_text("utf8"))["models"].keys() == {"rotation_6h@early"}


def test_train_leaves_no_models_behind(command: Command, data: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    command.refused("train", "--data", data, "--timerange", "20230101-20230201", "--models", models, writes=False)
    assert not models.exists()


def test_train_refuses_a_model_folder_that_cannot_be_one(command: Command, data: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.write_text("precious", "utf8")
    sentence = command.refused("train", "--data", data, "--timerange", INSIDE, "--models", models, writes=False)
    assert sentence == f"--models {models}: is a file, the models need a folder"
    assert models.read_text("utf8") == "precious"


def test_train_refuses_a_desk_without_models(command: Command, data: Path, tmp_path: Path) -> None:
    models, desk = tmp_path / "models", ("--desk", "crossover")
    sentence = command.refused("train", *desk, "--data", data, "--timerange", INSIDE, "--models", models, writes=False)
    assert sentence == "--desk crossover: its settings name no model; choose with --model, known: crossover_setup"


def test_a_training_has_no_window_but_its_timerange(command: Command, data: Path, tmp_path: Path) -> None:
    given = ("--data", data, "--timerange", INSIDE, "--models", tmp_path / "models", "--set", "training.window_days=30")
    sentence = command.refused("train", *given, writes=False)
    assert sentence == "--set training.window_days=30: the window of this training is its --timerange; give another one"


def test_a_training_that_trains_nothing_fails_with_the_reasons(command: Command, data: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    sentence = command.refused("train", "--data", data, "--timerange", INSIDE, "--models", models, writes=False, code=1)
    assert "rotation_6h: nothing trained, because " in sentence
    assert "; rotation_24h: nothing trained, because " in sentence
    assert not models.exists()


def test_features_leave_no_table_behind(command: Command, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "table.parquet"
    command.refused("features", "--data", data, "--timerange", "20230101-20230201", "--out", out, writes=False)
    assert not out.exists()


def test_features_refuse_a_file_that_cannot_be_written(command: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "afile").write_text("precious", "utf8")
    (tmp_path / "table.csv").mkdir()
    given = ("features", "--data", data, "--timerange", INSIDE, "--out")
    below = tmp_path / "afile" / "x.csv"
    assert command.refused(*given, below, writes=False) == f"--out {below}: no file can be written there (Not a directory)"
    folder = tmp_path / "table.csv"
    assert command.refused(*given, folder, writes=False) == f"--out {folder}: is a folder, expected a file"


@pytest.mark.parametrize("given", [("replay",), ("backtest",), ("demo",)])
def test_an_out_that_can_be_no_folder_is_refused_before_anything_runs(
    data: Path, tmp_path: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("precious", "utf8")
    if given[0] != "demo":
        given += ("--data", str(data), "--timerange", INSIDE)
    for out in ("/proc/x", "afile/x", "afile", "a/" + "n" * 300, "n" * 300):
        result = CliRunner().invoke(app, [*given, "--out", out])
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(f"tickless: --out {out}: ")
        assert result.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afile", "data"]


def test_an_out_that_is_a_file_is_left_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("precious", "utf8")
    result = CliRunner().invoke(app, ["replay", "--data", str(data), "--timerange", INSIDE, "--out", str(out)])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"tickless: --out {out}: is a file, the results need a folder"
    assert out.read_text("utf8") == "precious"


def test_the_installed_command_says_one_sentence_and_no_traceback(
    tickless: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = tickless("replay", "--data", tmp_path / "none", "--timerange", INSIDE, "--out", tmp_path / "out", code=2)
    assert done.stderr == f"tickless: --data {tmp_path / 'none'}: no such folder\n"
    assert done.stdout == ""


# Events and parameters


def untouched(desk: LocalDesk, result: InvocationResult) -> None:
    """The function failed, logged its one error, and wrote neither state nor trace."""
    assert result.error is not None
    assert desk.items() == []
    assert result.metric("TickDone") is None
    assert result.metric("TickFailed") == 1.0
    assert len(logged(result, "tick failed")) == 1


EVENTS = [
    ({}, "'scheduled_time' is missing"),
    ([], "'scheduled_time' is missing"),
    ({"scheduled_time": None}, "scheduled_time None is not a text; expected a time such as 2024-06-01T00:00:00Z"),
    ({"scheduled_time": "midnight"}, "scheduled_time 'midnight' is not an ISO 8601 time with a zone"),
    ({"scheduled_time": "2024-06-03T00:00:00"}, "scheduled_time '2024-06-03T00:00:00' is not an ISO 8601 time with a zone"),
    ({"scheduled_time": "2024-06-03T00:00:30Z"}, "scheduled_time '2024-06-03T00:00:30Z' is not a whole minute"),
]


FUNCTIONS = ("risk_check", "feature_rebalance", "full_rebalance", "retrain")


def test_an_event_without_a_usable_time(desk: LocalDesk) -> None:
    for function in FUNCTIONS:
        for event, named in EVENTS:
            result = desk.local.invoke(function, event)
            untouched(desk, result)
            assert result.error is not None
            assert isinstance(result.error.exception, EventError)
            assert result.error.message.startswith(f"event of {function}: ")
            assert named in result.error.message


@pytest.mark.parametrize(
    ("late_s", "named"), [(3600.0, "3600 s old, at most schedule.max_event_age_s = 600 s"), (-3600.0, "in the future")]
)
def test_an_event_of_another_time(desk: LocalDesk, late_s: float, named: str) -> None:
    for function in FUNCTIONS:
        result = desk.tick(function, DAY, late_s=late_s)
        untouched(desk, result)
        assert result.error is not None
        assert isinstance(result.error.exception, StaleTickError)
        assert result.error.message.startswith(f"tick 2024-06-03T00:00:00Z#{function}: ")
        assert named in result.error.message
        assert result.metric("StaleTick") == 1.0
        assert desk.trace(function, DAY) is None


def test_a_first_parameter_that_is_not_json_has_nothing_to_fall_back_on(desk: LocalDesk) -> None:
    good = json.dumps(desk.settings("risk"))
    desk.parameter("risk", "{not json")
    result = desk.tick("risk_check", DAY)
    assert result.error is not None
    assert isinstance(result.error.exception, SettingsError)
    assert "risk: not JSON" in result.error.message
    assert [item["sk"]["S"] for item in desk.items() if item["sk"]["S"].startswith(("NOW#", "LOG#"))] == []

    desk.parameter("risk", good)
    assert desk.tick("risk_check", DAY, late_s=61.0).payload["status"] == "done"


def test_a_later_parameter_that_is_not_json_is_refused_by_name(desk: LocalDesk) -> None:
    assert desk.tick("risk_check", DAY).error is None
    desk.parameter("risk", "{not json")
    result = desk.tick("risk_check", DAY + timedelta(minutes=15))
    assert result.error is None
    assert result.metric("SettingsRefused") == 1.0
    (line,) = logged(result, "parameter refused")
    assert "risk: not JSON" in line["error"]


def test_every_refusal_is_of_the_input_tree() -> None:
    """Exit code 2 hangs on this."""
    assert all(issubclass(kind, InputError) for kind in (DataError, SettingsError, EventError))
