# SPDX-License-Identifier: BSD-3-Clause
"""VLAN tags: one trunk port with clients in VLAN 100 and backends in VLAN 200, and two ports, one of them tagged.

     client eth0 -- bridge -- acc100 -- vlan_switch.py -- trunk: lb-dataplane's only port
                       |                     |
     backends -- bridge0 ---- acc200 --------+      lb-control: vethc in the first bridge, vethb in the second,
                                                    as eth0.100 and eth0.200 would be
"""
import os

import pytest
from scapy.all import ICMP, IP, TCP, Dot1Q, Ether, Raw

import configs
from conftest import finish
from lab import CLIENT, CLIENTS, PYTHON, VIP, VIPS, HERE, Lab
from netns import veth, wait_for
from wire import Wire

LOCALS = ["192.0.2.1", "2001:db8:a::1"]
MAC = "02:00:00:00:64:c8"  # of the trunk port


class TrunkLab(Lab):
    def _make_namespaces(self, n_backends):
        super()._make_namespaces(n_backends)
        self.client.ip("link del eth0")
        veth(self.client, "eth0", self.switch, "c0")
        veth(self.lb, "vethc", self.switch, "l0")
        veth(self.lb, "trunk", self.switch, "trunk0")
        self.lb.ip(f"link set trunk address {MAC}")
        self.switch.ip("link add clients type bridge", "link set clients up", "link set c0 master clients",
                       "link set l0 master clients")
        for vlan, bridge in ((100, "clients"), (200, "bridge0")):
            veth(self.switch, f"acc{vlan}", self.switch, f"br{vlan}")
            self.switch.ip(f"link set br{vlan} master {bridge}")
        self.client.ip(
            "addr add 10.1.0.2/24 dev eth0", "addr add 2001:db8:1::2/64 dev eth0 nodad",
            f"neigh add 10.1.0.99 lladdr {MAC} dev eth0", f"neigh add 2001:db8:1::99 lladdr {MAC} dev eth0",
            f"route add 203.0.113.0/24 via 10.1.0.99 src {CLIENT}",
            f"route add 2001:db8:f::/64 via 2001:db8:1::99 src {CLIENTS[6]}")
        self.lb.ip(
            "addr add 10.1.0.1/24 dev vethc", "addr add 2001:db8:1::1/64 dev vethc nodad",
            "route add default via 10.1.0.2", "route add default via 2001:db8:1::2",
            "route add blackhole 192.0.2.0/24", "route add blackhole 2001:db8:a::/64")
        for backend in self.backends:
            backend.ns.ip(
                f"neigh add 10.2.0.99 lladdr {MAC} dev eth0", f"neigh add 2001:db8:2::99 lladdr {MAC} dev eth0",
                "route replace default via 10.2.0.99", "route replace default via 2001:db8:2::99")

    def start_switch(self):
        switch = self.start(self.switch, "vlan_switch",
                            [PYTHON, HERE / "vlan_switch.py", "trunk0", "acc100=100", "acc200=200"])
        wait_for(lambda: "ready" in switch.log.read_text(), "vlan_switch.py")

    def start_dataplane(self):
        cpus = sorted(os.sched_getaffinity(0))
        self.dataplane = self._start_notifying("dataplane", [
            self.build / "dataplane/lb-dataplane", "--lcores", f"0@{cpus[0]},1@{cpus[-1]}", "--no-pci", "--file-prefix",
            self.id, "-m", "256", "--vdev", "net_af_packet0,iface=trunk,framecnt=4096,blocksz=65536", "--", "--instance",
            self.id, "--flows", "65536", "--idle-sleep-us", "50"])
        return self.dataplane


def services(lab):
    made = [configs.web(lab, family, health_check={"type": "none"}) for family in (4, 6)]
    for client, server, port in ((4, 4, 81), (4, 6, 82), (6, 4, 83)):
        made.append({"name": f"full{client}{server}", "vip": VIPS[client], "port": port, "protocol": "tcp",
                     "mode": "fullnat", "client_address": "toa", "health_check": {"type": "none"},
                     "backends": [{"name": b.name, "address": b.addresses[server], "port": 8080} for b in lab.backends]})
    return made


@pytest.fixture(scope="module")
def lab():
    with TrunkLab(n_backends=1) as lab:
        lab.start_switch()
        lab.backends[0].start_nginx()
        (lab.dir / "api-1/files").mkdir(exist_ok=True)
        (lab.dir / "api-1/files/some").write_bytes(bytes(range(250)) * 1200)
        lab.start_all(configs.config(*services(lab), local_addresses=LOCALS, ports=[
            {"port": 0, "interfaces": [{"name": "vethc", "vlan": 100}, {"name": "vethb", "vlan": 200}]}]))
        yield lab
        finish(lab)


@pytest.mark.smoke
@pytest.mark.parametrize("family,port", [(4, 80), (6, 80), (4, 81), (4, 82), (6, 83)])
def test_downloads_over_one_trunk(lab, family, port):
    seen = Wire(lab.switch, "trunk0")
    host = VIPS[4] if family == 4 else f"[{VIPS[6]}]"
    try:
        lab.client.run("curl", "-sS", "--fail", "--max-time", 60, "-o", lab.dir / "got", f"http://{host}:{port}/files/some")
        frames = [Ether(f) for f in seen.received(lambda f: f[6:12] == bytes.fromhex(MAC.replace(":", "")))]
    finally:
        seen.close()
    assert (lab.dir / "got").read_bytes() == (lab.dir / "api-1/files/some").read_bytes()
    frames = [frame for frame in frames if TCP in frame]
    assert frames and all(Dot1Q in frame for frame in frames)
    vlans = {(lab.client.mac("eth0"), 100), (lab.backends[0].ns.mac("eth0"), 200)}
    assert {(frame.dst, frame[Dot1Q].vlan) for frame in frames} == vlans


def test_echo_is_answered_in_the_clients_vlan(lab):
    near, trunk = Wire(lab.client, "eth0"), Wire(lab.switch, "trunk0")
    try:
        near.send(Ether(src=near.mac, dst=MAC) / IP(src="10.1.0.2", dst=VIP) / ICMP(id=7) / Raw(bytes(40)))
        answer = Ether(trunk.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0))
        assert (answer.dst, answer[Dot1Q].vlan, answer[IP].src) == (near.mac, 100, VIP)
        near.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0)
    finally:
        near.close()
        trunk.close()


def test_the_config_is_told_as_it_was_given(lab):
    wanted = [{"port": 0, "interfaces": [{"name": "vethb", "vlan": 200}, {"name": "vethc", "vlan": 100}]}]
    assert lab.lbctl_json("config")["ports"] == wanted
    new = lab.dir / "new.yaml"
    text = lab.lbctl("config").stdout
    new.write_text(text.replace("vlan: 200", "vlan: none"))
    assert "vlan: 200" in text and "~ interface vethb: port 0 vlan 200 -> port 0 vlan none" in lab.lbctl("diff", new).stdout
    new.write_text(text.replace("vlan: 200", "vlan: 4095"))
    done = lab.lbctl("apply", new, check=False)
    assert done.returncode == 1 and "expected a VLAN 1..4094 or none, found 4095" in done.stderr


def test_two_ports_one_of_them_tagged(bare_lab):
    lab = bare_lab
    lab.start_all(configs.config(*[configs.web(lab, 4, health_check={"type": "none"})],
                                 ports=[{"port": 0, "vlan": 100}, {"port": 1, "vlan": "none"}]))
    near, far = Wire(lab.client, "eth0"), [Wire(backend.ns, "eth0") for backend in lab.backends]
    mac = {port["id"]: port["mac"] for port in lab.status()["dataplane"]["ports"]}
    data = Raw(bytes(40))

    def is_syn(frame, sport):
        packet = Ether(frame)
        return TCP in packet and (packet[TCP].sport, packet[TCP].dport, packet[TCP].flags) == (sport, 8080, "S")

    try:
        # With another tag, the one that is meant, and none: at the backend without, and its answer in VLAN 100.
        for sport, tag in ((20000, Dot1Q(vlan=55, prio=5)), (20001, Dot1Q(vlan=100)), (20002, None)):
            ether = Ether(src=near.mac, dst=mac[0])
            packet = IP(src=CLIENT, dst=VIP) / TCP(sport=sport, dport=80, flags="S", seq=1) / data
            near.send(ether / tag / packet if tag else ether / packet)
            frame = wait_for(lambda: [f for wire in far for f in wire.received(lambda f: is_syn(f, sport))], "the SYN")[0]
            assert Dot1Q not in Ether(frame)
            answer = Ether(near.expect(lambda f: TCP in Ether(f) and Ether(f)[TCP].dport == sport))
            assert answer[Dot1Q].vlan == 100 and answer[IP].src == VIP
        near.send(Ether(src=ether.src, dst=mac[0]) / Dot1Q(vlan=55, prio=5) / IP(src=CLIENT, dst=VIP) / ICMP() / data)
        answer = Ether(near.expect(lambda f: ICMP in Ether(f) and Ether(f)[ICMP].type == 0))
        assert (answer[Dot1Q].vlan, answer[Dot1Q].prio) == (100, 5)
    finally:
        for wire in (near, *far):
            wire.close()
