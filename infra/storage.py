"""What outlives a tick: the ledger's table, the bucket, the dead letters, the alert topic and the parameters."""

from __future__ import annotations

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from infra.settings import StageSettings
from tickless.settings import Settings


class Storage(Construct):
    """Table, bucket, queues, topic and parameters of one desk."""

    def __init__(self, scope: Construct, construct_id: str, *, stage: StageSettings, settings: Settings) -> None:
        super().__init__(scope, construct_id)
        self.stage = stage.stage
        self.removal = RemovalPolicy.RETAIN if stage.retain_state else RemovalPolicy.DESTROY
        self.table = dynamodb.Table(
            self,
            "Ledger",
            partition_key=dynamodb.Attribute(name="pk", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="sk", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(point_in_time_recovery_enabled=True),
            time_to_live_attribute="ttl",
            deletion_protection=stage.retain_state,
            removal_policy=self.removal,
        )
        self.bucket = self._bucket(stage)
        self.undelivered = self._queue("Undelivered")
        self.failed = self._queue("Failed")
        self.topic = self._topic(settings.alerts.email)
        for section, text in settings.sections().items():
            ssm.StringParameter(
                self,
                f"Parameter-{section}",
                parameter_name=f"{self.parameter_path}/{section}",
                string_value=text,
                description=f"Section {section} of the desk {settings.desk.name}; a change takes effect at the next tick.",
            )

    @property
    def parameter_path(self) -> str:
        """The SSM path under which the desk's sections lie."""
        return f"/tickless/{self.stage}"

    def _bucket(self, stage: StageSettings) -> s3.Bucket:
        return s3.Bucket(
            self,
            "Store",
            versioned=True,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            removal_policy=self.removal,
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="overwritten",
                    noncurrent_version_expiration=Duration.days(stage.noncurrent_version_days),
                    abort_incomplete_multipart_upload_after=Duration.days(7),
                    expired_object_delete_marker=True,
                ),
                s3.LifecycleRule(
                    id="traces",
                    prefix="trace/",
                    transitions=[
                        s3.Transition(
                            storage_class=s3.StorageClass.INFREQUENT_ACCESS,
                            transition_after=Duration.days(stage.trace_infrequent_days),
                        )
                    ],
                    expiration=Duration.days(stage.trace_expiry_days),
                ),
                s3.LifecycleRule(
                    id="trainings",
                    prefix="training/",
                    expiration=Duration.days(stage.training_expiry_days),
                    noncurrent_version_expiration=Duration.days(1),
                ),
            ],
        )

    def _queue(self, name: str) -> sqs.Queue:
        return sqs.Queue(
            self,
            name,
            enforce_ssl=True,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            retention_period=Duration.days(14),
            removal_policy=self.removal,
        )

    def _topic(self, email: str) -> sns.Topic:
        # Not encrypted with a key: alarms cannot publish through the AWS-managed one, and alerts carry no secrets.
        topic = sns.Topic(self, "Alerts", enforce_ssl=True, display_name=f"tickless {self.stage}")
        # enforce_ssl replaces the topic's default policy, which is what lets this account's alarms publish.
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AlarmsOfThisAccount",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
            )
        )
        if email:
            topic.add_subscription(subscriptions.EmailSubscription(email))
        return topic
