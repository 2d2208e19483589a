# SPDX-License-Identifier: BSD-3-Clause
"""What README.md and docs/benchmarking.md tell to type: configs are valid, commands and files are there and fit together."""
import re
import shlex
import subprocess

import pytest

from docs import DOCS
from lbctl_server import LBCTL

TOP = DOCS.parent
README = (TOP / "README.md").read_text()
BENCHMARKING = (DOCS / "benchmarking.md").read_text()


def run(*args, **kwargs):
    return subprocess.run([LBCTL, *args], capture_output=True, text=True, timeout=60, **kwargs)


def configs(text):
    return re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("text", configs(README) + configs(BENCHMARKING), ids=lambda t: re.search("name: (.*)", t).group(1))
def test_each_config_is_valid(text):
    done = run("validate", "-", input=text)
    assert done.returncode == 0, done.stderr


def lbctl_lines():
    return [shlex.split(line.split("  #")[0])[1:] for line in re.findall(r"^    (lbctl .*)$", README, re.M)]


@pytest.mark.parametrize("args", lbctl_lines(), ids=" ".join)
def test_each_line_of_lbctl_is_a_command_with_arguments_that_it_takes(args, tmp_path):
    files = {"new.yaml", "/etc/fulcrum/edge.yaml"}
    (tmp_path / "f.yaml").write_text(configs(README)[0])
    done = run(*[str(tmp_path / "f.yaml") if a in files else a for a in args], env={"FULCRUM_RUN_DIR": str(tmp_path), "TERM": "dumb"})
    # without a daemon what is right gets as far as to look for it; top wants a terminal first
    wanted = {"validate": 0, "simulate": 0, "top": 2}.get(args[0], 3)
    assert done.returncode == wanted and (args[0] != "top" or "needs a terminal" in done.stderr), done


def services():
    """{(VIP, port, protocol)} of the config that docs/benchmarking.md has for pktgen."""
    (text,) = configs(BENCHMARKING)
    return set(re.findall(r"vip: (\S+)\n +port: (\d+)\n +protocol: (\w+)", text))


def test_pktgens_files_send_to_services_of_the_config():
    assert len(services()) == 2
    for path in (TOP / "scripts/pktgen").glob("*.pkt"):
        text = path.read_text()
        if "seq 0 0" in text:
            sent = set(re.findall(r"^seq .* dst ([0-9.]+) .* dport (\d+) ipv4 (\w+)", text, re.M))
        else:
            (vip,), (port,), (protocol,) = (set(re.findall(rf"^(?:range|set) 0 {what} ([0-9a-z.]+)", text, re.M))
                                            for what in ("dst ip", "(?:dst port|dport)", "proto"))
            sent = {(vip, port, protocol)}
        assert sent and sent <= services(), path


def test_make_pcap_sends_to_services_of_the_config(tmp_path):
    line = re.search(r"^    (scripts/pktgen/make-pcap .*?)  +# or: (.*)$", BENCHMARKING, re.M)
    program, *args = shlex.split(line.group(1))
    kinds = re.search(r"--kind ([a-z | ]+?) (--port \d+)", line.group(2))
    wanted = [(["--kind", "udp"], 17, "53")] + [
        (["--kind", kind, *kinds.group(2).split()], 6, "443") for kind in kinds.group(1).split(" | ")]
    assert len(wanted) == 3
    for more, protocol, port in wanted:
        out = tmp_path / "flows.pcap"
        command = [TOP / program, *args[:-1], *more, "--flows", "1", out]
        subprocess.run(command, check=True, timeout=60)
        frame = out.read_bytes()[24 + 16:]
        sent = (".".join(map(str, frame[30:34])), str(int.from_bytes(frame[36:38], "big")))
        assert frame[23] == protocol and sent == ("203.0.113.10", port)
        assert (*sent, {6: "tcp", 17: "udp"}[protocol]) in services()
