"""What a file of Ray's cluster launcher may hold for AWS: Ray's own schema, made strict, and AWS's own API."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

import botocore.session
from botocore.validate import ParamValidator
from jsonschema import Draft7Validator

_FILLED_IN = {"MinCount": 1, "MaxCount": 1}
"""Of a machine's request, what Ray adds."""


@cache
def _launcher() -> Draft7Validator:
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    schema["properties"]["provider"]["additionalProperties"] = False
    schema["properties"]["provider"]["properties"].pop("cloudwatch")  # its schema is none
    return Draft7Validator(schema)


@cache
def _machines() -> Any:
    session = botocore.session.get_session()
    return session.get_service_model("ec2").operation_model("RunInstances").input_shape


def problems(document: Any) -> list[str]:
    """What is wrong with a cluster file, one line each."""
    found = [f"{error.json_path}: {error.message}" for error in _launcher().iter_errors(document)]
    for name, node_type in document.get("available_node_types", {}).items():
        report = ParamValidator().validate({**node_type.get("node_config", {}), **_FILLED_IN}, _machines())
        if report.has_errors():
            found.append(f"available_node_types.{name}.node_config: {report.generate_report()}")
    kinds = set(document.get("available_node_types", {}))
    if document.get("head_node_type") not in kinds:
        found.append(f"head_node_type: {document.get('head_node_type')} is none of {sorted(kinds)}")
    return found
