"""What a RayService may hold, as JSON schemas that refuse every field they do not name.

Fields and types are those of the API reference of KubeRay 1.7.0 (docs.ray.io, "KubeRay CRD API reference"). What
Kubernetes itself defines, such as a pod's template, is left to Kubernetes' own schemas: `templates` finds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
STRINGS: Schema = {"type": "object", "additionalProperties": STRING}
BOOLEAN: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
KUBERNETES: Schema = {"type": "object"}
"""Checked by Kubernetes' own schema."""


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def fields(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """An object with these fields and no others."""
    return {"type": "object", "required": list(required), "additionalProperties": False, "properties": properties}


def items(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


SECRET_KEY = fields(("name", "key"), name=STRING, key=STRING, optional=BOOLEAN)
CREDENTIAL = fields(value=STRING, valueFrom=fields(secretKeyRef=SECRET_KEY))
STORAGE = fields(
    claimName=STRING,
    size=STRING,
    storageClassName=STRING,
    accessModes=items(STRING),
    subPath=STRING,
    deletionPolicy=one_of("DeleteWithCluster", "Retain"),
)
FAULT_TOLERANCE = fields(
    backend=one_of("redis", "rocksdb"),
    redisUsername=CREDENTIAL,
    redisPassword=CREDENTIAL,
    externalStorageNamespace=STRING,
    redisAddress=STRING,
    storage=STORAGE,
)
AUTOSCALER = fields(
    resources=KUBERNETES,
    image=STRING,
    imagePullPolicy=one_of("Always", "IfNotPresent", "Never"),
    securityContext=KUBERNETES,
    idleTimeoutSeconds=COUNT,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    command=items(STRING),
    args=items(STRING),
)
_GROUP = {"template": KUBERNETES, "resources": STRINGS, "labels": STRINGS, "rayStartParams": STRINGS}
HEAD = fields(
    ("template", "rayStartParams"),
    **_GROUP,
    enableIngress=BOOLEAN,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKERS = fields(
    ("groupName", "minReplicas", "maxReplicas", "template", "rayStartParams"),
    **_GROUP,
    groupName=STRING,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    priority=COUNT,
    numOfHosts=COUNT,
    suspend=BOOLEAN,
)
CLUSTER = fields(
    ("headGroupSpec",),
    authOptions=fields(mode=one_of("disabled", "token"), secretName=STRING),
    autoscalerOptions=AUTOSCALER,
    enableInTreeAutoscaling=BOOLEAN,
    gcsFaultToleranceOptions=FAULT_TOLERANCE,
    headGroupSpec=HEAD,
    headServiceAnnotations=STRINGS,
    managedBy=STRING,
    rayVersion=STRING,
    suspend=BOOLEAN,
    tlsOptions=fields(enabled=BOOLEAN),
    upgradeStrategy=fields(type=one_of("Recreate", "None")),
    workerGroupSpecs=items(WORKERS),
)
RAY_SERVICE = fields(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion=one_of("ray.io/v1"),
    kind=one_of("RayService"),
    metadata=fields(("name",), name=STRING, namespace=STRING, labels=STRINGS, annotations=STRINGS),
    spec=fields(
        ("serveConfigV2", "rayClusterConfig"),
        excludeHeadPodFromServeSvc=BOOLEAN,
        managedBy=STRING,
        rayClusterConfig=CLUSTER,
        rayClusterDeletionDelaySeconds=COUNT,
        serveConfigV2=STRING,
        suspend=BOOLEAN,
        upgradeStrategy=fields(type=one_of("NewCluster", "NewClusterWithIncrementalUpgrade", "None")),
    ),
)

SERVE_CONFIG = fields(
    ("applications",),
    proxy_location=one_of("EveryNode", "HeadOnly", "Disabled"),
    http_options=fields(host=STRING, port=COUNT, request_timeout_s={"type": "number"}, keep_alive_timeout_s=COUNT),
    applications=items(
        fields(
            ("name", "import_path"),
            name=STRING,
            import_path=STRING,
            route_prefix=STRING,
            args={"type": "object"},
        )
    ),
)
"""Of Serve's own configuration only what this project uses: Serve takes misspelt fields without a word."""


def templates(service: Any) -> Iterator[dict[str, Any]]:
    """Pods of a RayService that fits the schema, in the form that Kubernetes' schemas know."""
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())):
        name = group.get("groupName", "head")
        yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": group["template"]}
    autoscaler = {**cluster.get("autoscalerOptions", {})}
    of_kubernetes = {key: autoscaler[key] for key in ("resources", "securityContext") if key in autoscaler}
    container = {"name": "autoscaler", "image": "autoscaler", **of_kubernetes}
    template = {"spec": {"containers": [container]}}
    yield {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "autoscaler"}, "template": template}
