"""Small texts that several tables share: ages, lists that are cut, selectors. Used by `tables` and `podcells`."""

from __future__ import annotations

from typing import Any

from portway.apiserver.times import age, parse

NONE = "<none>"
UNKNOWN = "<unknown>"


def since(stamp: Any, now: float) -> str:
    """How long ago, or `<unknown>` for a time that is absent or no time."""
    if not stamp:
        return UNKNOWN
    try:
        return age(now - parse(str(stamp)))
    except ValueError:
        return UNKNOWN


def age_cell(value: dict[str, Any], now: float) -> str:
    return since(value["metadata"].get("creationTimestamp"), now)


def listed(texts: list[str], most: int, empty: str) -> str:
    """The first `most` of them, and how many more there are."""
    if not texts:
        return empty
    more = f" + {len(texts) - most} more..." if len(texts) > most else ""
    return ",".join(texts[:most]) + more


def selector_text(selector: dict[str, Any]) -> str:
    """A LabelSelector as `-l` would have it."""
    terms = [f"{k}={v}" for k, v in sorted((selector.get("matchLabels") or {}).items())]
    for term in selector.get("matchExpressions") or ():
        key, values = term.get("key", ""), ",".join(sorted(term.get("values") or ()))
        forms = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append(forms.get(term.get("operator", ""), key))
    return ",".join(terms) or NONE
