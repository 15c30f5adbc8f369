"""Who may read and write what."""

import pytest
from aws_cdk import App
from stack_reading import as_list, functions, may, of_type, properties, schedules, statements, text, the

from infra.settings import stage_settings
from infra.stack import DeskStack

TRADING = ("risk_check", "feature_rebalance", "full_rebalance")
ALL = (*TRADING, "retrain")


def objects(template, prefix):
    return f"<{the(template, 'AWS::S3::Bucket')[0]}.Arn>/{prefix}/x"


@pytest.mark.parametrize(
    ("prefix", "readers", "writers"),
    [
        ("bars", ALL, ALL),
        ("models", ("feature_rebalance", "full_rebalance", "retrain"), ("retrain",)),
        ("trace", ALL, TRADING),  # A tick that is resumed reads what its first attempt wrote.
        ("experience", ("retrain",), ("retrain",)),
        ("training", ("retrain",), ("retrain",)),
        ("anything", (), ()),
    ],
)
def test_each_part_of_the_bucket_is_open_to_exactly_those_who_need_it(template, prefix, readers, writers):
    place = objects(template, prefix)
    assert tuple(f for f in ALL if may(template, f, "s3:GetObject", place)) == readers
    assert tuple(f for f in ALL if may(template, f, "s3:PutObject", place)) == writers


@pytest.mark.parametrize(("stack", "reads"), [("crossover", {"bars", "trace"}), ("both", {"bars", "models", "trace"})])
def test_a_scan_reads_models_only_where_it_may_have_to_run_a_rebalance(request, stack, reads):
    template = request.getfixturevalue(stack)
    prefixes = ("bars", "models", "trace", "anything")
    assert {p for p in prefixes if may(template, "scan", "s3:GetObject", objects(template, p))} == reads
    assert {p for p in prefixes if may(template, "scan", "s3:PutObject", objects(template, p))} == {"bars", "trace"}
    table = f"<{the(template, 'AWS::DynamoDB::Table')[0]}.Arn>"
    for action in ("GetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "ConditionCheckItem"):
        assert may(template, "scan", f"dynamodb:{action}", table)
    assert not may(template, "scan", "dynamodb:Scan", table)


def test_nobody_overwrites_history_and_only_retraining_deletes_old_models(template):
    for prefix in ("bars", "models", "trace", "experience", "training"):
        for action in ("s3:DeleteObjectVersion", "s3:PutObjectAcl"):
            assert not any(may(template, f, action, objects(template, prefix)) for f in ALL)
        # The bucket keeps versions: what is deleted so can be had back for a while.
        deleters = tuple(f for f in ALL if may(template, f, "s3:DeleteObject", objects(template, prefix)))
        assert deleters == (("retrain",) if prefix == "models" else ())


def test_listing_is_limited_to_the_prefixes_a_function_reads(template):
    for name, expected in {
        "risk_check": ["bars/*", "trace/*"],
        "retrain": ["bars/*", "models/*", "trace/*", "experience/*", "training/*"],
    }.items():
        (listing,) = [s for s in statements(template, functions(template)[name]["Role"]) if "s3:ListBucket" in as_list(s["Action"])]
        assert listing["Condition"] == {"StringLikeIfExists": {"s3:prefix": expected}}


def test_retraining_cannot_change_the_trading_state(template):
    table = f"<{the(template, 'AWS::DynamoDB::Table')[0]}.Arn>"
    for action in ("dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"):
        assert [f for f in ALL if may(template, f, action, table)] == list(TRADING)
    for action in ("dynamodb:GetItem", "dynamodb:Query", "dynamodb:PutItem"):
        assert [f for f in ALL if may(template, f, action, table)] == list(ALL)
    (ledger,) = [s for s in statements(template, functions(template)["retrain"]["Role"]) if s.get("Sid") == "Ledger"]
    assert ledger["Condition"] == {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["DESK"]}}


def test_nobody_reads_a_whole_table_or_alters_it(template):
    table = f"<{the(template, 'AWS::DynamoDB::Table')[0]}.Arn>"
    for action in ("dynamodb:Scan", "dynamodb:DeleteTable", "dynamodb:UpdateTable", "dynamodb:BatchWriteItem"):
        assert not any(may(template, f, action, table) for f in ALL)


def test_parameters_are_read_only_and_only_the_desks_own(template):
    own = "arn:<AWS::Partition>:ssm:<AWS::Region>:<AWS::AccountId>:parameter/tickless/dev"
    for name in ALL:
        assert may(template, name, "ssm:GetParametersByPath", own)
        assert not may(template, name, "ssm:GetParametersByPath", own.replace("/dev", "/prod"))
        assert not may(template, name, "ssm:PutParameter", f"{own}/risk")


def test_each_function_writes_its_own_log_only(template):
    groups = {
        p["LogGroupName"].rsplit("/", 1)[1]: name
        for name, p in ((n, r["Properties"]) for n, r in of_type(template, "AWS::Logs::LogGroup").items())
    }
    for name in ALL:
        assert [g for g, logical in groups.items() if may(template, name, "logs:PutLogEvents", f"<{logical}.Arn>")] == [name]


KNOW_NO_RESOURCE = {
    *(f"logs:{what}LogDelivery" for what in ("Create", "Get", "Update", "Delete")),
    *("logs:ListLogDeliveries", "logs:PutResourcePolicy", "logs:DescribeResourcePolicies", "logs:DescribeLogGroups"),
    *("ecr:GetAuthorizationToken", "cloudwatch:PutMetricData"),
}
"""Calls that AWS authorizes for every resource or none."""


@pytest.mark.parametrize("stack", ["template", "on_sagemaker"])
def test_no_policy_allows_every_action_or_every_resource(request, stack):
    found = properties(request.getfixturevalue(stack), "AWS::IAM::Policy")
    allowed = [s for p in found for s in p["PolicyDocument"]["Statement"] if s["Effect"] == "Allow"]
    assert allowed
    for statement in allowed:
        assert not [a for a in as_list(statement["Action"]) if "*" in a], statement
        resources = [text(r) for r in as_list(statement["Resource"])]
        everything = [r for r in resources if r == "*" or r.endswith(":*")]
        assert not everything or set(as_list(statement["Action"])) <= KNOW_NO_RESOURCE, statement
        assert "NotAction" not in statement
        assert "NotResource" not in statement


@pytest.mark.parametrize("stack", ["template", "both"])
def test_each_schedule_may_wake_its_own_target_and_nothing_else(request, stack):
    template = request.getfixturevalue(stack)
    for name, found in schedules(template).items():
        for schedule in found:
            rights = {
                (a, text(r))
                for s in statements(template, schedule["Target"]["RoleArn"])
                for a in as_list(s["Action"])
                for r in as_list(s["Resource"])
            }
            queue = text(schedule["Target"]["DeadLetterConfig"]["Arn"])
            wake = "states:StartExecution" if name == "retrain" else "lambda:InvokeFunction"
            assert rights == {(wake, text(schedule["Target"]["Arn"])), ("sqs:SendMessage", queue)}, name


def test_only_this_desks_schedules_may_take_the_scheduler_roles(template):
    group = the(template, "AWS::Scheduler::ScheduleGroup")[0]
    for found in schedules(template).values():
        role = template["Resources"][found[0]["Target"]["RoleArn"]["Fn::GetAtt"][0]]["Properties"]
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "scheduler.amazonaws.com"}
        assert text(trust["Condition"]["StringEquals"]["aws:SourceArn"]) == f"<{group}.Arn>"
        assert text(trust["Condition"]["StringEquals"]["aws:SourceAccount"]) == "<AWS::AccountId>"


KEYS = ("secretsmanager:GetSecretValue", "ssm:GetParameter")
SECRET, PARAMETER = (f"arn:<AWS::Partition>:{kind}" for kind in ("secretsmanager:{}:secret:{}", "ssm:{}:parameter{}"))
HERE = "<AWS::Region>:<AWS::AccountId>"


def live_template(desk, name):
    """The built-in desk with an account; a desk file cannot say so yet."""
    account = desk.desk.model_copy(update={"mode": "live", "secret_name": name})
    app = App(analytics_reporting=False, context={"aws:cdk:disable-asset-staging": True})
    stack = DeskStack(app, stage=stage_settings("dev"), settings=desk.model_copy(update={"desk": account}), built_layers=False)
    return app.synth().get_stack_by_name(stack.stack_name).template


def test_a_dry_run_reads_no_secret(template, both):
    for stack in (template, both):
        found = {a for p in properties(stack, "AWS::IAM::Policy") for s in p["PolicyDocument"]["Statement"] for a in as_list(s["Action"])}
        assert not [action for action in found if action in KEYS or action.startswith(("secretsmanager:", "kms:"))]


@pytest.mark.parametrize(
    ("name", "action", "own", "other"),
    [
        ("desk/keys", KEYS[0], SECRET.format(HERE, "desk/keys-a1B2c3"), SECRET.format(HERE, "desk/keys-of-another-a1B2c3")),
        ("/desk/keys", KEYS[1], PARAMETER.format(HERE, "/desk/keys"), PARAMETER.format(HERE, "/desk/keys/2")),
        (
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys-a1B2c3",
            KEYS[0],
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys-a1B2c3",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:keys-a1B2c4",
        ),
    ],
)
def test_a_live_desk_s_trading_functions_read_the_one_secret_that_it_names(desk, name, action, own, other):
    template = live_template(desk, name)
    assert tuple(f for f in ALL if may(template, f, action, own)) == TRADING
    for key in KEYS:
        assert not any(may(template, f, key, other) for f in ALL)
        assert not any(may(template, f, key, own) for f in ALL if key != action)
    (granted,) = {
        (a, text(r))
        for f in TRADING
        for s in statements(template, functions(template)[f]["Role"])
        if s.get("Sid") == "Keys"
        for a in as_list(s["Action"])
        for r in as_list(s["Resource"])
    }
    assert granted[0] == action


def test_no_two_functions_share_a_role(template):
    roles = [text(p["Role"]) for p in functions(template).values()]
    assert len(set(roles)) == len(ALL)
