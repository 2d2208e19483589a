# SPDX-License-Identifier: BSD-3-Clause
"""Configs for a Lab, as dicts (JSON is YAML)."""
from lab import VIPS

SECRET = "000102030405060708090a0b0c0d0e0f"
HTTP_CHECK = {"type": "http", "path": "/healthz", "interval": "500ms", "timeout": "400ms", "rise": 1, "fall": 2}
WEIGHTS = {"api-1": 5, "api-2": 3, "api-3": 2}  # api-4 is the backup


def shares(weights=None):
    """{name: fraction of new connections} that weights ask for."""
    weights = weights or WEIGHTS
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def web(lab, family, port=80, **extra):
    """HTTP on the four servers: weights 5/3/2 and a backup. family 4 or 6; extra: more keys of the service."""
    backends = [{"name": b.name, "address": b.addresses[family], "port": 8080,
                 **({"weight": WEIGHTS[b.name]} if b.name in WEIGHTS else {"backup": True})} for b in lab.backends]
    return {"name": "web" if family == 4 else "web6", "vip": VIPS[family], "port": port, "protocol": "tcp",
            "mode": "nat", "health_check": dict(HTTP_CHECK), "backends": backends, **extra}


def dns(lab, family, **extra):
    """The UDP echo on every server, equal weights."""
    backends = [{"name": b.name, "address": b.addresses[family], "port": 5353} for b in lab.backends]
    return {"name": "dns" if family == 4 else "dns6", "vip": VIPS[family], "port": 53, "protocol": "udp", "mode": "nat",
            "health_check": {"type": "none"}, "backends": backends, **extra}


def config(*services, **extra):
    return {"hash_secret": SECRET, "services": list(services), **extra}
