# SPDX-License-Identifier: BSD-3-Clause
"""What passes tells of a backend that does not answer before the next check would."""
import configs
from lab import VIP, Lab, wait_for


def test_refusing_backend_is_suspected_and_checked_at_once():
    with Lab(n_backends=2) as lab:
        for backend in lab.backends:
            backend.start_nginx()
        # after the first, no check is due while this test lasts
        check = {"type": "http", "path": "/healthz", "interval": "1h", "timeout": "2s", "rise": 1, "fall": 1}
        service = configs.web(lab, 4, health_check=check)
        for backend in service["backends"]:
            backend.update(weight=1)
            backend.pop("backup", None)
        lab.start_all(configs.config(service))
        # the regular ones are somewhere in the hour, the first ones within 1 s: let these pass
        wait_for(lambda: all(b["health"]["n_checks"] for b in lab.backend_list("web").values()), "first checks")
        lab.backends[0].kill_nginx()

        def left():
            lab.traffic("requests", VIP, 80, "--count", 20)
            return lab.effective("web")["api-1"] == "down"
        wait_for(left, lambda: f"suspicion:\n{lab.describe()}")
        suspicions = [e for e in lab.events(kind="backend_suspect") if e["subject"] == "backend web/api-1"]
        assert suspicions[0]["to"] == "suspect"
        assert suspicions[0]["cause"] == "it resets clients' new connections"
        assert [e["subject"] for e in lab.events(kind="backend_suspect")].count("backend web/api-2") == 0
        down = lab.backend_list("web")["api-1"]
        assert (down["condition"], down["condition_reason"]) == ("down", "connection refused")
        wait_for(lambda: lab.service("web")["table"]["published"], "the table without it")
        report = lab.traffic("requests", VIP, 80, "--count", 40)
        assert (set(report["backends"]), report["failed"]) == ({"api-2"}, [])
