"""What the layers are made from: pins, pruning, weights. Nothing is downloaded here."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infra.layers import LAYERS, LOCK, LayerError, fingerprint, layer_names, package_content, requirements
from infra.settings import FUNCTIONS, ROOT

LOCKED = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:{a}
    # via onnx
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:{b} \\
    --hash=sha256:{c}
    # via onnx
winloop==0.6.3 ; sys_platform == 'win32' \\
    --hash=sha256:{a}
six==1.17.0 \\
    --hash=sha256:{c}
""".format(a="a" * 64, b="b" * 64, c="c" * 64)


@pytest.fixture(scope="module")
def builder():
    spec = importlib.util.spec_from_file_location("layer_builder", ROOT / "layers" / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def file(folder: Path, name: str, text: str = "x") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_pins_are_those_of_the_lock_for_the_lambda_runtime(builder):
    pins = builder.pinned(["six", "numpy"], LOCKED).splitlines()
    assert pins == [f"six==1.17.0 --hash=sha256:{'c' * 64}", f"numpy==2.5.5 --hash=sha256:{'b' * 64} --hash=sha256:{'c' * 64}"]


@pytest.mark.parametrize("name", ["winloop", "pandas"])
def test_what_the_lock_does_not_pin_for_linux_is_refused(builder, name):
    with pytest.raises(LayerError, match=rf"{name}: requirements.lock pins it 0 times for Python 3.13 on Linux"):
        builder.pinned([name], LOCKED)


@pytest.mark.parametrize("name", layer_names())
def test_every_distribution_of_every_layer_is_pinned_with_hashes(builder, name):
    pins = builder.pinned(requirements(name), LOCK.read_text("utf8")).splitlines()
    assert [pin.split("==")[0].lower() for pin in pins] == list(requirements(name))
    assert all("--hash=sha256:" in pin for pin in pins)


def test_borrowed_libraries_come_from_pinned_wheels(builder):
    assert {path.parent.name for path in LAYERS.glob("*/borrowed.txt")} == set(builder.BORROWED)
    for name in builder.BORROWED:
        (pin,) = [line for line in (LAYERS / name / "borrowed.txt").read_text("utf8").splitlines() if not line.startswith("#")]
        assert re.fullmatch(r"[a-z-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", pin)


def test_the_layers_that_exist_are_those_that_functions_carry(builder):
    assert set(layer_names()) == {name for function in FUNCTIONS.values() for name in function.layers} == set(builder.TRIED)


def test_no_function_carries_a_distribution_twice():
    for function in FUNCTIONS.values():
        held = [distribution for layer in function.layers for distribution in requirements(layer)]
        assert len(held) == len(set(held)), function.name


def test_an_unknown_layer_is_refused_with_the_known_ones():
    with pytest.raises(LayerError, match="layer gpu: unknown; there are core, inference, market, training"):
        requirements("gpu")


def test_pruning_keeps_what_runs_and_the_licences(builder, tmp_path):
    kept = [
        file(tmp_path, "numpy/_core/code.py"),
        file(tmp_path, "numpy/_core/fast.cpython-313-x86_64-linux-gnu.so"),
        file(tmp_path, "numpy/testing/__init__.py"),
        file(tmp_path, "numpy.libs/libblas.so"),
        file(tmp_path, "numpy-2.5.5.dist-info/METADATA"),
        file(tmp_path, "numpy-2.5.5.dist-info/LICENSE.txt"),
        file(tmp_path, "scipy/__init__.py"),
        file(tmp_path, "scipy/sparse/_csr.py"),
    ]
    for gone in (
        "numpy/_core/tests/test_code.py",
        "numpy/_core/code.pyi",
        "numpy/_core/__pycache__/code.cpython-311.pyc",
        "numpy/_core/include/numpy/array.h",
        "numpy-2.5.5.dist-info/RECORD",
        "scipy/stats/__init__.py",
        "scipy/sparse/linalg/__init__.py",
        "scipy.libs/libblas.so",
    ):
        file(tmp_path, gone)
    builder.prune(tmp_path, ["numpy", "scipy"])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_exchanges_load_when_asked_for_and_stay_classes(builder, tmp_path):
    package = tmp_path / "ccxt"
    file(
        package,
        "__init__.py",
        "from ccxt.alpha import alpha  # noqa\nfrom ccxt.beta import beta\nexchanges = [\n    'alpha',\n    'beta',\n]\n",
    )
    file(package, "alpha.py", "print('alpha loaded')\nclass alpha: pass\n")
    file(package, "beta.py", "from ccxt.alpha import alpha\nclass beta(alpha): pass\n")
    builder.import_exchanges_lazily(package / "__init__.py")
    code = "import ccxt; print('imported'); b = ccxt.beta(); print(isinstance(b, ccxt.alpha), ccxt.beta.__name__, hasattr(ccxt, 'gamma'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines() == ["imported", "alpha loaded", "True beta False"]


def test_a_changed_layout_of_ccxt_is_noticed(builder, tmp_path):
    with pytest.raises(LayerError, match="no list of exchanges"):
        builder.import_exchanges_lazily(file(tmp_path, "__init__.py", "from ccxt.alpha import alpha\n"))


def test_a_function_that_is_too_heavy_is_refused(builder):
    weights = builder.function_weights({"core": 100.0, "market": 50.0, "inference": 110.0})
    assert weights["risk_check"] == pytest.approx(150.0, abs=0.1)
    assert "retrain" not in weights
    with pytest.raises(LayerError, match=r"function feature_rebalance: 260\.0 MB with its layers, at most 250"):
        builder.check_weights(weights)
    builder.check_weights({"risk_check": 250.0})


def test_the_core_layer_carries_the_package_and_its_models_but_no_commands():
    content = package_content()
    assert {"tickless/__init__.py", "tickless/pipeline.py", "tickless/desks/rotation.toml", "tickless/models/rotation_6h/spec.toml"} <= set(
        content
    )
    assert not [place for place in content if place.startswith(("tickless/cli/", "tickless/localcloud/")) or "__pycache__" in place]


def test_a_fingerprint_tells_layers_apart():
    assert len({fingerprint(name) for name in layer_names()}) == len(layer_names())
    assert fingerprint("market") == fingerprint("market")
