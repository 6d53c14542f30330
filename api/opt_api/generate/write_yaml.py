"""YAML as we write it: in the order given, small mappings on one line."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes values twice rather than as anchors, which few readers expect in a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        """Never an anchor."""
        return True


def yaml_text(value: Any) -> str:
    """The value as one YAML document."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=200, allow_unicode=True, default_flow_style=None)
