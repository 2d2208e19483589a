# SPDX-License-Identifier: BSD-3-Clause
"""The JSON schemas of tests/schemas: one file for each document of lbctl --json and of the API.

A new key of a document goes into "properties" and "required" of its schema: objects are closed, so that a key which
is not there, or no longer, fails the tests.
"""
import json
import pathlib

import jsonschema

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "schemas"
SCHEMAS = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
DIALECT = jsonschema.Draft202012Validator


def validate(name, document):
    """@document is as tests/schemas/NAME.json says; @return it."""
    schema = SCHEMAS[f"{name}.json"]
    resolver = jsonschema.RefResolver(schema["$id"], schema, store=SCHEMAS)
    validator = DIALECT(schema, resolver=resolver, format_checker=jsonschema.FormatChecker(("ipv4", "ipv6")))
    errors = [f"{name}: {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(document)]
    assert not errors, "\n".join(errors[:10])
    return document
