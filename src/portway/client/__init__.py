"""Talk to an API server: `Client` for single requests, `Reflector` for a live copy of a kind, `Config` for where."""

from portway.client.config import Config, from_kubeconfig
from portway.client.errors import ApiError, ConfigError, Unreachable
from portway.client.http import EVERYTHING, Client, PatchType, Select, WatchEvent
from portway.client.reflector import Change, Reflector
from portway.client.wire import Listed, kind_of

__all__ = [
    "EVERYTHING",
    "ApiError",
    "Change",
    "Client",
    "Config",
    "ConfigError",
    "Listed",
    "PatchType",
    "Reflector",
    "Select",
    "Unreachable",
    "WatchEvent",
    "from_kubeconfig",
    "kind_of",
]
