/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mode fullnat: how the backend learns of the client's address.
 *
 * toa: a TCP option of kind 254, | 254 | length | port | address |, 8 bytes for an IPv4 client and 20 for an IPv6 one,
 * as the TOA kernel modules read it. In the SYN and in every segment of the client until the first segment of the
 * backend that is no SYN-ACK: by then it has accepted one that had it. Left out, and counted, where the 40 bytes of
 * options or the MTU have no room.
 *
 * proxy_v2: a PROXY header (version 2, 28 or 52 bytes) as the first bytes of the stream. The segment with which the
 * stream begins (sequence number ISN + 1) gets it in front of its data; also the bare ACK that ends the handshake, so
 * that a server which speaks first has it too; and again each time that such a segment comes, until the backend has
 * acknowledged the header as a whole. All later ones are shifted by its length, acknowledgements and SACK blocks the
 * other way. Until the header is acknowledged as a whole the client is told ISN + 1.
 *
 * In both cases the backend's MSS is lowered on its way to the client by what is added, so that segments still fit.
 */
#include "dataplane/clientaddr.h"

#include <netinet/in.h>

#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

#include "dataplane/checksum.h"
#include "dataplane/headroom.h"
#include "dataplane/tcpopt.h"
#include "lb/decide.h"

#define TCP_HEADER_MAX 60u

#define ADDED_MAX 52u // the longest that is put into a packet: a PROXY header of IPv6

static inline unsigned proxy_bytes(const struct lb_session *session)
{
	return lb_addr_is_ipv4(&session->client) ? 28 : 52;
}

static inline unsigned toa_bytes(const struct lb_session *session)
{
	return lb_addr_is_ipv4(&session->client) ? 8 : 20;
}

static inline struct rte_tcp_hdr *tcp_of(const struct lb_burst *burst, unsigned i)
{
	return (void *)lb_packet_at(burst, i, burst->packets[i].l4);
}

// Write a number of 32 bits, at an even place of the header.
static inline void put_u32(struct rte_tcp_hdr *tcp, size_t offset, uint32_t value)
{
	rte_be32_t value_be = rte_cpu_to_be_32(value);
	uint8_t *at = (uint8_t *)tcp + offset;

	tcp->cksum = lb_checksum_change(tcp->cksum, lb_sum_change(lb_sum_words(at, 2), lb_sum_words(&value_be, 2)));
	memcpy(at, &value_be, 4);
}

static bool remove_toa(struct rte_tcp_hdr *tcp)
{
	uint8_t *at = (uint8_t *)(tcp + 1), *end = (uint8_t *)tcp + lb_tcp_header_bytes(tcp);
	uint16_t before = lb_tcpopt_sum(tcp);
	struct lb_tcpopt option;
	bool found = false;

	while (lb_tcpopt_next(&at, end, &option)) {
		if (option.kind != LB_TCPOPT_TOA)
			continue;
		memset(option.at, 1, option.n_bytes);
		found = true;
	}
	if (unlikely(found))
		lb_tcpopt_changed(tcp, before);
	return found;
}

static void lower_mss(struct rte_tcp_hdr *tcp, unsigned n_bytes)
{
	uint8_t *at = (uint8_t *)(tcp + 1), *end = (uint8_t *)tcp + lb_tcp_header_bytes(tcp);
	uint16_t before = lb_tcpopt_sum(tcp);
	struct lb_tcpopt option;

	while (lb_tcpopt_next(&at, end, &option)) {
		unsigned mss = option.n_bytes == 4 ? option.at[2] * 256u + option.at[3] : 0;

		if (option.kind != LB_TCPOPT_MSS || mss < LB_MSS_MIN + n_bytes)
			continue;
		option.at[2] = (uint8_t)((mss - n_bytes) >> 8);
		option.at[3] = (uint8_t)(mss - n_bytes);
	}
	lb_tcpopt_changed(tcp, before);
}

// RFC 2018: edges of blocks, in the backend's numbers.
static void shift_sack(struct rte_tcp_hdr *tcp, uint32_t back_by)
{
	uint8_t *at = (uint8_t *)(tcp + 1), *end = (uint8_t *)tcp + lb_tcp_header_bytes(tcp);
	uint16_t before = lb_tcpopt_sum(tcp);
	struct lb_tcpopt option;

	while (lb_tcpopt_next(&at, end, &option))
		for (unsigned k = 2; option.kind == LB_TCPOPT_SACK && k + 4 <= option.n_bytes; k += 4) {
			uint32_t edge;

			memcpy(&edge, option.at + k, 4);
			edge = rte_cpu_to_be_32(rte_be_to_cpu_32(edge) - back_by);
			memcpy(option.at + k, &edge, 4);
		}
	lb_tcpopt_changed(tcp, before);
}

// The IP header's and UDP's lengths, and the checksums that have them. @p change in bytes.
static void change_length(struct lb_burst *burst, unsigned i, int change)
{
	struct lb_packet *packet = &burst->packets[i];
	uint8_t *l3 = lb_packet_at(burst, i, packet->l3), *l4 = lb_packet_at(burst, i, packet->l4);
	uint8_t proto = burst->keys[i].proto;
	rte_be16_t *length = (void *)(l3 + (packet->family == 4 ? 2 : 4));
	rte_be16_t from = *length, to = rte_cpu_to_be_16((uint16_t)(rte_be_to_cpu_16(from) + change));
	// Whatever the length of the header, that of TCP or UDP changes by as much.
	uint16_t sum = lb_sum_change(from, to);

	*length = to;
	if (packet->family == 4) {
		struct rte_ipv4_hdr *ip = (void *)l3;

		ip->hdr_checksum = lb_checksum_change(ip->hdr_checksum, sum);
	}
	if (proto == IPPROTO_UDP) {
		struct rte_udp_hdr *udp = (void *)l4;

		udp->dgram_len = rte_cpu_to_be_16((uint16_t)(rte_be_to_cpu_16(udp->dgram_len) + change));
		sum = lb_sum_add(sum, sum); // in the pseudo header and in its own
	}
	lb_checksum_change_l4(l4, proto, sum);
	packet->wire_bytes = burst->mbufs[i]->pkt_len;
}

static uint32_t ip_bytes(const struct lb_burst *burst, unsigned i)
{
	const uint8_t *l3 = lb_packet_at(burst, i, burst->packets[i].l3);

	return burst->packets[i].family == 4 ? l3[2] * 256u + l3[3] : l3[4] * 256u + l3[5] + 40u;
}

/*
 * Put n_bytes into the packet, at_l4 bytes behind the beginning of its L4 header; both even. What is in front of that
 * moves; lengths and checksums follow.
 */
static uint8_t insert(struct lb_burst *burst, unsigned i, unsigned at_l4, const uint8_t *bytes,
	unsigned n_bytes, uint16_t mtu)
{
	struct rte_mbuf *mbuf = burst->mbufs[i];
	unsigned at = burst->packets[i].l4 + at_l4;
	uint16_t sum = lb_sum_words(bytes, n_bytes / 2);
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	if (unlikely(burst->packets[i].pending == LB_VERDICT_FRAGMENT))
		return LB_VERDICT_FRAGMENT; // the others' places would be others
	if (unlikely(ip_bytes(burst, i) + n_bytes > mtu)) {
		burst->mtus[i] = (uint16_t)(mtu - n_bytes);
		return LB_VERDICT_TOO_BIG;
	}
	if (unlikely(!lb_headroom_is_ours(mbuf, n_bytes)))
		return LB_VERDICT_NO_HEADROOM;
	memmove(frame - n_bytes, frame, at);
	memcpy(frame - n_bytes + at, bytes, n_bytes);
	rte_pktmbuf_prepend(mbuf, (uint16_t)n_bytes);
	lb_checksum_change_l4(lb_packet_at(burst, i, burst->packets[i].l4), burst->keys[i].proto, sum);
	change_length(burst, i, (int)n_bytes);
	return LB_VERDICT_FORWARD;
}

static void add_toa(struct lb_worker *worker, struct lb_burst *burst, unsigned i, const struct lb_session *session,
	uint16_t mtu)
{
	struct rte_tcp_hdr *tcp = tcp_of(burst, i);
	unsigned n_bytes = toa_bytes(session);
	uint8_t option[20] = {LB_TCPOPT_TOA, (uint8_t)n_bytes};
	uint16_t before;

	memcpy(option + 2, &session->client_port_be, 2);
	memcpy(option + 4, session->client.bytes + 16 - (n_bytes - 4), n_bytes - 4);
	if (lb_tcp_header_bytes(tcp) + n_bytes > TCP_HEADER_MAX ||
		insert(burst, i, sizeof(*tcp), option, n_bytes, mtu) != LB_VERDICT_FORWARD) {
		worker->counters->sessions.toa_no_room++;
		return;
	}
	tcp = tcp_of(burst, i);
	before = lb_sum_words(&tcp->data_off, 1);
	tcp->data_off = (uint8_t)(tcp->data_off + (n_bytes / 4 << 4));
	tcp->cksum = lb_checksum_change(tcp->cksum, lb_sum_change(before, lb_sum_words(&tcp->data_off, 1)));
	worker->counters->sessions.toa_added++;
}

// The PROXY protocol, version 2: signature, command PROXY, addresses as the client sees them.
static unsigned make_proxy_header(const struct lb_dp *dp, const struct lb_session *session, uint8_t *header)
{
	static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";
	const struct lb_backend *backend = &dp->backends[session->backend];
	bool is_ipv4 = lb_addr_is_ipv4(&session->client);
	unsigned n_addr = is_ipv4 ? 4 : 16;

	memcpy(header, signature, sizeof(signature));
	header[12] = 0x21;
	header[13] = (uint8_t)((is_ipv4 ? 0x10 : 0x20) | (backend->proto == IPPROTO_TCP ? 1 : 2));
	header[14] = 0;
	header[15] = (uint8_t)(2 * n_addr + 4);
	memcpy(header + 16, session->client.bytes + 16 - n_addr, n_addr);
	memcpy(header + 16 + n_addr, backend->vip.bytes + 16 - n_addr, n_addr);
	memcpy(header + 16 + 2 * n_addr, &session->client_port_be, 2);
	memcpy(header + 18 + 2 * n_addr, &session->vip_port_be, 2);
	return 20 + 2 * n_addr;
}

static uint8_t insert_proxy_header(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	struct lb_session *session, unsigned at_l4, uint16_t mtu)
{
	uint8_t header[ADDED_MAX];
	unsigned n_bytes = make_proxy_header(worker->dp, session, header);
	uint8_t verdict = insert(burst, i, at_l4, header, n_bytes, mtu);

	if (unlikely(verdict != LB_VERDICT_FORWARD))
		return verdict;
	session->flags |= LB_SESSION_TOLD;
	worker->counters->sessions.proxy_headers++;
	return LB_VERDICT_FORWARD;
}

/*
 * Data in a SYN (TCP Fast Open) would come before the header: cut off. Nobody has to accept them, and what is not
 * acknowledged is sent again.
 */
static void cut_data(struct lb_burst *burst, unsigned i)
{
	struct lb_packet *packet = &burst->packets[i];
	struct rte_mbuf *mbuf = burst->mbufs[i];
	struct rte_tcp_hdr *tcp = tcp_of(burst, i);
	unsigned at = packet->l4 + lb_tcp_header_bytes(tcp);
	unsigned n_bytes = packet->l3 + ip_bytes(burst, i) - at;

	if (likely(n_bytes == 0))
		return;
	tcp->cksum = lb_checksum_change(tcp->cksum, lb_sum_change(lb_sum_mbuf(mbuf, at, n_bytes), 0));
	if (mbuf->nb_segs == 1)
		rte_pktmbuf_trim(mbuf, (uint16_t)(mbuf->pkt_len - at));
	change_length(burst, i, -(int)n_bytes);
}

static uint8_t proxy_out(struct lb_worker *worker, struct lb_burst *burst, unsigned i, struct lb_session *session,
	uint16_t mtu)
{
	struct rte_tcp_hdr *tcp = tcp_of(burst, i);
	uint32_t seq = rte_be_to_cpu_32(tcp->sent_seq), n_bytes = proxy_bytes(session);

	if (unlikely(tcp->tcp_flags & LB_TCP_SYN)) {
		if (session->state == LB_FLOW_SYN) { // else a late or spoofed one
			session->isn = seq;
			session->flags &= (uint8_t)~(LB_SESSION_TOLD | LB_SESSION_HEARD);
		}
		if (unlikely(burst->packets[i].pending == LB_VERDICT_FRAGMENT))
			return LB_VERDICT_FRAGMENT;
		cut_data(burst, i);
		return LB_VERDICT_FORWARD;
	}
	if (unlikely((tcp->tcp_flags & LB_TCP_RST) && (session->flags & LB_SESSION_TOLD) == 0))
		return LB_VERDICT_FORWARD; // the backend expects what the client does
	if (unlikely((session->flags & LB_SESSION_HEARD) == 0 && seq == session->isn + 1 &&
		    (tcp->tcp_flags & LB_TCP_RST) == 0))
		return insert_proxy_header(worker, burst, i, session, lb_tcp_header_bytes(tcp), mtu);
	put_u32(tcp, offsetof(struct rte_tcp_hdr, sent_seq), seq + n_bytes);
	return LB_VERDICT_FORWARD;
}

static void proxy_back(struct rte_tcp_hdr *tcp, struct lb_session *session)
{
	uint32_t ack = rte_be_to_cpu_32(tcp->recv_ack), n_bytes = proxy_bytes(session);
	uint32_t begin = session->isn + 1;

	if ((tcp->tcp_flags & LB_TCP_ACK) == 0)
		return;
	if (unlikely((session->flags & LB_SESSION_HEARD) == 0)) {
		if (ack - begin < n_bytes) {
			put_u32(tcp, offsetof(struct rte_tcp_hdr, recv_ack), begin);
			return;
		}
		if (ack - begin > INT32_MAX)
			return; // of something else, before this connection
		session->flags |= LB_SESSION_HEARD;
	}
	put_u32(tcp, offsetof(struct rte_tcp_hdr, recv_ack), ack - n_bytes);
}

uint8_t lb_client_address_out(struct lb_worker *worker, struct lb_burst *burst, unsigned i,
	struct lb_session *session, uint16_t mtu)
{
	struct rte_tcp_hdr *tcp = tcp_of(burst, i);

	if (burst->keys[i].proto == IPPROTO_UDP) {
		if ((session->flags & (LB_SESSION_PROXY | LB_SESSION_TOLD)) != LB_SESSION_PROXY)
			return LB_VERDICT_FORWARD;
		return insert_proxy_header(worker, burst, i, session, sizeof(struct rte_udp_hdr), mtu);
	}
	if (lb_tcp_header_bytes(tcp) > sizeof(*tcp)) {
		if (unlikely(!lb_tcp_header_is_readable(burst, i)))
			return LB_VERDICT_TRUNCATED_L4;
		worker->counters->sessions.toa_removed += remove_toa(tcp);
	}
	if (session->flags & LB_SESSION_PROXY)
		return proxy_out(worker, burst, i, session, mtu);
	if ((session->flags & (LB_SESSION_TOA | LB_SESSION_TOLD)) == LB_SESSION_TOA)
		add_toa(worker, burst, i, session, mtu);
	return LB_VERDICT_FORWARD;
}

uint8_t lb_client_address_back(struct lb_burst *burst, unsigned i, struct lb_session *session)
{
	struct rte_tcp_hdr *tcp = tcp_of(burst, i);
	bool is_proxy = session->flags & LB_SESSION_PROXY;

	if (burst->keys[i].proto == IPPROTO_UDP)
		return LB_VERDICT_FORWARD;
	if (unlikely(!lb_tcp_header_is_readable(burst, i)))
		return LB_VERDICT_TRUNCATED_L4;
	if (unlikely(tcp->tcp_flags & LB_TCP_SYN))
		lower_mss(tcp, is_proxy ? proxy_bytes(session) : toa_bytes(session));
	else if (!is_proxy)
		session->flags |= LB_SESSION_TOLD;
	if (is_proxy) {
		if (lb_tcp_header_bytes(tcp) > sizeof(*tcp))
			shift_sack(tcp, proxy_bytes(session));
		proxy_back(tcp, session);
	}
	return LB_VERDICT_FORWARD;
}

uint16_t lb_client_address_added(
	const struct lb_dp *dp, const struct lb_session *session, uint32_t seq, int32_t *seq_change)
{
	uint16_t n_bytes = (uint16_t)proxy_bytes(session);
	uint32_t begin = session->isn + 1;

	*seq_change = 0;
	if (session->flags & LB_SESSION_TOA)
		return session->flags & LB_SESSION_TOLD ? 0 : (uint16_t)toa_bytes(session);
	if ((session->flags & LB_SESSION_PROXY) == 0)
		return 0;
	if (dp->backends[session->backend].proto == IPPROTO_UDP)
		return n_bytes; // of the first datagram; which one it was cannot be seen
	// Behind the header they are shifted; the first one, which begins where the header does, is not, but has it.
	if (seq - begin >= n_bytes && seq - begin <= INT32_MAX)
		*seq_change = -(int32_t)n_bytes;
	return seq == begin ? n_bytes : 0;
}

int32_t lb_client_address_ack_shift(const struct lb_session *session)
{
	uint8_t both = LB_SESSION_PROXY | LB_SESSION_HEARD;

	return (session->flags & both) == both ? (int32_t)proxy_bytes(session) : 0;
}
