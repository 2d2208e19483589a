# SPDX-License-Identifier: BSD-3-Clause
"""The data plane trusts nothing in the shared memory: bad messages are refused with the right error, counted, and
change nothing; the traffic goes on. The control side is played by shm_poke."""
import errno
import random

import pytest

import shm
from conftest import finish
from lab import VIP, Lab, wait_for

SECRET = bytes(range(16))
WEB, WEB_PORT, DNS = 0, 80, 1


@pytest.fixture(scope="module")
def puppet():
    """Four NGINX servers behind service 0 (backends 0..3), a UDP service 1 (backend 4); all set up by hand."""
    with Lab() as lab:
        for backend in lab.backends:
            backend.start_nginx()
        lab.start_dataplane()
        with shm.Poke(lab) as poke:
            poke.lab = lab
            assert poke.send(shm.SYNC_END) == -errno.EINVAL, "SYNC_END without SYNC_BEGIN"
            steps = [(shm.SYNC_BEGIN, b""), (shm.SECRET_SET, SECRET),
                     (shm.NEXTHOP_SET, shm.nexthop(1, 0, lab.client.mac("eth0"))),
                     (shm.ROUTE_SET, shm.route("0.0.0.0", 4, 0, 1)),
                     (shm.SERVICE_SET, shm.service(WEB)), (shm.SERVICE_SET, shm.service(DNS, port=53, proto=shm.UDP))]
            for i, backend in enumerate(lab.backends):
                steps += [(shm.NEXTHOP_SET, shm.nexthop(10 + i, 1, backend.ns.mac("eth0"))),
                          (shm.BACKEND_SET, shm.backend(i, WEB, backend.address, 8080, 10 + i))]
            steps.append((shm.BACKEND_SET, shm.backend(4, DNS, lab.backends[0].address, 5353, 10)))
            for op, payload in steps:
                assert poke.send(op, payload) == 0, op
            assert poke.publish(WEB, range(4)) == 0
            assert poke.publish(DNS, [4]) == 0
            assert poke.send(shm.SYNC_END) == 0
            yield poke
        finish(lab)


def check_traffic(lab):
    """The traffic goes on, to all four servers."""
    report = lab.traffic("requests", VIP, WEB_PORT, "--count", 60)
    assert report["failed"] == []
    assert set(report["backends"]) == {"api-1", "api-2", "api-3", "api-4"}


def bad_table(**fields):
    """A publish whose buffer is in order but for what `fields` say; slots: ids of the slots."""
    def build(poke):
        ids, n_slots = fields.pop("slots", range(4)), fields.get("n_slots", 251)
        checksum = poke.slots(0, min(n_slots, shm.MAX_SLOTS), *ids)
        return shm.table(**{"n_slots": n_slots, "checksum": checksum, **fields})
    return build


BAD = [  # name, op, payload (bytes, or a function of the Poke), errno
    ("op_0", 0, b"", "ENOSYS"),
    ("op_beyond_the_last", shm.OP_N, b"", "ENOSYS"),
    ("op_65535", 0xffff, b"\xff" * 56, "ENOSYS"),
    ("sync_end_without_begin", shm.SYNC_END, b"", "EINVAL"),
    ("another_secret", shm.SECRET_SET, bytes(16), "EBUSY"),
    ("service_id_out_of_range", shm.SERVICE_SET, shm.service(shm.MAX_SERVICES, port=81), "EINVAL"),
    ("service_id_65535", shm.SERVICE_SET, shm.service(65535, port=81), "EINVAL"),
    ("service_mode_out_of_range", shm.SERVICE_SET, shm.service(7, port=81, mode=9), "EINVAL"),
    ("service_on_empty_out_of_range", shm.SERVICE_SET, shm.service(7, port=81, on_empty=3), "EINVAL"),
    ("service_tracking_out_of_range", shm.SERVICE_SET, shm.service(7, port=81, tracking=2), "EINVAL"),
    ("service_scheduler_out_of_range", shm.SERVICE_SET, shm.service(7, port=81, scheduler=200), "EINVAL"),
    ("service_reserved_bytes", shm.SERVICE_SET, shm.service(7, port=81, zero=b"\0\1"), "EINVAL"),
    ("service_key_reserved_bytes", shm.SERVICE_SET, shm.service(7, port=81, key_zero=b"\0\0\0\0\1"), "EINVAL"),
    ("service_protocol_icmp", shm.SERVICE_SET, shm.service(7, port=81, proto=1), "EINVAL"),
    ("service_vip_unspecified", shm.SERVICE_SET, shm.service(7, "0.0.0.0", 81), "EINVAL"),
    ("service_vip_multicast", shm.SERVICE_SET, shm.service(7, "ff02::1", 81), "EINVAL"),
    ("service_timeout_0", shm.SERVICE_SET, shm.service(7, port=81, idle_ms=0), "EINVAL"),
    ("service_timeout_3_h", shm.SERVICE_SET, shm.service(7, port=81, idle_ms=3 * 3600000), "EINVAL"),
    ("service_key_of_another", shm.SERVICE_SET, shm.service(7, port=WEB_PORT), "EEXIST"),
    ("service_del_unknown", shm.SERVICE_DEL, shm.id_payload(99), "ENOENT"),
    ("service_del_out_of_range", shm.SERVICE_DEL, shm.id_payload(65535), "ENOENT"),
    ("backend_id_none", shm.BACKEND_SET, shm.backend(shm.BACKEND_NONE), "EINVAL"),
    ("backend_of_unknown_service", shm.BACKEND_SET, shm.backend(9, 99, "10.2.0.99"), "ENOENT"),
    ("backend_of_service_out_of_range", shm.BACKEND_SET, shm.backend(9, 65535, "10.2.0.99"), "EINVAL"),
    ("backend_state_out_of_range", shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.99", state=3), "EINVAL"),
    ("backend_reserved_bytes", shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.99", zero=b"\1\0\0"), "EINVAL"),
    ("backend_address_loopback", shm.BACKEND_SET, shm.backend(9, WEB, "127.0.0.1"), "EINVAL"),
    ("backend_unknown_nexthop", shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.99", nexthop=999), "ENOENT"),
    ("backend_nexthop_out_of_range", shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.99", nexthop=65535), "ENOENT"),
    ("backend_endpoint_of_another", shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.11"), "EEXIST"),
    ("backend_id_of_another_endpoint", shm.BACKEND_SET, shm.backend(0, WEB, "10.2.0.99"), "EBUSY"),
    ("backend_id_of_another_service", shm.BACKEND_SET, shm.backend(0, DNS, "10.2.0.11"), "EBUSY"),
    ("backend_port_0_behind_a_port", shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.99", 0), "EINVAL"),
    ("backend_of_the_other_family", shm.BACKEND_SET, shm.backend(9, WEB, "2001:db8:2::99"), "EAFNOSUPPORT"),
    ("backend_del_unknown", shm.BACKEND_DEL, shm.id_payload(500), "ENOENT"),
    ("backend_del_none", shm.BACKEND_DEL, shm.id_payload(shm.BACKEND_NONE), "ENOENT"),
    ("backend_del_named_by_the_table", shm.BACKEND_DEL, shm.id_payload(0), "EBUSY"),
    ("table_buffer_out_of_range", shm.TABLE_PUBLISH, bad_table(buffer=shm.N_TABLES), "EINVAL"),
    ("table_buffer_65535", shm.TABLE_PUBLISH, bad_table(buffer=65535), "EINVAL"),
    ("table_of_0_slots", shm.TABLE_PUBLISH, bad_table(n_slots=0), "EINVAL"),
    ("table_of_1_slot", shm.TABLE_PUBLISH, bad_table(n_slots=1), "EINVAL"),
    ("table_one_slot_too_long", shm.TABLE_PUBLISH, bad_table(n_slots=shm.MAX_SLOTS + 1), "EINVAL"),
    ("table_of_2_to_the_32_slots", shm.TABLE_PUBLISH, bad_table(n_slots=0xffffffff), "EINVAL"),
    ("table_reserved_bytes", shm.TABLE_PUBLISH, bad_table(zero=1), "EINVAL"),
    ("table_of_unknown_service", shm.TABLE_PUBLISH, bad_table(service=99), "ENOENT"),
    ("table_of_service_out_of_range", shm.TABLE_PUBLISH, bad_table(service=65535), "EINVAL"),
    ("table_wrong_checksum", shm.TABLE_PUBLISH, bad_table(checksum=1), "EBADMSG"),
    ("table_checksum_of_another_version", shm.TABLE_PUBLISH, bad_table(version=2), "EBADMSG"),
    ("table_slot_of_unknown_backend", shm.TABLE_PUBLISH, bad_table(slots=[0, 1, 2, 77]), "ERANGE"),
    ("table_slot_65534", shm.TABLE_PUBLISH, bad_table(slots=[0, 1, 2, 65534]), "ERANGE"),
    ("table_slot_of_another_service", shm.TABLE_PUBLISH, bad_table(slots=[0, 1, 2, 4]), "ERANGE"),
    ("nexthop_id_0", shm.NEXTHOP_SET, shm.nexthop(0), "EINVAL"),
    ("nexthop_id_out_of_range", shm.NEXTHOP_SET, shm.nexthop(shm.MAX_NEXTHOPS), "EINVAL"),
    ("nexthop_port_that_is_not_there", shm.NEXTHOP_SET, shm.nexthop(20, port=2), "EINVAL"),
    ("nexthop_multicast_mac", shm.NEXTHOP_SET, shm.nexthop(20, mac="01:00:5e:00:00:01"), "EINVAL"),
    ("nexthop_resolved_2", shm.NEXTHOP_SET, shm.nexthop(20, resolved=2), "EINVAL"),
    ("nexthop_reserved_bytes", shm.NEXTHOP_SET, shm.nexthop(20, zero=b"\0\0\1"), "EINVAL"),
    ("nexthop_vlan_out_of_range", shm.NEXTHOP_SET, shm.nexthop(20, vlan=4096), "EINVAL"),
    ("nexthop_del_unknown", shm.NEXTHOP_DEL, shm.id_payload(999), "ENOENT"),
    ("nexthop_del_out_of_range", shm.NEXTHOP_DEL, shm.id_payload(65535), "ENOENT"),
    ("nexthop_del_in_use", shm.NEXTHOP_DEL, shm.id_payload(10), "EBUSY"),
    ("route_family_5", shm.ROUTE_SET, shm.route(family=5), "EINVAL"),
    ("route_ipv4_length_33", shm.ROUTE_SET, shm.route("198.51.100.1", 4, 33), "EINVAL"),
    ("route_ipv6_length_129", shm.ROUTE_SET, shm.route("2001:db8::1", 6, 129), "EINVAL"),
    ("route_ipv6_prefix_in_family_4", shm.ROUTE_SET, shm.route("2001:db8::", 4, 32), "EINVAL"),
    ("route_bits_behind_the_prefix", shm.ROUTE_SET, shm.route("198.51.100.1", 4, 24), "EINVAL"),
    ("route_reserved_bytes", shm.ROUTE_SET, shm.route(zero=1), "EINVAL"),
    ("route_without_nexthop", shm.ROUTE_SET, shm.route(nexthop=0), "EINVAL"),
    ("route_unknown_nexthop", shm.ROUTE_SET, shm.route(nexthop=999), "ENOENT"),
    ("route_del_unknown", shm.ROUTE_DEL, shm.route("192.0.2.0"), "ENOENT"),
    ("trace_protocol_icmp", shm.TRACE, shm.trace(proto=1), "EINVAL"),
    ("trace_reserved_bytes", shm.TRACE, shm.trace(zero=b"\1\0"), "EINVAL"),
    ("flush_unknown_service", shm.FLOWS_FLUSH, shm.flush(99), "ENOENT"),
    ("flush_service_out_of_range", shm.FLOWS_FLUSH, shm.flush(65535), "EINVAL"),
    ("flush_backend_of_another_service", shm.FLOWS_FLUSH, shm.flush(WEB, 4), "ENOENT"),
    ("count_unknown_service", shm.FLOWS_COUNT, shm.flush(99), "ENOENT"),
]


@pytest.mark.smoke
@pytest.mark.parametrize("op,payload,error", [c[1:] for c in BAD], ids=[c[0] for c in BAD])
def test_bad_message_is_refused_and_counted(puppet, op, payload, error):
    before = puppet.info()
    status = puppet.send(op, payload(puppet) if callable(payload) else payload)
    assert errno.errorcode.get(-status, status) == error
    after = puppet.info()
    assert after["n_commands"] == before["n_commands"] + 1
    if op != shm.TRACE:  # a question, not a change
        assert after["n_commands_refused"] == before["n_commands_refused"] + 1


@pytest.mark.smoke
def test_after_all_that_the_state_is_unchanged(puppet):
    # What the refused messages spoke of is still free to be made, and what there was still works.
    check_traffic(puppet.lab)
    assert puppet.send(shm.SERVICE_SET, shm.service(7, port=81)) == 0
    assert puppet.send(shm.SERVICE_DEL, shm.id_payload(7)) == 0
    assert puppet.send(shm.BACKEND_SET, shm.backend(9, WEB, "10.2.0.99")) == 0
    assert puppet.send(shm.BACKEND_DEL, shm.id_payload(9)) == 0


def test_worker_field_of_a_command_must_be_zero(puppet):
    assert puppet.send(shm.PING, worker=1) == -errno.EINVAL


def test_wrong_sequence_numbers_are_echoed_not_believed(puppet):
    for seq in (0, 7, 7, 0xffffffff, 3):  # repeated, jumping, going back: each command gets its own reply
        assert puppet.send(shm.PING, seq=seq) == 0


def test_random_messages(puppet):
    """Noise in every field but the one that could legally take services away."""

    rng = random.Random(8)
    ops = [op for op in range(shm.OP_N + 3) if op not in (shm.SYNC_BEGIN, shm.SYNC_END, shm.SERVICE_DEL,
                                                          shm.BACKEND_DEL, shm.ROUTE_DEL, shm.NEXTHOP_DEL)]
    for _ in range(300):
        puppet.send(rng.choice(ops), rng.randbytes(56), seq=rng.getrandbits(32))
    check_traffic(puppet.lab)


@pytest.mark.parametrize("side,value", [("tail", 0), ("tail", 0x7fffffff), ("tail", 0xffffffff),
                                        ("head", 0), ("head", 0x80000000), ("head", 0xffffffff)])
def test_wrong_ring_index_is_survived(puppet, side, value):
    for ring in ("command", "reply"):
        puppet.command(f"index {ring} {side} {value}")
        # A message may be lost while both sides heal; then the rings work again.
        wait_for(lambda: "status" in puppet.command("send " + shm.message(shm.PING, seq=5).hex()),
                 f"an answer after {ring}.{side} = {value}")
        check_traffic(puppet.lab)


def test_scribbled_tables_change_nothing_until_published(puppet):
    puppet.command("scribble tables 99")
    check_traffic(puppet.lab)
    assert puppet.send(shm.TABLE_PUBLISH, shm.table(n_slots=251, checksum=4711)) == -errno.EBADMSG
    check_traffic(puppet.lab)
