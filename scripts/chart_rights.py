#!/usr/bin/env python3
"""Prints the rights that objects give, one resource a line: JSON documents on standard input, a name for them as argument."""
import json
import sys

decoder, text = json.JSONDecoder(), sys.stdin.read().strip()
lines = set()
while text:
    item, end = decoder.raw_decode(text)
    text = text[end:].lstrip()
    for thing in item.get("items", [item]):
        if thing["kind"] not in ("Role", "ClusterRole"):
            continue
        of = f"{sys.argv[1]} {thing['kind']} {thing['metadata'].get('namespace', '-')}/{thing['metadata']['name']}"
        if "aggregationRule" in thing:
            lines.add(f"{of}: aggregated from {json.dumps(thing['aggregationRule'], sort_keys=True)}")
        for rule in thing.get("rules") or []:
            verbs = " ".join(sorted(rule["verbs"]))
            names = f" named {' '.join(sorted(rule['resourceNames']))}" if rule.get("resourceNames") else ""
            for url in rule.get("nonResourceURLs", []):
                lines.add(f"{of}: {url}: {verbs}")
            for group in rule.get("apiGroups", []):
                for resource in rule.get("resources", []):
                    lines.add(f"{of}: {group or 'core'}/{resource}{names}: {verbs}")
if not lines:
    sys.exit("there are no roles")
print("\n".join(sorted(lines)))
