"""From text or a mapping to a checked resource, or to every problem there is."""

from opt_api.parsing.parse import Foreign, parse, parse_mapping, parse_text

__all__ = ["Foreign", "parse", "parse_mapping", "parse_text"]
