"""What is kept, how it is protected, and what each function is made of."""

import json
import shutil
import subprocess

import pytest
from aws_cdk import App
from cfnlint.api import ManualArgs, lint
from stack_reading import canonical, definition, functions, of_type, properties, text, the

from infra.app import main, synthesize
from infra.intent import main as intent
from infra.layers import LAYERS
from tickless.errors import SettingsError
from tickless.settings import read_desk

CORE, MARKET, INFERENCE, TRAINING = "LayersCore", "LayersMarket", "LayersInference", "LayersTraining"
STATE = ("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::Logs::LogGroup", "AWS::SQS::Queue")


@pytest.mark.parametrize("kind", STATE)
def test_state_outlives_the_stack_in_prod_and_goes_with_it_in_dev(template, prod, kind):
    for stack, policy in ((template, "Delete"), (prod, "Retain")):
        found = of_type(stack, kind).values()
        assert {(r["DeletionPolicy"], r["UpdateReplacePolicy"]) for r in found} == {(policy, policy)}


def test_the_table_can_be_restored_and_forgets_what_has_expired(template, prod):
    for stack in (template, prod):
        (table,) = properties(stack, "AWS::DynamoDB::Table")
        assert [(k["AttributeName"], k["KeyType"]) for k in table["KeySchema"]] == [("pk", "HASH"), ("sk", "RANGE")]
        assert {a["AttributeType"] for a in table["AttributeDefinitions"]} == {"S"}
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
        assert table["DeletionProtectionEnabled"] is (stack is prod)


def test_the_bucket_is_private_and_keeps_versions(template):
    (bucket,) = properties(template, "AWS::S3::Bucket")
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert "BucketEncryption" in bucket


def test_the_bucket_refuses_whoever_comes_without_tls(template):
    _, bucket = the(template, "AWS::S3::BucketPolicy")
    statements = bucket["Properties"]["PolicyDocument"]["Statement"]
    assert {s["Effect"] for s in statements} == {"Deny"}
    store = the(template, "AWS::S3::Bucket")[0]
    (plain,) = [s for s in statements if "Bool" in s["Condition"]]
    assert plain["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert plain["Principal"] == {"AWS": "*"}
    assert plain["Action"] == "s3:*"
    assert [text(r) for r in plain["Resource"]] == [f"<{store}.Arn>", f"<{store}.Arn>/*"]


def test_traces_cool_down_then_expire_and_only_old_versions_of_the_rest(template, prod):
    for stack, kept_days, version_days in ((template, 90, 7), (prod, 730, 90)):
        (bucket,) = properties(stack, "AWS::S3::Bucket")
        rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
        assert rules["traces"]["Prefix"] == "trace/"
        assert rules["traces"]["Transitions"] == [{"StorageClass": "STANDARD_IA", "TransitionInDays": 30}]
        assert rules["traces"]["ExpirationInDays"] == kept_days
        assert rules["overwritten"]["NoncurrentVersionExpiration"] == {"NoncurrentDays": version_days}
        assert "ExpirationInDays" not in rules["overwritten"]


def test_what_training_steps_hand_one_another_is_deleted_soon_and_models_never(template, prod):
    for stack, days in ((template, 7), (prod, 30)):
        (bucket,) = properties(stack, "AWS::S3::Bucket")
        expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in bucket["LifecycleConfiguration"]["Rules"] if "Prefix" in rule}
        assert expiring["training/"] == days
        assert set(expiring) == {"trace/", "training/"}


def test_dead_letters_are_encrypted_and_kept_for_two_weeks(template):
    for queue in properties(template, "AWS::SQS::Queue"):
        assert queue["SqsManagedSseEnabled"] is True
        assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_logs_are_json_and_expire(template, prod):
    for stack, days in ((template, 14), (prod, 365)):
        assert {p["RetentionInDays"] for p in properties(stack, "AWS::Logs::LogGroup")} == {days}
        for function in functions(stack).values():
            assert function["LoggingConfig"]["LogFormat"] == "JSON"
            assert function["LoggingConfig"]["LogGroup"]["Ref"] in of_type(stack, "AWS::Logs::LogGroup")


def test_parameters_are_the_sections_of_the_desk(template, prod, desk):
    for stage, stack in (("dev", template), ("prod", prod)):
        parameters = {p["Name"]: p for p in properties(stack, "AWS::SSM::Parameter")}
        assert set(parameters) == {f"/tickless/{stage}/{section}" for section in desk.sections()}
        assert {p["Type"] for p in parameters.values()} == {"String"}
    values = {p["Name"].rsplit("/", 1)[1]: p["Value"] for p in properties(template, "AWS::SSM::Parameter")}
    assert values == desk.sections()
    assert json.loads(values["risk"])["kill_switch_drawdown_frac"] == 0.20


def test_an_override_reaches_its_parameter():
    stack = synthesize("rotation", "dev", overrides=["portfolio.tier1_cap_frac=0.07"])
    (value,) = [p["Value"] for p in properties(stack, "AWS::SSM::Parameter") if p["Name"] == "/tickless/dev/portfolio"]
    assert json.loads(value)["tier1_cap_frac"] == 0.07


def test_functions_know_their_table_bucket_and_topic(template):
    found = functions(template)
    assert sorted(found) == ["feature_rebalance", "full_rebalance", "retrain", "risk_check"]
    for name, function in found.items():
        variables = {key: text(value) for key, value in function["Environment"]["Variables"].items()}
        assert variables == {
            "TICKLESS_STAGE": "dev",
            "TICKLESS_TABLE": f"<{the(template, 'AWS::DynamoDB::Table')[0]}>",
            "TICKLESS_BUCKET": f"<{the(template, 'AWS::S3::Bucket')[0]}>",
            "TICKLESS_TOPIC_ARN": f"<{the(template, 'AWS::SNS::Topic')[0]}>",
            "POWERTOOLS_SERVICE_NAME": name,
            "POWERTOOLS_METRICS_NAMESPACE": "Tickless",
            "OMP_NUM_THREADS": "2" if name == "retrain" else "1",
            "OMP_WAIT_POLICY": "PASSIVE",
        }


def test_functions_run_on_python_3_13_and_carry_only_what_they_need(template):
    expected = {
        "risk_check": [CORE, MARKET],
        "feature_rebalance": [CORE, MARKET, INFERENCE],
        "full_rebalance": [CORE, MARKET, INFERENCE],
        "retrain": [CORE, MARKET, INFERENCE, TRAINING],
    }
    check(template, expected)


def test_a_scan_carries_a_model_library_only_where_it_may_have_to_run_a_rebalance(crossover, both):
    check(crossover, {"risk_check": [CORE, MARKET], "scan": [CORE, MARKET]})
    assert sorted(r["Properties"]["Description"] for r in of_type(crossover, "AWS::Lambda::LayerVersion").values()) == [
        "tickless: core",
        "tickless: market",
    ]
    layers = layers_of(functions(both)["scan"])
    assert layers == layers_of(functions(both)["full_rebalance"])
    assert [functions(stack)["scan"]["MemorySize"] for stack in (crossover, both)] == [1024, 1769]


def layers_of(function):
    return [layer["Ref"].rstrip("0123456789ABCDEF") for layer in function["Layers"]]


def check(template, expected):
    assert sorted(functions(template)) == sorted(expected)
    for name, function in functions(template).items():
        assert (function["Runtime"], function["Architectures"], function["Handler"]) == ("python3.13", ["x86_64"], "handler.handler")
        assert layers_of(function) == [layer.rstrip("ABCDEF") for layer in expected[name]]
    codes = [function["Code"]["S3Key"] for function in functions(template).values()]
    assert len(set(codes)) == len(codes)


def test_models_are_trained_no_more_at_once_than_is_reserved_where_the_account_can_reserve_it(template, prod):
    assert functions(prod)["retrain"]["ReservedConcurrentExecutions"] == 2
    assert definition(prod)["States"]["Each model"]["MaxConcurrency"] == 2
    assert [name for name, f in functions(template).items() if "ReservedConcurrentExecutions" in f] == []


def test_the_same_desk_makes_the_same_template(template):
    assert canonical(synthesize("rotation", "dev")) == canonical(template)


def test_cfn_lint_has_nothing_to_say(template, prod, crossover, both, on_sagemaker):
    for stack in (template, prod, crossover, both, on_sagemaker):
        found = lint(json.dumps(stack), config=ManualArgs(regions=["eu-central-1"]))
        assert [str(match) for match in found] == []


def test_an_unknown_stage_is_refused(tmp_path, capsys):
    with pytest.raises(SettingsError, match="stage 'staging': must be one of dev, prod"):
        synthesize("rotation", "staging")
    assert main(["--stage", "staging", "--out", str(tmp_path / "out")]) == 2
    assert "must be one of dev, prod" in capsys.readouterr().err


def test_a_live_desk_is_synthesized_only_where_that_is_said(tmp_path, capsys, monkeypatch):
    arguments = ["--set", "desk.mode=live", "--set", "desk.secret_name=desk/keys", "--out", str(tmp_path / "out")]
    assert main(arguments) == 3
    assert "rotation: desk.mode is 'live': dev would send real orders; say so with -c live=yes, or make LIVE=yes" in capsys.readouterr().err
    assert not (tmp_path / "out" / "tickless-dev.template.json").exists()
    monkeypatch.setattr("infra.app._synthesize", lambda *_, **__: {})
    monkeypatch.setattr("infra.app.App", lambda **options: App(**options, context={"live": "yes"}))
    assert main(arguments) == 0


def test_synthesis_needs_no_built_layer(tmp_path, capsys, monkeypatch):
    layers = tmp_path / "layers"
    shutil.copytree(LAYERS, layers, ignore=shutil.ignore_patterns("build", "build-*"))
    monkeypatch.setattr("infra.compute.LAYERS", layers)
    monkeypatch.setattr("infra.compute.is_built", lambda name: False)
    assert main(["--stage", "dev", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "tickless-dev.template.json").is_file()
    assert "layer core is not built: run `python layers/build.py` before you deploy" in capsys.readouterr().err


def test_a_live_desk_may_be_previewed_where_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("infra.app._synthesize", lambda *_, **__: {})
    live = ["--set", "desk.mode=live", "--set", "desk.secret_name=desk/keys", "--out", str(tmp_path / "out")]
    assert main([*live, "--live", "yes"]) == 0


def live_desk(folder):
    text, _ = read_desk("rotation")
    path = folder / "mine.toml"
    path.write_text(text.replace('mode = "dry_run"', 'mode = "live"').replace('secret_name = ""', 'secret_name = "desk/keys"'))
    return path


def make(root, *words):
    """What make would run."""
    return subprocess.run(
        ["make", "-s", "-n", *words], cwd=root, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()


def test_make_asks_whether_a_deploy_is_meant_before_it_builds_and_previews_ones_own_desk(root, tmp_path):
    desk = live_desk(tmp_path)
    assert intent(["--desk", str(desk), "--live", "yes"]) == 0
    words = (f"DESK={desk}", "STAGE=prod", "LIVE=no")
    asked = '--stage "${STAGE:-dev}" --desk "${DESK:-rotation}" --live "${LIVE:-no}"'
    assert make(root, "synth", *words)[-1].endswith(f"infra.app {asked}")
    steps = make(root, "deploy", *words)[-3:]
    assert steps[0].endswith(asked)
    assert [name for step, name in zip(steps, ("infra.intent", "layers/build.py", "infra.cdk"), strict=True) if name not in step] == []


def test_a_deploy_that_is_not_meant_is_refused_in_one_sentence(tmp_path, capsys):
    desk = live_desk(tmp_path)
    assert intent(["--desk", str(desk), "--stage", "prod"]) == 3
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence == f"{desk}: desk.mode is 'live': prod would send real orders; say so with -c live=yes, or make LIVE=yes"
    assert intent(["--desk", "nowhere.toml"]) == 2
    assert intent(["--stage", "staging"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
