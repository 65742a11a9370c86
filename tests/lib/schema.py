#!/usr/bin/env python3
"""schema.py FILE... - does the JSON object in each fit the schema that it names?

    schema.py out.json       "schema": "info/1" is described by doc/schema/info.json
    schema.py --lines FILE   an object a line
    schema.py --all          the schemas themselves: sound, strict, and named as they are called

Nothing but the object may be there, no key twice, "schema" first.
"""
import json
import os
import sys

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../doc/schema")
try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is not installed", file=sys.stderr)
    sys.exit(77)


def unique(pairs):
    keys = [k for k, _ in pairs]
    if len(keys) != len(set(keys)):
        raise ValueError(f"a key twice: {keys}")
    return dict(pairs)


validators = {}


def validator(name):
    if name not in validators:
        path = os.path.join(FOLDER, name + ".json")
        if "/" in name or not os.path.exists(path):
            raise ValueError(f"there is no doc/schema/{name}.json")
        with open(path, encoding="utf-8") as f:
            schema = json.load(f, object_pairs_hook=unique)
        validators[name] = jsonschema.Draft7Validator(schema)
    return validators[name]


def fits(text):
    found = json.loads(text, object_pairs_hook=unique)
    if not isinstance(found, dict) or next(iter(found), None) != "schema":
        raise ValueError("no object that begins with its schema")
    name, _, version = found["schema"].partition("/")
    if version != "1":
        raise ValueError(f"schema {found['schema']}: no version that is known")
    for wrong in validator(name).iter_errors(found):
        raise ValueError(f"{name}: {'/'.join(map(str, wrong.absolute_path))}: {wrong.message}")


def strict(node, where):
    """Every object says all that may be in it, and what each member means."""
    if isinstance(node, list):
        for part in node:
            strict(part, where)
    if not isinstance(node, dict):
        return
    if node.get("type") == "object":
        if node.get("additionalProperties") is not False or "required" not in node:
            raise ValueError(f"{where}: open to more than it tells")
        if not set(node["required"]) <= set(node["properties"]):
            raise ValueError(f"{where}: requires what it does not describe")
    for key, part in node.items():
        strict(part, f"{where}/{key}")


def check_all():
    for file in sorted(os.listdir(FOLDER)):
        name = file.removesuffix(".json")
        schema = validator(name).schema
        jsonschema.Draft7Validator.check_schema(schema)
        strict(schema, name)
        if schema["properties"]["schema"] != {"const": name + "/1"} or not schema.get("title"):
            raise ValueError(f"{file}: not that of \"{name}/1\", or without a title")


def main():
    if sys.argv[1:] == ["--all"]:
        check_all()
        return
    lines = sys.argv[1:2] == ["--lines"]
    for path in sys.argv[2 if lines else 1:]:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        try:
            for one in text.splitlines() if lines else [text]:
                fits(one)
        except ValueError as wrong:
            sys.exit(f"{path}: {wrong}: {text[:2000]}")


main()
