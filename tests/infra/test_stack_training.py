"""The nightly state machine: its definition, its rights, and those of SageMaker's training jobs."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

import pytest
from cfnlint import lint
from cfnlint.config import ManualArgs
from stack_reading import IMAGE, alarms, as_list, definition, dimensions, functions, of_type, statements, text, the

from infra.app import synthesize
from infra.training_machine import MACHINE_TIMEOUT_S, MODELS_AT_ONCE
from tickless.errors import SettingsError
from tickless.runs.training_steps import CLAIM_H, STEPS
from tickless.settings import TrainingSection

MACHINE = "AWS::StepFunctions::StateMachine"
JOBS = "arn:<AWS::Partition>:sagemaker:<AWS::Region>:<AWS::AccountId>:training-job/tickless-dev-"


def machine_role(template):
    return the(template, MACHINE)[1]["Properties"]["RoleArn"]


def rights(template, role):
    """(action, resource, conditions) of every right of a role."""
    return {
        (action, text(resource), json.dumps(s.get("Condition", {}), sort_keys=True))
        for s in statements(template, role)
        for action in as_list(s["Action"])
        for resource in as_list(s["Resource"])
    }


def states(template):
    """Every state by name, those of the map too."""
    outer = definition(template)["States"]
    return outer | outer["Each model"]["ItemProcessor"]["States"]


def job_role(template):
    name, _ = the(template, "AWS::IAM::Role", "JobRole")
    return {"Fn::GetAtt": [name, "Arn"]}


def job_may(template, action, resource):
    found = rights(template, job_role(template))
    return any(action == a and fnmatchcase(resource, pattern) for a, pattern, _ in found)


@pytest.mark.parametrize("stack", ["template", "prod", "on_sagemaker"])
def test_every_step_is_asked_of_retrain_by_the_tick_s_time_within_a_time_with_retries(request, stack):
    template = request.getfixturevalue(stack)
    (logical,) = [n for n, r in of_type(template, "AWS::Lambda::Function").items() if r["Properties"] == functions(template)["retrain"]]
    tasks = [s for s in states(template).values() if s["Type"] == "Task" and s["Resource"].endswith("lambda:invoke")]
    assert {task["Parameters"]["Payload"]["step"] for task in tasks} == set(STEPS)
    for task in tasks:
        assert task["Parameters"]["FunctionName"] == f"<{logical}.Arn>"
        assert task["Parameters"]["Payload"]["scheduled_time.$"] == "$.scheduled_time"
        assert task["TimeoutSeconds"] > functions(template)["retrain"]["Timeout"]
        retried = {name: retrier["MaxAttempts"] for retrier in task["Retry"] for name in retrier["ErrorEquals"]}
        assert retried["Lambda.TooManyRequestsException"] == retried["RetryableError"] == 4
        assert not {"LeakError", "ArtifactError", "TrainingError", "States.ALL"} & set(retried)


def test_what_fails_in_a_model_s_branch_is_caught_and_elsewhere_it_is_not(on_sagemaker):
    outer = definition(on_sagemaker)["States"]
    inner = outer["Each model"]["ItemProcessor"]["States"]
    for name, state in inner.items():
        if state["Type"] == "Task":
            assert state["Catch"] == [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Failed"}], name
    assert not [name for name, state in outer.items() if "Catch" in state]


def test_an_execution_ends_before_another_may_take_its_night(template):
    assert definition(template)["TimeoutSeconds"] == MACHINE_TIMEOUT_S < CLAIM_H * 3600
    longest = TrainingSection.model_fields["max_runtime_s"].metadata
    job = states(synthesize("rotation", "dev", overrides=on(f"training.max_runtime_s={max(m.le for m in longest if hasattr(m, 'le'))}")))
    attempt = job["Train on SageMaker"]["TimeoutSeconds"]
    attempts = 1 + job["Train on SageMaker"]["Retry"][0]["MaxAttempts"]
    assert attempts * attempt + 3600 <= MACHINE_TIMEOUT_S


def on(*overrides):
    return ["training.runs_on=sagemaker", f"training.image={IMAGE}", *overrides]


@pytest.mark.parametrize("stack", ["template", "on_sagemaker"])
def test_the_definition_is_valid_amazon_states_language(request, stack):
    content = definition(request.getfixturevalue(stack))
    plain = json.dumps(content).replace("<", "arn:aws:").replace(">", ":x")
    properties = {"RoleArn": "arn:aws:iam::123456789012:role/r", "DefinitionString": plain, "StateMachineName": "n"}
    resource = {"Type": MACHINE, "Properties": properties}
    found = lint(json.dumps({"Resources": {"Machine": resource}}), config=ManualArgs(regions=["eu-central-1"]))
    assert [str(match) for match in found] == []


def test_without_sagemaker_the_machine_may_invoke_retrain_and_write_its_log_and_nothing_else(template):
    arn = states(template)["Prepare"]["Parameters"]["FunctionName"]
    found = rights(template, machine_role(template))
    assert {(a, r) for a, r, _ in found if not a.startswith("logs:")} == {("lambda:InvokeFunction", arn)}
    assert not [name for name in of_type(template, "AWS::IAM::Role") if "JobRole" in name]


def test_a_desk_that_asks_for_sagemaker_without_being_deployed_for_it_reports_its_models_as_failed(template):
    state = states(template)["Train on SageMaker"]
    assert (state["Type"], state["Next"]) == ("Pass", "Failed")
    assert "deploy it again" in state["Result"]["Cause"]


def test_with_sagemaker_it_may_also_run_the_desk_s_own_jobs_and_hand_their_role_to_sagemaker_alone(template, on_sagemaker):
    role = text(job_role(on_sagemaker))
    new = {right for right in rights(on_sagemaker, machine_role(on_sagemaker)) if not right[0].startswith(("logs:", "lambda:"))}
    passed = json.dumps({"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}})
    assert {right for right in new if right[0] == "iam:PassRole"} == {("iam:PassRole", role, passed)}
    jobs = {(a, r) for a, r, _ in new if a.startswith("sagemaker:")}
    assert jobs == {
        (f"sagemaker:{what}", f"{JOBS}*") for what in ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "AddTags")
    }
    rule = "rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule"
    assert {a for a, r, _ in new if a.startswith("events:") and r.endswith(rule)} == {
        f"events:{w}" for w in ("PutTargets", "PutRule", "DescribeRule")
    }
    assert {a.partition(":")[0] for a, _, _ in new} == {"iam", "sagemaker", "events"}


def test_a_job_reads_what_it_was_given_and_writes_what_it_made(on_sagemaker):
    bucket = the(on_sagemaker, "AWS::S3::Bucket")[0]
    place = f"<{bucket}.Arn>/"
    assert job_may(on_sagemaker, "s3:GetObject", f"{place}training/20240603T0210Z/bars/panel.npz")
    assert job_may(on_sagemaker, "s3:PutObject", f"{place}training/20240603T0210Z/rotation_6h/output/job/output/model.tar.gz")
    for kind in ("bars", "models", "trace"):
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            assert not job_may(on_sagemaker, action, f"{place}{kind}/x")
    for name in ("claim.json", "bars/panel.npz", "rotation_6h/job/job.json"):
        assert not job_may(on_sagemaker, "s3:PutObject", f"{place}training/20240603T0210Z/{name}")
    services = {action.partition(":")[0] for action, _, _ in rights(on_sagemaker, job_role(on_sagemaker))}
    assert services == {"s3", "logs", "cloudwatch", "ecr"}
    assert job_may(on_sagemaker, "ecr:BatchGetImage", "arn:<AWS::Partition>:ecr:eu-central-1:123456789012:repository/desk/training")


def test_only_step_functions_and_sagemaker_of_this_account_take_the_new_roles(on_sagemaker):
    for hint, service in (("MachineRole", "states"), ("JobRole", "sagemaker")):
        _, role = the(on_sagemaker, "AWS::IAM::Role", hint)
        (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert text(trust["Condition"]["StringEquals"]["aws:SourceAccount"]) == "<AWS::AccountId>"


def test_the_settings_say_what_a_job_runs_on(on_sagemaker):
    job = states(on_sagemaker)["Train on SageMaker"]["Parameters"]
    assert job["AlgorithmSpecification"] == {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
    assert job["ResourceConfig"]["InstanceType"] == "ml.m5.large"
    assert job["EnableManagedSpotTraining"] is True
    assert job["EnableNetworkIsolation"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert "CheckpointConfig" not in job
    changes = on("training.instance_type=ml.c7i.xlarge", "training.spot=false", "training.max_runtime_s=600")
    other = states(synthesize("rotation", "dev", overrides=changes))["Train on SageMaker"]["Parameters"]
    assert other["ResourceConfig"]["InstanceType"] == "ml.c7i.xlarge"
    assert (other["EnableManagedSpotTraining"], other["StoppingCondition"]) == (False, {"MaxRuntimeInSeconds": 600})


def test_sagemaker_without_an_image_is_refused():
    with pytest.raises(SettingsError, match=r"training.*image: missing; runs_on = 'sagemaker' needs the URI of a container image"):
        synthesize("rotation", "dev", overrides=["training.runs_on=sagemaker"])


def test_the_machine_s_log_is_kept_as_long_as_the_functions(template, prod):
    for stack, days in ((template, 14), (prod, 365)):
        name, group = the(stack, "AWS::Logs::LogGroup", "MachineLogs")
        assert group["Properties"]["LogGroupName"].startswith("/aws/vendedlogs/states/tickless-")
        assert group["Properties"]["RetentionInDays"] == days
        logging = the(stack, MACHINE)[1]["Properties"]["LoggingConfiguration"]
        assert text(logging["Destinations"][0]["CloudWatchLogsLogGroup"]["LogGroupArn"]) == f"<{name}.Arn>"
        assert logging["Level"] == "ERROR"


def test_a_failed_machine_and_a_failed_model_ring(template):
    machine, _ = the(template, MACHINE)
    for end in ("Failed", "TimedOut", "Aborted"):
        alarm = alarms(template)[f"RetrainMachine{end}"]
        assert (alarm["Namespace"], alarm["MetricName"]) == ("AWS/States", f"Executions{end}")
        assert dimensions(alarm) == {"StateMachineArn": f"<{machine}>"}
        assert (alarm["Statistic"], alarm["Threshold"], alarm["TreatMissingData"]) == ("Sum", 1, "notBreaching")
    for name, metric in {"ModelFailed": "TrainingFailed", "ModelDrifted": "ModelDrifted", "ModelRolledBack": "ModelRolledBack"}.items():
        model = alarms(template)[f"Retrain{name}"]
        assert (model["MetricName"], dimensions(model)) == (metric, {"service": "retrain", "stage": "dev"})


def test_a_desk_without_models_has_no_machine(crossover):
    assert of_type(crossover, MACHINE) == {}
    assert not [name for name in alarms(crossover) if "Machine" in name or "ModelFailed" in name]


def test_no_more_models_at_once_than_two(template):
    assert definition(template)["States"]["Each model"]["MaxConcurrency"] == MODELS_AT_ONCE == 2


def test_a_desk_that_only_scans_has_the_machine_where_it_names_a_model(crossover, crossover_file, template):
    assert not of_type(crossover, MACHINE)
    assert "retrain" not in functions(crossover)
    named = synthesize(str(crossover_file), "dev", overrides=["strategy.crossover.setup_model=crossover_setup"])
    assert set(functions(named)) == {*functions(crossover), "retrain"}
    assert definition(named) == definition(template)
