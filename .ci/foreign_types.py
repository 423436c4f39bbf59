"""Prints the types and traits of other crates that the public API names, one a line, from the JSON that rustdoc makes.

Usage: foreign_types.py target/doc/axum_activation.json
"""

import json
import sys

STANDARD = {"std", "core", "alloc"}
# Names types of its own in what its macro expands to.
MACROS = {"pin_project_lite"}


def named(value):
    """The ids that every path of a type or a bound below `value` stands for."""
    if isinstance(value, list):
        for part in value:
            yield from named(part)
    elif isinstance(value, dict):
        # `{"path": "Router", "id": 7, "args": ..}`, as a type, a bound, or the trait of an impl.
        if isinstance(value.get("path"), str) and "args" in value:
            yield value["id"]
        for part in value.values():
            yield from named(part)


def is_own(item):
    """Whether the item says something of its own; a blanket impl is another crate's, and an auto trait the compiler's."""
    impl = item["inner"].get("impl")
    return item["crate_id"] == 0 and not (impl and (impl["blanket_impl"] or impl["is_synthetic"]))


def foreign(docs):
    paths = docs["paths"]
    ids = {id for item in docs["index"].values() if is_own(item) for id in named(item["inner"])}
    # `pub use` of another crate.
    ids |= {item["inner"]["use"]["id"] for item in docs["index"].values() if "use" in item["inner"]}
    for id in ids:
        path = paths.get(str(id))
        if path and path["crate_id"] != 0 and path["path"][0] not in STANDARD | MACROS:
            yield "::".join(path["path"])


with open(sys.argv[1]) as file:
    print("\n".join(sorted(set(foreign(json.load(file))))))
