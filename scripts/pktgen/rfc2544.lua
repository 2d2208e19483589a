-- SPDX-License-Identifier: BSD-3-Clause
-- RFC 2544 in outline: for each frame size the highest rate at which nothing is lost (section 26.1, by bisection), then the
-- round trip at that rate and at half of it (section 26.2). One port sends flows to the VIP, and what the balancer
-- forwards comes back on the receiving port (its gateway's MAC is that port's; in a loop both are port 0).
--
-- Settings by environment: VIP, DPORT, DST_MAC (the balancer's port), SEND and RECV (pktgen's ports), SIZES, SECONDS (of a
-- trial; the RFC wants 60), STEPS (of the bisection), LOSS (tolerated, in packets per million), OUT (file of results).
-- Where pktgen does not reach the rate that it is asked for, the result says so: then it is pktgen that was measured.
local function setting(name, default) return os.getenv(name) or default end
local vip, dport = setting("VIP", "203.0.113.10"), tonumber(setting("DPORT", "53"))
local dst_mac = setting("DST_MAC", "02:00:00:00:00:02")
local send, recv = setting("SEND", "0"), setting("RECV", "0")
local sizes = setting("SIZES", "64 128 256 512 1024 1280 1518")
local seconds, steps = tonumber(setting("SECONDS", "60")), tonumber(setting("STEPS", "8"))
local loss_ppm = tonumber(setting("LOSS", "0"))
local out = assert(io.open(setting("OUT", "rfc2544.txt"), "w"))

local function say(...)
	local text = string.format(...)
	print(text)
	out:write(text, "\n")
	out:flush()
end

-- 24 576 flows: see flows-udp.pkt.
local function set_up(size)
	local function range(what, start, min, max, inc)
		pktgen.range[what](send, "start", start)
		pktgen.range[what](send, "min", min)
		pktgen.range[what](send, "max", max)
		pktgen.range[what](send, "inc", inc)
	end
	pktgen.stop("all")
	-- packets that measure latency are made like single ones
	pktgen.set_mac(send, "dst", dst_mac)
	pktgen.set_type(send, "ipv4")
	pktgen.set_proto(send, "udp")
	pktgen.set_ipaddr(send, "src", "198.18.0.1/32")
	pktgen.set_ipaddr(send, "dst", vip)
	pktgen.set(send, "sport", 1024)
	pktgen.set(send, "dport", dport)
	pktgen.range.dst_mac(send, "start", dst_mac)
	pktgen.range.ip_proto(send, "udp")
	range("src_ip", "198.18.0.1", "198.18.0.1", "198.18.0.250", "0.0.0.1")
	range("dst_ip", vip, vip, vip, "0.0.0.0")
	range("src_port", 1024, 1024, 65535, 1)
	range("dst_port", dport, dport, dport, 0)
	range("pkt_size", size, size, size, 0)
	pktgen.set(send, "size", size)
	pktgen.set(send, "count", 0)
	pktgen.set_range(send, "on")
	pktgen.delay(500)
end

-- Totals of both ports: sent, received.
local function totals()
	local tx = pktgen.portStats(send, "port")[tonumber(send)]
	local rx = pktgen.portStats(recv, "port")[tonumber(recv)]
	return tx.opackets, rx.ipackets
end

-- Packets per second at 100 %: with preamble and gap each takes 20 bytes more than its frame. nil: the speed is not known.
local function line_pps(size)
	local mbps = tonumber(string.match(tostring(pktgen.linkState(send)[tonumber(send)]), "(%d+)"))
	return mbps and mbps > 0 and mbps * 1e6 / ((size + 20) * 8) or nil
end

-- @return whether no more was lost than is tolerated, Mpps that came back, whether pktgen sent as fast as it should
local function trial(rate, size)
	pktgen.set(send, "rate", rate)
	pktgen.delay(100)
	pktgen.clear("all")
	pktgen.delay(1200) -- statistics are taken once a second
	local tx0, rx0 = totals()
	local start = os.time()
	pktgen.start(send)
	pktgen.delay(math.floor(seconds * 1000))
	pktgen.stop(send)
	-- whole seconds: only to notice that a busy machine took its time
	local took = os.time() - start > seconds + 1 and os.time() - start or seconds
	pktgen.delay(2200) -- section 23: what is on its way
	local tx1, rx1 = totals()
	local tx, rx = tx1 - tx0, rx1 - rx0
	local lost = math.max(tx - rx, 0)
	local wanted = line_pps(size)
	-- starting and stopping is not exact: 5 %
	local full = not wanted or tx / took >= 0.95 * wanted * rate / 100
	say("  rate %7.3f %%: sent %d, back %d, lost %d, %.3f Mpps%s", rate, tx, rx, lost, rx / took / 1e6,
		full and "" or string.format(" (pktgen sent %.1f %%)", 100 * tx / took / wanted))
	return tx > 0 and lost * 1e6 <= loss_ppm * tx, rx / took / 1e6, full
end

local function latency(rate)
	pktgen.set(send, "rate", rate)
	pktgen.latency(send, "enable")
	pktgen.delay(100)
	pktgen.clr()
	pktgen.start(send)
	pktgen.delay(math.floor(seconds * 1000))
	local stats = pktgen.pktStats(recv)[tonumber(recv)]
	pktgen.stop(send)
	pktgen.latency(send, "disable")
	local l = stats and stats.latency
	if l then
		-- the average is made by its screen only
		say("  round trip at %.3f %%: min %.1f, max %.1f us", rate, l.min_us, l.max_us)
	end
end

for size in sizes:gmatch("%d+") do
	say("frame size %s", size)
	set_up(tonumber(size))
	local low, high, rate, best, reached = 0, 100, 100, 0, true
	for _ = 1, steps do
		local good, mpps, full = trial(rate, tonumber(size))
		if good then
			low, best, reached = rate, mpps, full
			if rate == 100 then break end
		else
			high = rate
		end
		rate = (low + high) / 2
	end
	if reached then
		say("  throughput: %.3f %% of the line, %.3f Mpps", low, best)
	else
		say("  throughput: at least %.3f Mpps: pktgen sends no more", best)
	end
	if low > 0 then
		latency(low)
		latency(low / 2)
	end
end
say("done")
out:close()
pktgen.quit()
