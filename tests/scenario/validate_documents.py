"""Validates documents against a schema with python3-jsonschema: reads {"schema", "documents"} from the file named on the
command line and prints one line a document, "yes" or "no: why". Exit code 77: jsonschema is not installed."""

import json
import sys

try:
    import jsonschema
except ImportError:
    sys.exit(77)

with open(sys.argv[1], encoding="utf-8") as file:
    task = json.load(file)
jsonschema.Draft202012Validator.check_schema(task["schema"])
validator = jsonschema.Draft202012Validator(task["schema"])
for document in task["documents"]:
    error = next(validator.iter_errors(document), None)
    print("yes" if error is None else "no: " + error.message.replace("\n", " ")[:200])
