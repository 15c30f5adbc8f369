"""The stack on moto, and what happens around a handler."""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tickless.errors import InputError, TicklessError
from tickless.localcloud import LocalCloud, load_assembly


def messages(cloud: LocalCloud, queue: str) -> list[dict[str, Any]]:
    found = cloud.client("sqs").receive_message(QueueUrl=cloud.names[queue], MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    return found.get("Messages", [])


def test_every_resource_of_the_template_exists(cloud, template):
    assert set(cloud.names) == set(template["Resources"])
    table = boto3.client("dynamodb").describe_table(TableName=cloud.names["Table"])["Table"]
    assert table["TableStatus"] == "ACTIVE"
    alarm = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"][0]
    assert alarm["AlarmActions"] == [cloud.names["Topic"]]
    assert alarm["Dimensions"] == [{"Name": "FunctionName", "Value": "tickless-dev-risk_check"}]
    subscriptions = boto3.client("sns").list_subscriptions_by_topic(TopicArn=cloud.names["Topic"])["Subscriptions"]
    assert [subscription["Endpoint"] for subscription in subscriptions] == ["a@example.com"]
    assert "SecureTransport" in boto3.client("s3").get_bucket_policy(Bucket=cloud.names["Bucket"])["Policy"]
    assert boto3.client("ssm").get_parameter(Name="/tickless/dev/risk")["Parameter"]["Value"] == "{}"


def test_a_type_nobody_can_create_is_refused(template, functions_dir):
    template["Resources"]["Lake"] = {"Type": "AWS::LakeFormation::Resource", "Properties": {}}
    with (
        pytest.raises(TicklessError, match=r"resource Lake: the local cloud cannot create AWS::LakeFormation::Resource"),
        LocalCloud(template, stage="dev", functions_dir=functions_dir),
    ):
        pass


def test_the_cdks_usage_counter_may_be_missing(template, functions_dir):
    template["Resources"]["CDKMetadata"] = {"Type": "AWS::CDK::Metadata", "Properties": {"Analytics": "v2"}}
    with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud:
        assert "CDKMetadata" not in cloud.names


def test_names_are_the_same_in_every_run(template, functions_dir):
    found = []
    for _ in range(2):
        with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud:
            found.append(dict(cloud.names))
    assert found[0] == found[1]


def test_environment_and_output_come_back(template, functions_dir, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "real")
    monkeypatch.delenv("TICKLESS_TABLE", raising=False)
    before, output = dict(os.environ), sys.stdout
    with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud:
        assert "AWS_PROFILE" not in os.environ
        assert os.environ["AWS_ACCESS_KEY_ID"] == "testing"
        inside = dict(os.environ)
        cloud.invoke("risk_check", {})
        assert dict(os.environ) == inside
        assert sys.stdout is output
    assert dict(os.environ) == before


def test_environment_comes_back_when_the_stack_fails(template, functions_dir):
    before = dict(os.environ)
    del template["Resources"]["Topic"]
    with pytest.raises(Exception, match="Topic"), LocalCloud(template, stage="dev", functions_dir=functions_dir):
        pass
    assert dict(os.environ) == before


def test_invoke_runs_the_handler_with_the_stacks_environment(cloud):
    result = cloud.invoke("risk_check", {"scheduled_time": "2024-06-01T00:00:00Z"})
    assert result.error is None
    assert result.payload["function"] == "tickless-dev-risk_check"
    assert result.payload["service"] == "risk_check"
    assert result.payload["memory"] == 512
    assert 50_000 < result.payload["left"] <= 60_000
    items = boto3.client("dynamodb").scan(TableName=cloud.names["Table"])["Items"]
    assert [json.loads(item["event"]["S"]) for item in items] == [{"scheduled_time": "2024-06-01T00:00:00Z"}]


def test_names_and_arns_reach_the_same_function(cloud):
    arn = "arn:aws:lambda:us-east-1:123456789012:function:tickless-dev-risk_check"
    calls = [cloud.invoke(name, {}).payload["calls"] for name in ("risk_check", "tickless-dev-risk_check", arn, f"{arn}:live")]
    assert calls == [1, 2, 3, 4]
    with pytest.raises(InputError, match=r"function 'scan': unknown; known: risk_check, full_rebalance"):
        cloud.invoke("scan", {})


def test_warm_start_keeps_the_module_and_a_cold_one_does_not(cloud):
    assert [cloud.invoke("risk_check", {}).payload["calls"] for _ in range(2)] == [1, 2]
    assert cloud.invoke("risk_check", {}, cold=True).payload["calls"] == 1


def test_changed_environment_is_seen_at_the_next_invocation(cloud):
    variables = dict(cloud.configuration("tickless-dev-risk_check").environment) | {
        "POWERTOOLS_SERVICE_NAME": "risk_check",
        "TICKLESS_TABLE": "none",
    }
    cloud.client("lambda").update_function_configuration(FunctionName="tickless-dev-risk_check", Environment={"Variables": variables})
    result = cloud.invoke("risk_check", {})
    assert result.error is not None
    assert result.error.type == "ResourceNotFoundException"


def test_log_lines_and_metrics_are_captured(cloud, capsys):
    result = cloud.invoke("risk_check", {})
    assert json.loads(result.logs[0]) == {"level": "INFO", "message": "woken", "request": result.request_id}
    assert len(result.logs) == 2
    assert (result.metric("TickDone"), result.metric("Equity"), result.metric("Halted")) == (2.0, 5.0, None)
    assert result.metrics[0].dimensions == {"service": "tickless-dev-risk_check"}
    cloud.invoke("full_rebalance", {})
    assert cloud.metric_totals == {"TickDone": 4.0, "Equity": 10.0}
    assert cloud.metric_latest == {"TickDone": 1.0, "Equity": 5.0}
    assert capsys.readouterr().out == ""


POWERTOOLS = """
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

logger = Logger()
metrics = Metrics(namespace="Tickless")

@metrics.log_metrics
@logger.inject_lambda_context
def handler(event, context):
    logger.info("woken", tick="now")
    metrics.add_metric(name="TickDone", unit=MetricUnit.Count, value=1)
"""


def test_powertools_writes_where_we_read_in_every_cloud(template, functions_dir):
    (functions_dir / "risk_check" / "handler.py").write_text(POWERTOOLS)
    for _ in range(2):
        with LocalCloud(template, stage="dev", functions_dir=functions_dir) as cloud:
            for _ in range(2):
                result = cloud.invoke("risk_check", {})
                line = json.loads(result.logs[0])
                assert (line["message"], line["service"], line["function_request_id"]) == ("woken", "risk_check", result.request_id)
                assert result.metric("TickDone") == 1.0
            assert cloud.metric_totals == {"TickDone": 2.0}


def test_metrics_reach_cloudwatch_when_asked(template, functions_dir):
    with LocalCloud(template, stage="dev", functions_dir=functions_dir, publish_metrics=True) as cloud:
        cloud.invoke("risk_check", {})
        names = {metric["MetricName"] for metric in boto3.client("cloudwatch").list_metrics(Namespace="Tickless")["Metrics"]}
    assert names == {"TickDone", "Equity"}


def test_the_wiring_surrounds_every_invocation(template, functions_dir):
    wired: list[str] = []

    @contextmanager
    def wiring():
        wired.append("in")
        yield
        wired.append("out")

    with LocalCloud(template, stage="dev", functions_dir=functions_dir, wiring=wiring) as cloud:
        cloud.invoke("risk_check", {})
        boto3.client("lambda").invoke(FunctionName="tickless-dev-full_rebalance", Payload=b'{"fail_until": 1}')
    assert wired == ["in", "out", "in", "out"]


def test_a_bucket_policy_on_tls_keeps_nobody_out_and_another_does(cloud):
    client, bucket = boto3.client("s3"), cloud.names["Bucket"]
    client.put_object(Bucket=bucket, Key="a", Body=b"1")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [deny]}))
    with pytest.raises(ClientError, match="403"):
        client.put_object(Bucket=bucket, Key="a", Body=b"2")
    assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"1"


@pytest.mark.parametrize(
    ("event", "kind"), [({"fail_until": 9}, "ValueError"), ({"bad": "answer"}, "TypeError"), ({"leave": True}, "SystemExit")]
)
def test_what_leaves_a_handler_is_its_error(cloud, event, kind):
    result = cloud.invoke("risk_check", event)
    assert result.error is not None
    assert result.error.type == kind
    assert result.payload["errorType"] == kind
    assert result.payload["errorMessage"] == result.error.message
    assert result.metric("TickDone") == 2.0


def test_broken_code_is_the_functions_error_and_missing_code_ours(cloud, functions_dir):
    (functions_dir / "risk_check" / "handler.py").write_text("import nothing_of_this_name\n")
    result = cloud.invoke("risk_check", {})
    assert result.error is not None
    assert result.error.type == "ModuleNotFoundError"
    (functions_dir / "full_rebalance" / "handler.py").unlink()
    with pytest.raises(InputError, match=r"full_rebalance/handler.py does not exist"):
        cloud.invoke("full_rebalance", {})


def test_boto3_invoke_reaches_the_handler(cloud):
    client = boto3.client("lambda")
    answer = client.invoke(FunctionName="tickless-dev-risk_check", Payload=b'{"a": 1}', LogType="Tail")
    assert answer["StatusCode"] == 200
    assert "FunctionError" not in answer
    assert json.load(answer["Payload"])["calls"] == 1
    assert "LogResult" in answer
    assert client.invoke(FunctionName="tickless-dev-risk_check", InvocationType="DryRun")["StatusCode"] == 204
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.invoke(FunctionName="tickless-dev-scan", Payload=b"{}")


def test_boto3_invoke_reports_the_handlers_exception(cloud):
    answer = boto3.client("lambda").invoke(FunctionName="tickless-dev-risk_check", Payload=b'{"fail_until": 1}')
    assert answer["FunctionError"] == "Unhandled"
    payload = json.load(answer["Payload"])
    assert (payload["errorType"], payload["errorMessage"]) == ("ValueError", "no luck, call 1")
    assert "handler" in payload["stackTrace"][-1]


def test_asynchronous_failures_are_retried_and_end_in_both_queues(cloud):
    client = boto3.client("lambda")
    answer = client.invoke(FunctionName="tickless-dev-risk_check", InvocationType="Event", Payload=b'{"fail_until": 1}')
    assert answer["StatusCode"] == 202
    assert messages(cloud, "Dead") == []
    client.invoke(FunctionName="tickless-dev-risk_check", InvocationType="Event", Payload=b'{"fail_until": 99}')
    (dead,) = messages(cloud, "Dead")
    assert json.loads(dead["Body"]) == {"fail_until": 99}
    assert dead["MessageAttributes"]["ErrorMessage"]["StringValue"] == "no luck, call 4"
    (failed,) = messages(cloud, "Failed")
    record = json.loads(failed["Body"])
    assert record["requestPayload"] == {"fail_until": 99}
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_transaction_that_fails_leaves_the_table_as_it_was(cloud):
    client, table = boto3.client("dynamodb"), cloud.names["Table"]
    old = {"pk": {"S": "DESK"}, "sk": {"S": "A"}, "n": {"N": "1"}}
    client.put_item(TableName=table, Item=old)
    new = {"pk": {"S": "DESK"}, "sk": {"S": "B"}}
    update = {
        "TableName": table, "Key": {"pk": {"S": "DESK"}, "sk": {"S": "A"}}, "UpdateExpression": "SET n = :two",
        "ExpressionAttributeValues": {":two": {"N": "2"}},
    }  # fmt: skip
    check = {"TableName": table, "Key": {"pk": {"S": "DESK"}, "sk": {"S": "C"}}, "ConditionExpression": "attribute_exists(pk)"}
    with pytest.raises(ClientError, match="TransactionCanceled"):
        client.transact_write_items(
            TransactItems=[{"Update": update}, {"Put": {"TableName": table, "Item": new}}, {"ConditionCheck": check}]
        )
    assert client.scan(TableName=table)["Items"] == [old]
    client.transact_write_items(TransactItems=[{"Update": update}, {"Put": {"TableName": table, "Item": new}}])
    assert client.scan(TableName=table)["Items"] == [old | {"n": {"N": "2"}}, new]


def test_queries_answer_as_moto_does(cloud):
    client, table = boto3.client("dynamodb"), cloud.names["Table"]
    for number in range(30):
        for pk in ("DESK", "SIM"):
            body = {
                "pk": {"S": pk},
                "sk": {"S": f"LOG#{number:02d}"},
                "raw": {"B": b"\x00\xff"},
                "none": {"NULL": True},
                "list": {"L": [{"N": "1"}]},
            }
            client.put_item(TableName=table, Item=body)

    def query(condition: str, **values: str) -> list[str]:
        attributes = {":pk": {"S": "DESK"}} | {f":{name}": {"S": value} for name, value in values.items()}
        pages = client.get_paginator("query").paginate(
            TableName=table, KeyConditionExpression=f"pk = :pk{condition}", ExpressionAttributeValues=attributes, Limit=4
        )
        return [item["sk"]["S"] for page in pages for item in page["Items"]]

    every = [f"LOG#{number:02d}" for number in range(30)]
    assert query("") == every
    assert query(" AND begins_with(sk, :p)", p="LOG#1") == every[10:20]
    assert query(" AND sk BETWEEN :a AND :b", a="LOG#05", b="LOG#07") == every[5:8]
    assert query(" AND sk > :a", a="LOG#27") == every[28:]
    item = client.get_item(TableName=table, Key={"pk": {"S": "SIM"}, "sk": {"S": "LOG#00"}})["Item"]
    assert (item["raw"]["B"], item["none"], item["list"]) == (b"\x00\xff", {"NULL": True}, {"L": [{"N": "1"}]})
    assert "Item" not in client.get_item(TableName=table, Key={"pk": {"S": "SIM"}, "sk": {"S": "x"}})


def test_conditional_writes_are_atomic_under_threads(cloud):
    table = cloud.names["Table"]
    client = boto3.client("dynamodb")
    won: list[int] = []
    interval = sys.getswitchinterval()

    def claim(worker: int) -> None:
        for number in range(15):
            entry = {"pk": {"S": "RACE"}, "sk": {"S": f"{number}"}}
            mark = {"pk": {"S": f"BY{worker}"}, "sk": {"S": f"{number}"}}
            puts = [
                {"Put": {"TableName": table, "Item": entry, "ConditionExpression": "attribute_not_exists(pk)"}},
                {"Put": {"TableName": table, "Item": mark}},
            ]
            try:
                client.transact_write_items(TransactItems=puts)
                won.append(worker)
            except ClientError:
                continue

    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=claim, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    finally:
        sys.setswitchinterval(interval)
    marks = [item for item in client.scan(TableName=table)["Items"] if item["pk"]["S"].startswith("BY")]
    assert len(won) == len(marks) == 15


def test_overwritten_objects_are_forgotten(cloud):
    from moto.s3.models import FakeKey

    client = boto3.client("s3")
    for _ in range(3):
        client.put_object(Bucket=cloud.names["Bucket"], Key="bars", Body=b"x" * 1000)
    assert len(FakeKey.instances_tracked) == 0
    assert client.get_object(Bucket=cloud.names["Bucket"], Key="bars")["Body"].read() == b"x" * 1000


def test_load_assembly_reads_the_one_stack(tmp_path: Path):
    stack = {"type": "aws:cloudformation:stack", "properties": {"templateFile": "t.json", "stackName": "tickless-dev"}}
    (tmp_path / "t.json").write_text('{"Resources": {}}')
    (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": {"Desk": stack, "Tree": {"type": "cdk:tree"}}}))
    assembly = load_assembly(tmp_path)
    assert (assembly.stack_name, assembly.template) == ("tickless-dev", {"Resources": {}})


@pytest.mark.parametrize(
    ("text", "message"), [(None, "not the manifest"), ("{", "not the manifest"), ('{"artifacts": {}}', "0 stacks, must be one")]
)
def test_load_assembly_refuses(tmp_path: Path, text, message):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_assembly(tmp_path)
